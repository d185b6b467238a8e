"""Activation cache of a trainer: the states that enter the lowest trained layer, computed once and read from disk."""

import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import datasets
import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, broadcast_object_list, gather_object
from torch.utils.data import DataLoader
from transformers import TrainingArguments

from ...data import MultiTaskDataCollator
from ...models.encoder_partial_forward import HEADS, lowest_trained
from ...models.layer_groups import NORM, LayerGroups
from ...models.modeling_multitask import MultiTaskModel
from ...models.type_aliases import Batch
from ...runtime.byte_sizes import format_bytes
from ...runtime.precision import has_native_bf16
from .builder import TOKENS_PER_PASS, ActivationBuilder
from .cache_key import layer_digests, store_key
from .cache_plan import CachePlan, FreeSpace, plan_store
from .cached_rows import CachedRows, why_rows_not_cacheable
from .settings import CacheSettings
from .store import ActivationStore, Part, find_parts
from .store_folder import StoreFolder

logger = logging.getLogger(__name__)

# Types of accelerate's mixed precision.
_AUTOCAST_TYPES = {"bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class CacheHooks:
    """What an `ActivationCache` asks of its trainer, so that it does not hold the trainer itself.

    Args:
        remaining_stages: Return the groups that train and the number of epochs, stage by stage from now on.
        evaluations_per_epoch: Return the number of evaluations per epoch.
        train_dataloader: Return the dataloader of the training; None outside of a training.
        autocast: Return the context in which the trainer runs the model.
    """

    remaining_stages: Callable[[], Sequence[tuple[Sequence[str], float]]]
    evaluations_per_epoch: Callable[[], float]
    train_dataloader: Callable[[], DataLoader | None]
    autocast: Callable[[], AbstractContextManager]


class NoCache:
    """In the place of an `ActivationCache`: caches nothing, so every layer runs in every pass."""

    caches_layers = False

    def number_rows(self, given: datasets.Dataset, rows: datasets.Dataset, is_training: bool) -> datasets.Dataset:
        """Return the rows as they are."""
        return rows

    def begin_step(self) -> None:
        """Do nothing."""

    def evaluating(self, dataloader: DataLoader) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return nullcontext()

    def add_states(self, inputs: Batch) -> Batch:
        """Drop the row numbers, which a dataloader with persistent workers may still add."""
        inputs.pop("row_numbers", None)
        return inputs


class ActivationCache:
    """Computes, keeps and reads the states of frozen layers through one call of a trainer.

    During training, the gradient flags of the layer groups define what is frozen. In a separate evaluation, the whole
    encoder is. The states that enter the lowest trained group are the same in each epoch, so they are computed once
    and read from then on. A store is found by a digest of everything its states depend on, so a later or resumed run
    reads the stores of an earlier one.

    Args:
        settings: Settings of the cache.
        args: Arguments of the trainer.
        accelerator: Accelerator of the trainer.
        model: The model, not wrapped.
        groups: Layer groups of the model.
        collator: Collator of the trainer. Only a `MultiTaskDataCollator` makes the same batch of the same rows.
        hooks: Callables of the trainer.
        train_dataset: Training rows; None for a separate evaluation.
    """

    def __init__(
        self,
        settings: CacheSettings,
        args: TrainingArguments,
        accelerator: Accelerator,
        model: MultiTaskModel,
        groups: LayerGroups,
        collator: Callable[..., Any],
        hooks: CacheHooks,
        train_dataset: object = None,
    ) -> None:
        self.settings = settings
        self.args = args
        self.accelerator = accelerator
        self.model = model
        self.groups = groups
        self.hooks = hooks
        self.collator = collator if type(collator) is MultiTaskDataCollator else None
        self.in_training = train_dataset is not None
        self.folder = StoreFolder(settings.folder, settings.max_bytes)
        self.names = [group.name for group in groups]
        self.rows: list[CachedRows] = []
        # The group that the frozen layers' states enter now. Unknown until the first training step.
        self.entering: str | None = None if self.in_training else HEADS
        # The rows whose batches the model gets now.
        self.reading: CachedRows | None = None
        self.disabled_reason = self._why_not_cacheable(collator)
        if self.in_training and self.disabled_reason is None and (why := why_rows_not_cacheable(train_dataset)):
            self.disabled_reason = f"the training {why}"
        self.depths = self._find_depths()
        self._digests: dict[str, str] | None = None
        # Reentrant checkpointing computes no gradient of a layer whose input needs none. So the output of the
        # embeddings needs one in transformers, if layers are checkpointed.
        self._states_need_gradient = False

    @property
    def caches_layers(self) -> bool:
        """Whether states can be cached that enter a layer of the encoder, and not only those that leave it."""
        return self.disabled_reason is None and not set(self.depths).isdisjoint(self.groups.layers)

    # The trainer calls these.

    def number_rows(self, given: datasets.Dataset, rows: datasets.Dataset, is_training: bool) -> datasets.Dataset:
        """Number the rows of a dataset, so that each batch carries the numbers of its rows.

        Args:
            given: The dataset that the trainer was given; the same dataset is numbered once.
            rows: Its rows, as batches are made of them.
            is_training: Whether these are the training rows.

        Returns:
            The rows with a column of numbers, or as they are if their states cannot be cached.
        """
        if self.disabled_reason is not None or self.collator is None or why_rows_not_cacheable(rows) is not None:
            return rows
        known = next((found for found in self.rows if found.given is given), None)
        if known is None:
            known = CachedRows(
                given,
                rows,
                self.collator,
                name="train" if is_training else "evaluated",
                passes_per_epoch=1.0 if is_training else self.hooks.evaluations_per_epoch(),
                hidden_size=self.model.encoder.config.hidden_size,
                dtype=self.settings.dtype,
            )
            self.rows.append(known)
        return known.dataset

    def begin_step(self) -> None:
        """Read the store that fits the groups that train now. Build it first if that pays."""
        entering = lowest_trained(self.names, [group.name for group in self.groups if group.trainable])
        if entering == self.entering:
            return
        self.entering = entering
        self._states_need_gradient = self.model.is_activation_checkpointing
        self._digests = None  # other weights may have trained since the last stage
        for rows in self.rows:
            rows.entering, rows.store = None, None
        self.reading = self._find_rows(self.hooks.train_dataloader())
        if self.reading is not None:
            self._open(self.reading)
        elif entering in self.depths:
            reason = self.disabled_reason or "the batches carry no row numbers"
            self._log("Frozen layers are computed in every pass: %s.", reason)

    @contextmanager
    def evaluating(self, dataloader: DataLoader) -> Iterator[None]:
        """Read the store of an evaluation's rows; during training only if the training rows are read from one too."""
        train, rows = self.reading, self._find_rows(dataloader)
        train_is_stored = train is not None and train.store is not None
        if rows is not None and (train_is_stored or not self.in_training):
            self._open(rows)
        self.reading = rows
        try:
            yield
        finally:
            self.reading = train

    def add_states(self, inputs: Batch) -> Batch:
        """Replace the row numbers of a batch by the cached states of its rows, if there are any.

        Args:
            inputs: The batch.

        Returns:
            The batch, with ``stored_states`` and ``entering`` if its states are cached and whole.
        """
        numbers = inputs.pop("row_numbers", None)
        rows = self.reading
        if numbers is None or rows is None or rows.store is None or rows.entering != self.entering:
            return inputs
        states = rows.store.read_unless_damaged(numbers, inputs["attention_mask"].to(self.args.device))
        if states is None:
            return inputs
        states = states.to(self.model.dtype)
        if self._states_need_gradient:
            states.requires_grad_()
        return {**inputs, "stored_states": states, "entering": self.entering}

    # Finding a store.

    def _find_depths(self) -> dict[str, int]:
        """Return the number of layers below each group that states can enter."""
        layers = self.groups.layers
        # A compiled graph contains all layers of the encoder.
        if self.args.torch_compile or not self._can_enter_layers:
            return {HEADS: len(layers)}
        above = {name: len(layers) for name in (NORM, HEADS) if name in [*self.names, HEADS]}
        return {name: i for i, name in enumerate(layers) if i} | above

    @property
    def _can_enter_layers(self) -> bool:
        # Where nothing is cached, the encoder may be in parts on several processes and is not run.
        return self.disabled_reason is not None or self.model.partial_forward.can_enter_layers

    def _why_not_cacheable(self, collator: Callable[..., Any]) -> str | None:
        """Return the reason why frozen layers cannot be computed once, None if they can."""
        if self.collator is None:
            return f"{type(collator).__name__} may make other batches of the same rows"
        if self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
            return f"{self.accelerator.distributed_type.value} divides the layers between processes"
        for task in self.model.config.tasks:
            if task.mix_layers:
                return f"mix_layers of task {task.name!r} needs the states of every layer"
        for config in (self.model.config, self.model.encoder.config):
            for name in ("output_hidden_states", "output_attentions"):
                if getattr(config, name, False):
                    return f"{name} needs every layer"
        return None

    def _find_rows(self, dataloader: DataLoader | None) -> CachedRows | None:
        dataset = getattr(dataloader, "dataset", None)
        return next((rows for rows in self.rows if rows.dataset is dataset), None)

    def _open(self, rows: CachedRows) -> None:
        """Find the store of the layers that are frozen now. Build it, and those of later stages, if that pays."""
        if rows.entering == self.entering:
            return
        rows.store, rows.entering = None, self.entering
        if self.disabled_reason is not None or self.entering not in self.depths:
            if self.args.torch_compile and self.entering != self.names[0]:
                self._log("Compiled, the frozen layers of a training encoder are computed in every pass.")
            elif not self._can_enter_layers and self.entering != self.names[0]:
                self._log("The layers of this encoder cannot start from stored states: they run in every pass.")
            return
        rows.keys = {group: self._key(rows, group) for group in self.depths}
        stored = self._stored_groups(rows)
        plan = self._plan(rows, stored)
        if plan.entering and self._build(rows, plan, stored):
            stored = self._stored_groups(rows)
        rows.store = self._find_store(rows, self.entering) if self.entering in stored else None
        self._log_plan(rows, plan)

    def _key(self, rows: CachedRows, group: str) -> str:
        """Return the key of the store of the states that enter a group."""
        if self._digests is None:
            self._digests = layer_digests(self.model.encoder, self.groups)
        mixed = self.accelerator.mixed_precision or "no"
        computed_in = "bfloat16" if self._computes_in_bfloat16 else _AUTOCAST_TYPES.get(mixed, mixed)
        return store_key(self._digests[group], rows.digest_and_lengths[0], str(self.settings.dtype), computed_in)

    def _find_store(self, rows: CachedRows, group: str) -> ActivationStore | None:
        return ActivationStore.find(self.folder.path / rows.keys[group], rows.layout)

    def _stored_groups(self, rows: CachedRows) -> set[str]:
        """Return the groups whose entering states every process finds on its disk."""
        here = {
            group for group, key in rows.keys.items() if find_parts(self.folder.path / key, rows.layout) is not None
        }
        return set.intersection(*gather_object([here]))

    def _plan(self, rows: CachedRows, stored: Collection[str]) -> CachePlan:
        """Decide which states to store; the main process decides for all."""
        plans: list[CachePlan | None] = [None]
        if self.accelerator.is_main_process:
            stages = [
                (lowest_trained(self.names, trained), epochs * rows.passes_per_epoch)
                for trained, epochs in self.hooks.remaining_stages()
            ]
            in_use = {key for known in self.rows for key in known.keys.values()}
            free = FreeSpace(self.folder.available_bytes(in_use), psutil.virtual_memory().available)
            bytes_each = rows.layout.num_bytes
            plan = plan_store(self.settings.mode, stages, self.depths, stored, bytes_each, free)
            if plan.entering:
                self.folder.evict(bytes_each * len(plan.entering), in_use)
            plans = [plan]
        return broadcast_object_list(plans)[0]

    # Building a store.

    def _build(self, rows: CachedRows, plan: CachePlan, stored: Collection[str]) -> bool:
        """Let each process build its part of the planned stores, and return whether all of them succeeded."""
        below = min(self.depths[group] for group in plan.entering)
        starts = [group for group in stored if self.depths[group] < below]
        start = max(starts, key=self.depths.__getitem__, default=None)
        builder = ActivationBuilder(
            self.model,
            rows.dataset.select_columns(rows.encoded_columns),
            rows.collator,
            Part(rows.layout, *self._part()),
            max(TOKENS_PER_PASS, self.args.eval_batch_size * rows.longest_pass),
            self._autocast,
            show_progress=self.accelerator.is_main_process and not self.args.disable_tqdm,
        )
        folders = {group: self.folder.path / rows.keys[group] for group in plan.entering}
        failure = None
        try:
            builder.build(folders, None if start is None else self._find_store(rows, start), start)
        except OSError as error:
            failure = str(error)
        failures = [found for found in gather_object([failure]) if found is not None]
        if failures:
            self.disabled_reason = f"the store cannot be written: {failures[0]}"
            if self.accelerator.is_main_process:
                logger.warning("Continuing without cached states: %s.", self.disabled_reason)
        return not failures

    def _part(self) -> tuple[int, int]:
        """Return the index of the part of the rows that this process computes, and the number of parts."""
        if not self.args.save_on_each_node:
            return self.args.process_index, self.args.world_size
        # Each machine has its own disk, so its processes compute all rows between them.
        return self.args.local_process_index, int(os.environ.get("LOCAL_WORLD_SIZE", self.args.world_size))

    @property
    def _computes_in_bfloat16(self) -> bool:
        """Whether states are computed in bfloat16, the type they are stored in, though the run computes in float32."""
        runs_in_full = self.accelerator.mixed_precision == "no"
        return self.settings.dtype == torch.bfloat16 and runs_in_full and has_native_bf16(self.args.device)

    def _autocast(self) -> AbstractContextManager:
        if self._computes_in_bfloat16:
            return torch.autocast(self.args.device.type, torch.bfloat16)
        return self.hooks.autocast()

    # Logging.

    def _log_plan(self, rows: CachedRows, plan: CachePlan) -> None:
        if rows.store is None or self.entering is None:
            self._log("Frozen layers are computed in every pass over the %s rows: %s.", rows.name, plan.reason)
            return
        self.folder.touch(rows.keys[self.entering])
        self._log(
            "Frozen layers are computed once: the states entering %s of %s %s rows (%s) are in %s; %s.",
            self.entering,
            f"{len(rows.dataset):,}",
            rows.name,
            format_bytes(rows.layout.num_bytes),
            self.folder.path,
            plan.reason,
        )

    def _log(self, message: str, *values: object) -> None:
        if self.accelerator.is_main_process:
            logger.info(message, *values)
