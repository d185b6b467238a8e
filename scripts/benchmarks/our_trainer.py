"""Runs of `MultiTaskTrainer`, timed."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import set_seed

from hf_multitask import MultiTaskModel, MultiTaskTrainer, MultiTaskTrainingArguments
from hf_multitask.freezing import FreezeSchedule, FreezeSpec, FreezeStage

from .timing import time_training
from .workload import SEED, Workload


def build_trainer(
    work: Workload, output_dir: str, epochs: float, freeze_schedule: FreezeSpec | None = None, **options: Any
) -> MultiTaskTrainer:
    """Build a trainer on new heads.

    Args:
        work: What to train on.
        output_dir: A folder for what the trainer writes.
        epochs: Epochs.
        freeze_schedule: What trains when.
        options: Further training arguments.

    Returns:
        The trainer.
    """
    set_seed(SEED)
    return MultiTaskTrainer(
        MultiTaskModel.from_encoder(work.encoder, work.data.tasks),
        MultiTaskTrainingArguments(**work.training_arguments(output_dir, epochs), **options),
        freeze_schedule=freeze_schedule,
        train_dataset=work.data["train"],
        processing_class=work.tokenizer,
    )


def gradual_schedule(layers: int, epochs: int) -> FreezeSchedule:
    """Train the heads in the first epoch and one more layer, from the top down, in each one after it.

    The preset ``gradual`` would go on to the embeddings, for which a run this short has no epoch.

    Args:
        layers: Layers of the encoder.
        epochs: Epochs of the run.
    """
    upper = range(1, min(layers, epochs - 1) + 1)
    stages = [FreezeStage("heads", train="heads", epochs=1)]
    stages += [FreezeStage(f"top {count}", train=["heads", f"encoder[-{count}:]"], epochs=1) for count in upper]
    return FreezeSchedule([*stages[:-1], replace(stages[-1], epochs=None)])


def time_joint_training(work: Workload, epochs: float, **options: Any) -> float:
    """Return the seconds of training everything."""
    with tempfile.TemporaryDirectory() as folder:
        return time_training(build_trainer(work, folder, epochs, **options))


def time_staged_training(
    work: Workload, epochs: float, freeze_schedule: FreezeSpec, store_dir: Path | None = None, **options: Any
) -> float:
    """Return the seconds of training with frozen layers.

    Args:
        work: What to train on.
        epochs: Epochs.
        freeze_schedule: What trains when.
        store_dir: Where the states of frozen layers are kept; a new folder where None, so that the time of computing
            them is in the result.
        options: Further training arguments.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "store") if store_dir is None else store_dir
        return time_training(build_trainer(work, folder, epochs, freeze_schedule, store_dir=str(store), **options))


def logged_losses(work: Workload, epochs: float, freeze_schedule: FreezeSpec, store_frozen: str) -> list[float]:
    """Train with frozen layers and return each task's loss of each step, as it is logged.

    Args:
        work: What to train on.
        epochs: Epochs.
        freeze_schedule: What trains when.
        store_frozen: Whether the states of frozen layers are kept: ``"always"`` or ``"never"``.
    """
    names = [f"{task.name}_loss" for task in work.data.tasks]
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder, "store"))
        trainer = build_trainer(
            work, folder, epochs, freeze_schedule, store_frozen=store_frozen, store_dir=store, logging_steps=1
        )
        time_training(trainer)
    return [logs[name] for logs in trainer.state.log_history if "loss" in logs for name in names]
