"""Activation cache of a `MultiTaskTrainer`: what remains of the training, and how often it evaluates."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from transformers.trainer_utils import IntervalStrategy

from ..freezing.activation_cache.cache import ActivationCache, CacheHooks
from ..freezing.callback import count_steps_per_epoch
from ..models.layer_groups import layer_of

if TYPE_CHECKING:
    from .trainer import MultiTaskTrainer


def build_cache(trainer: "MultiTaskTrainer", in_training: bool) -> ActivationCache:
    """Return the cache of states of frozen layers for the trainer's current model.

    Args:
        trainer: The trainer.
        in_training: Whether a training begins; otherwise rows are only evaluated.
    """
    hooks = CacheHooks(
        remaining_stages=lambda: _remaining_stages(trainer) if in_training else [((), 1.0)],
        evaluations_per_epoch=lambda: _evaluations_per_epoch(trainer) if in_training else 1.0,
        train_dataloader=lambda: trainer.callback_handler.train_dataloader,
        autocast=trainer.compute_loss_context_manager,
    )
    return ActivationCache(
        trainer.args.cache_settings,
        trainer.args,
        trainer.accelerator,
        trainer.model,
        trainer.model.layer_groups(),
        trainer.data_collator,
        hooks,
        trainer.train_dataset if in_training else None,
    )


def _remaining_stages(trainer: "MultiTaskTrainer") -> list[tuple[Sequence[str], float]]:
    """Return the layers that train and the number of epochs, stage by stage from now on."""
    if trainer.freeze_callback.run is not None:
        stages = trainer.freeze_callback.run.remaining_stages()
        return [([layer_of(name) for name in trained], epochs) for trained, epochs in stages]
    trained = [group.layer for group in trainer.layer_groups if group.trainable]
    return [(trained, (trainer.state.max_steps - trainer.state.global_step) / _steps_per_epoch(trainer))]


def _evaluations_per_epoch(trainer: "MultiTaskTrainer") -> float:
    if trainer.args.eval_strategy == IntervalStrategy.STEPS:
        return _steps_per_epoch(trainer) / trainer.state.eval_steps
    return 1.0


def _steps_per_epoch(trainer: "MultiTaskTrainer") -> int:
    return count_steps_per_epoch(trainer.args, trainer.state, trainer.callback_handler.train_dataloader)
