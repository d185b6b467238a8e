"""Trainer of the tests of freezing."""

from hf_multitask import MultiTaskTrainer, MultiTaskTrainingArguments


def make_trainer(model, data, tokenizer, folder, schedule, given=None, **arguments):
    """Build a trainer; ``given`` goes to the trainer, ``arguments`` to its training arguments."""
    defaults = {
        "per_device_train_batch_size": 4,
        "warmup_steps": 0,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    return MultiTaskTrainer(
        model=model,
        args=MultiTaskTrainingArguments(output_dir=str(folder), **{**defaults, **arguments}),
        freeze_schedule=schedule,
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        processing_class=tokenizer,
        **(given or {}),
    )
