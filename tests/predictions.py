"""Predictions of a model for the rows of a test."""

from hf_multitask import MultiTaskPipeline


def predict(model, tokenizer, rows, **options):
    """Return the predictions of all tasks for each row, with one label per word.

    Args:
        model: The model; it stays on its device.
        tokenizer: Its tokenizer.
        rows: Texts, or rows with ``text`` or ``tokens``.
        options: Options of a `MultiTaskPipeline`, such as ``batch_size``.
    """
    return MultiTaskPipeline(model=model, tokenizer=tokenizer, device=model.device)(rows, word_labels=True, **options)
