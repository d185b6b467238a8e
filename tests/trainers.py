"""Trainers for tests."""

import torch

from hf_multitask import MultiTaskTrainer, MultiTaskTrainingArguments

DEFAULTS = {
    "per_device_train_batch_size": 4,
    "warmup_steps": 0,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}


def make_trainer(model, data, tokenizer, folder, schedule=None, given=None, trainer=MultiTaskTrainer, **arguments):
    """Build a trainer; ``given`` are further arguments of the trainer, ``arguments`` its training arguments."""
    return trainer(
        model=model,
        args=MultiTaskTrainingArguments(output_dir=str(folder), **{**DEFAULTS, **arguments}),
        freeze_schedule=schedule,
        train_dataset=data["train"],
        eval_dataset=data.get("validation"),
        processing_class=tokenizer,
        **(given or {}),
    )


def without_dropout(model):
    """Return the model with a dropout rate of 0 everywhere."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model
