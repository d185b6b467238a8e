"""Check that an exported graph computes the same logits as its model."""

from collections.abc import Mapping, Sequence

import torch
from transformers import PreTrainedTokenizerBase

from ..data import MultiTaskDataCollator
from ..models import MultiTaskModel
from ..models.collator import columns_to_rows
from ..models.heads_scope import SCOPE_END
from ..models.predictor import LogitsFunction
from ..models.text_alignment import NO_POSITION, Aligner

# Absolute and relative tolerance between the logits of a graph and of its model.
TOLERANCE = 1e-4
# Numbers of words of the texts in each batch: one text, several texts, and texts long enough for several windows.
BATCH_WORDS = ((1,), (2, 70, 9, 1, 33), (150, 5, 90))
# Long enough that layers with local attention do not see the whole text.
MAX_LENGTH = 200
# Short enough that the texts of the last batch have several windows.
WINDOW_LENGTH = 40


def build_check_batches(model: MultiTaskModel, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, torch.Tensor]]:
    """Build batches of random words from the tokenizer's vocabulary. The texts of the last one have several windows.

    Args:
        model: The model.
        tokenizer: Its tokenizer.

    Returns:
        The batches, as the collator builds them.
    """
    generator = torch.Generator().manual_seed(0)
    vocabulary = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    collate = MultiTaskDataCollator(tokenizer, model.config.tasks)
    batches = []
    for lengths in BATCH_WORDS:
        max_length = WINDOW_LENGTH if lengths is BATCH_WORDS[-1] else MAX_LENGTH
        align = Aligner(tokenizer, model.config.tasks, min(max_length, tokenizer.model_max_length))
        token_ids = [torch.randint(len(vocabulary), (length,), generator=generator).tolist() for length in lengths]
        texts = [[tokenizer.decode([vocabulary[i]]) for i in text] for text in token_ids]
        batches.append(collate(columns_to_rows(align({"words": texts}))))
    return batches


@torch.inference_mode()
def check_logits(
    model: MultiTaskModel,
    compute_logits: LogitsFunction,
    batches: Sequence[Mapping[str, torch.Tensor]],
    tolerance: float = float("inf"),
) -> float:
    """Compare the logits of a graph with those of its model.

    Args:
        model: The model.
        compute_logits: Function that runs the graph.
        batches: Batches to compare on.
        tolerance: Largest allowed absolute difference, and the largest relative one in addition to it.

    Returns:
        The largest absolute difference.

    Raises:
        ValueError: If a difference exceeds the tolerance.
    """
    largest, tasks = 0.0, model.config.tasks
    for batch in batches:
        all_expected, all_actual = (
            model(**batch, return_dict=True).logits,
            compute_logits(batch, [task.name for task in tasks]),
        )
        by_name = {task.name: task for task in tasks}
        for name, expected in all_expected.items():
            task, actual = by_name[name.removesuffix(SCOPE_END)], all_actual[name]
            if task.is_token_task:
                is_word = batch["tag_positions"] != NO_POSITION
                expected, actual = expected[is_word], actual[is_word]
            difference = (expected - actual).abs()
            if not (difference <= tolerance * (1 + expected.abs())).all():
                raise ValueError(
                    f"task {task.name!r}: the exported graph's logits differ from the model's by up to "
                    f"{difference.max():.2g}, allowed is {tolerance:g}."
                )
            largest = max(largest, difference.max().item())
    return largest
