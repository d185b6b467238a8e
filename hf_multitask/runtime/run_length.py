"""Length of a run in optimizer steps, as ``Trainer`` counts it."""

import math

from transformers import TrainingArguments


def optimizer_steps(args: TrainingArguments, num_batches: int) -> int:
    """Return the number of optimizer steps that batches make, at least 1.

    Args:
        args: The run's arguments.
        num_batches: Number of batches on each process.
    """
    return max(-(-num_batches // args.gradient_accumulation_steps), 1)


def total_steps(args: TrainingArguments, steps_per_epoch: int, shortening: int = 1) -> int:
    """Return the number of optimizer steps of a run: ``max_steps`` if it is set, else ``num_train_epochs`` epochs.

    Args:
        args: The run's arguments.
        steps_per_epoch: Optimizer steps per epoch.
        shortening: Counts a run of one of so many steps or epochs.
    """
    if args.max_steps > 0:
        return math.ceil(args.max_steps / shortening)
    return math.ceil(args.num_train_epochs / shortening * steps_per_epoch)
