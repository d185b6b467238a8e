"""Activation cache of a trainer: one in each training, and one in a separate evaluation if it is asked for."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import TrainerState
from transformers.trainer_utils import IntervalStrategy

from ..freezing.activation_cache.cache import ActivationCache, CacheHooks, NoCache
from ..freezing.activation_cache.cache_plan import ALWAYS, NEVER
from ..freezing.callback import count_steps_per_epoch
from ..models import MultiTaskModel
from ..models.layer_groups import LayerGroups, layer_of
from .arguments import MultiTaskTrainingArguments

Stages = Sequence[tuple[Sequence[str], float]]


@dataclass(frozen=True)
class CachedParts:
    """What states are computed with and for. A search makes them again for each trial.

    Args:
        accelerator: Accelerator of the trainer.
        model: The model, not wrapped.
        groups: Layer groups of the model, not divided.
        collator: Collator of the trainer.
        train_dataset: Training rows.
    """

    accelerator: Accelerator
    model: MultiTaskModel
    groups: LayerGroups
    collator: Callable[..., Any]
    train_dataset: object


@dataclass(frozen=True)
class CachingHooks:
    """What `Caching` asks of its trainer, so that it does not hold the trainer itself.

    Args:
        parts: Return the parts of the trainer.
        state: Return the state of the training.
        scheduled_stages: Return the groups that train and the number of epochs, stage by stage from now on; None if
            the training follows no schedule.
        train_dataloader: Return the dataloader of the training; None outside of a training.
        autocast: Return the context in which the trainer runs the model.
    """

    parts: Callable[[], CachedParts]
    state: Callable[[], TrainerState]
    scheduled_stages: Callable[[], Stages | None]
    train_dataloader: Callable[[], DataLoader | None]
    autocast: Callable[[], AbstractContextManager]


class Caching:
    """Keeps the cache of the states of frozen layers that a trainer reads now.

    Args:
        args: Arguments of the trainer.
        hooks: Callables of the trainer.
    """

    def __init__(self, args: MultiTaskTrainingArguments, hooks: CachingHooks) -> None:
        self.args = args
        self.hooks = hooks
        self.cache: ActivationCache | NoCache = NoCache()

    @property
    def caches_layers(self) -> bool:
        """Whether the states that enter a layer of the encoder can be cached now."""
        return self.cache.caches_layers

    def begin_training(self) -> None:
        """Cache the states of the training rows, and of rows that are evaluated, until the training ends."""
        if self.args.store_frozen != NEVER:
            parts, hooks = self.hooks.parts(), self.hooks
            lent = CacheHooks(
                self._remaining_stages, self._evaluations_per_epoch, hooks.train_dataloader, hooks.autocast
            )
            self.cache = self._build(parts, lent, parts.train_dataset)

    def end_training(self) -> None:
        """Cache nothing any more."""
        self.cache = NoCache()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Cache the states of evaluated rows in this context, outside of a training only if always asked for."""
        if not isinstance(self.cache, NoCache) or self.args.store_frozen != ALWAYS:
            yield
            return
        lent = CacheHooks(lambda: [((), 1.0)], lambda: 1.0, self.hooks.train_dataloader, self.hooks.autocast)
        self.cache = self._build(self.hooks.parts(), lent, None)
        try:
            yield
        finally:
            self.cache = NoCache()

    def _build(self, parts: CachedParts, lent: CacheHooks, train_dataset: object) -> ActivationCache:
        return ActivationCache(
            self.args.cache_settings,
            self.args,
            parts.accelerator,
            parts.model,
            parts.groups,
            parts.collator,
            lent,
            train_dataset,
        )

    def _remaining_stages(self) -> Stages:
        """Return the layers that train and the number of epochs, stage by stage from now on."""
        scheduled = self.hooks.scheduled_stages()
        if scheduled is not None:
            return [([layer_of(name) for name in trained], epochs) for trained, epochs in scheduled]
        state = self.hooks.state()
        trained = [group.layer for group in self.hooks.parts().groups if group.trainable]
        return [(trained, (state.max_steps - state.global_step) / self._steps_per_epoch())]

    def _evaluations_per_epoch(self) -> float:
        if self.args.eval_strategy == IntervalStrategy.STEPS:
            return self._steps_per_epoch() / self.hooks.state().eval_steps
        return 1.0

    def _steps_per_epoch(self) -> int:
        return count_steps_per_epoch(self.args, self.hooks.state(), self.hooks.train_dataloader())
