"""Training arguments that are refused, and ranges that transformers does not check before a training begins."""

import dataclasses
import math

from transformers import TrainingArguments

# Smallest value of each argument.
AT_LEAST = {
    "adam_epsilon": 0,
    "conflict_steps": 1,
    "dataloader_num_workers": 0,
    "dataloader_prefetch_factor": 1,
    "eval_accumulation_steps": 1,
    "eval_delay": 0,
    "gradient_accumulation_steps": 1,
    "head_learning_rate": 0,
    "learning_rate": 0,
    "max_grad_norm": 0,
    "max_steps": -1,
    "per_device_eval_batch_size": 1,
    "per_device_train_batch_size": 1,
    "save_total_limit": 0,
    "store_max_bytes": 0,
    "warmup_steps": 0,
    "weight_decay": 0,
}
SEEDS = ("seed", "data_seed")
MAX_SEED = 2**32 - 1  # of numpy
BETAS = ("adam_beta1", "adam_beta2")
# Arguments that would have no effect, or another one than their name says, with the reason.
NOT_SUPPORTED = {
    "label_smoothing_factor": "it has no meaning for several tasks; give a task label_smoothing",
    "batch_eval_metrics": "entity scores need all rows",
    "optim_target_modules": "optimizers that take it make their own parameter groups, without a rate for the heads",
    "use_liger_kernel": "Liger has no kernels for a MultiTaskModel and would leave it as it is",
    "liger_kernel_config": "Liger has no kernels for a MultiTaskModel and would leave it as it is",
    "deepspeed": "no run has shown that it trains what it should; use DDP or FSDP2",
}


def check_supported(arguments: TrainingArguments) -> None:
    """Raise if an argument is set that the trainer does not support.

    Args:
        arguments: The arguments.

    Raises:
        ValueError: If so. The message names the argument, and what to do instead.
    """
    for name, reason in NOT_SUPPORTED.items():
        if getattr(arguments, name):
            raise ValueError(f"{name} is not supported: {reason}.")
    if not arguments.eval_do_concat_batches:
        raise ValueError("eval_do_concat_batches=False is not supported: metrics need the rows of all batches.")


def check_ranges(arguments: TrainingArguments) -> None:
    """Raise if a number among the arguments is out of range.

    Args:
        arguments: The arguments.

    Raises:
        ValueError: If a number is infinite, not a number, or out of range. The message names the argument.
    """
    for item in dataclasses.fields(arguments):
        value = getattr(arguments, item.name, None)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{item.name} must be a finite number, found {value}.")
    for name, least in AT_LEAST.items():
        value = getattr(arguments, name, None)
        if isinstance(value, (int, float)) and value < least:
            raise ValueError(f"{name} must be at least {least}, found {value}.")
    for name in SEEDS:
        value = getattr(arguments, name)
        if value is not None and not 0 <= value <= MAX_SEED:
            raise ValueError(f"{name} must be between 0 and {MAX_SEED}, found {value}.")
    for name in BETAS:
        if not 0 <= (value := getattr(arguments, name)) < 1:
            raise ValueError(f"{name} must be a number in [0, 1), found {value}.")
    if arguments.max_steps <= 0 and arguments.num_train_epochs <= 0:
        raise ValueError(f"num_train_epochs must be above 0, found {arguments.num_train_epochs}.")
