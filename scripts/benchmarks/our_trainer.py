"""Timed runs of `MultiTaskTrainer`."""

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
    """Build a trainer of a model with new heads.

    Args:
        work: Workload.
        output_dir: Output folder of the trainer.
        epochs: Number of epochs.
        freeze_schedule: Freeze schedule.
        options: Additional training arguments.

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
    """Return a schedule that trains the heads in the first epoch and one more layer, from the top, in each next one.

    The preset ``gradual`` would also unfreeze the embeddings, for which a short run has no epoch left.

    Args:
        layers: Number of layers of the encoder.
        epochs: Number of epochs of the run.
    """
    upper = range(1, min(layers, epochs - 1) + 1)
    stages = [FreezeStage("heads", train="heads", epochs=1)]
    stages += [FreezeStage(f"top {count}", train=["heads", f"encoder[-{count}:]"], epochs=1) for count in upper]
    return FreezeSchedule([*stages[:-1], replace(stages[-1], epochs=None)])


def time_joint_training(work: Workload, epochs: float, **options: Any) -> float:
    """Return the seconds of training with nothing frozen."""
    with tempfile.TemporaryDirectory() as folder:
        return time_training(build_trainer(work, folder, epochs, **options))


def time_staged_training(
    work: Workload, epochs: float, freeze_schedule: FreezeSpec, store_dir: Path | None = None, **options: Any
) -> float:
    """Return the seconds of training with frozen layers.

    Args:
        work: Workload.
        epochs: Number of epochs.
        freeze_schedule: Freeze schedule.
        store_dir: Folder of the activation cache. If None, a new folder, so that the result includes the time of
            filling the cache.
        options: Additional training arguments.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "store") if store_dir is None else store_dir
        return time_training(build_trainer(work, folder, epochs, freeze_schedule, store_dir=str(store), **options))


def logged_losses(work: Workload, epochs: float, freeze_schedule: FreezeSpec, store_frozen: str) -> list[float]:
    """Train with frozen layers and return the logged loss of each task at each step.

    Args:
        work: Workload.
        epochs: Number of epochs.
        freeze_schedule: Freeze schedule.
        store_frozen: Whether to cache the states of frozen layers: ``"always"`` or ``"never"``.
    """
    names = [f"{task.name}_loss" for task in work.data.tasks]
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder, "store"))
        trainer = build_trainer(
            work, folder, epochs, freeze_schedule, store_frozen=store_frozen, store_dir=store, logging_steps=1
        )
        time_training(trainer)
    return [logs[name] for logs in trainer.state.log_history if "loss" in logs for name in names]
