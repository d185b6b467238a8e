"""The frozen layers of a run, computed once: what enters the lowest layer that trains is stored and read."""

import logging
import os
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import psutil
import torch
from accelerate.utils import DistributedType, broadcast_object_list, gather_object
from transformers import Trainer
from transformers.trainer_utils import IntervalStrategy

from ...data import ROW_NUMBER_COLUMN, MultiTaskDataCollator
from ...data.batches.numpy_rows import with_numpy_rows
from ...models.encoder_partial_forward import HEADS, lowest_trained
from ...models.layer_groups import NORM
from ...runtime.byte_sizes import format_bytes
from ...runtime.precision import has_native_bf16
from ..callback import count_steps_per_epoch
from .builder import TOKENS_PER_PASS, ActivationBuilder
from .cache_key import layer_digests, read_rows, store_key
from .cache_plan import CachePlan, FreeSpace, plan_store
from .store import DTYPES, ActivationStore, Part, StatesLayout, find_parts
from .store_folder import StoreFolder

logger = logging.getLogger(__name__)


@dataclass
class StoredRows:
    """A dataset whose rows are numbered, and the store that its batches are read from now.

    Args:
        given: The dataset as the trainer was given it.
        dataset: The same with a column of row numbers.
        columns: What the encoder's states are computed from.
        name: What messages call it.
        passes_per_epoch: How often it is gone through in an epoch.
        hidden_size: Width of the states.
        dtype: Their type.
        entering: The group for which a store was looked for.
        store: The store; None where states are computed.
        keys: Keys of its stores by group.
    """

    given: datasets.Dataset
    dataset: datasets.Dataset
    columns: list[str]
    name: str
    passes_per_epoch: float
    hidden_size: int
    dtype: torch.dtype
    entering: str | None = None
    store: ActivationStore | None = None
    keys: dict[str, str] = field(default_factory=dict)

    @cached_property
    def digest_and_lengths(self) -> tuple[str, np.ndarray]:
        """What tells the rows from others, and their tokens (num_rows)."""
        return read_rows(self.dataset, self.columns)

    @cached_property
    def layout(self) -> StatesLayout:
        """What their states are like."""
        return StatesLayout(self.digest_and_lengths[1], self.hidden_size, self.dtype)


class ActivationCache:
    """Computes, keeps and reads the states of frozen layers through one call of a `MultiTaskTrainer`.

    In a training the groups' gradient flags say what is frozen; in an evaluation by itself the whole encoder is. What
    enters the lowest group that trains stays the same from epoch to epoch, so it is read from then on. A store is
    found by what its states are computed from, so that a later run, or one that is resumed, reads what this one has
    written.

    Args:
        trainer: The trainer.
        in_training: Whether the call is one of ``train``.
    """

    def __init__(self, trainer: Trainer, in_training: bool) -> None:
        self.trainer = trainer
        self.in_training = in_training
        self.args = trainer.args
        self.accelerator = trainer.accelerator
        self.model = trainer.model
        self.groups = trainer.layer_groups
        self.names = [group.name for group in self.groups]
        self.dtype = DTYPES[self.args.store_dtype]
        default = Path(datasets.config.HF_DATASETS_CACHE, "hf_multitask", "states")
        self.folder = StoreFolder(Path(self.args.store_dir or default), self.args.store_max_bytes)
        layers = self.groups.layers
        # Layers below each group that states can enter.
        depths = {name: i for i, name in enumerate(layers) if i} | {NORM: len(layers), HEADS: len(layers)}
        self.depths = {name: depth for name, depth in depths.items() if name in [*self.names, HEADS]}
        if self.args.torch_compile:
            self.depths = {HEADS: self.depths[HEADS]}  # a graph has all layers of the encoder
        self.rows: list[StoredRows] = []
        self.entering: str | None = None if in_training else HEADS
        self.reading: StoredRows | None = None
        self.disabled_reason = self._why_not_cacheable()
        if in_training and self.disabled_reason is None and (found := _why_rows_not_cacheable(trainer.train_dataset)):
            self.disabled_reason = f"the training {found}"

    # What the trainer calls.

    def number_rows(self, given: Any, dataset: Any, is_training: bool) -> Any:
        """Number the rows of a dataset, so that a batch tells which rows it has.

        Args:
            given: The dataset as the trainer was given it.
            dataset: The same, as its batches are made of it.
            is_training: Whether these are the training rows.

        Returns:
            ``dataset`` with the numbers; as it is where nothing is stored.
        """
        if self.disabled_reason is not None or _why_rows_not_cacheable(dataset) is not None:
            return dataset
        for rows in self.rows:
            if rows.given is given:
                return rows.dataset
        taken = [*self.trainer.data_collator.tokenizer.model_input_names, "window_lengths"]
        columns = [name for name in taken if name in dataset.column_names]
        numbered = dataset.add_column(ROW_NUMBER_COLUMN, np.arange(len(dataset)))
        numbered = with_numpy_rows(numbered, self.trainer.data_collator.columns)
        name, passes = ("train", 1.0) if is_training else ("evaluated", self._evaluations_per_epoch())
        width = self.model.encoder.config.hidden_size
        self.rows.append(StoredRows(given, numbered, columns, name, passes, width, self.dtype))
        return numbered

    def begin_step(self) -> None:
        """Read from the store that fits what trains now; build it where it pays."""
        entering = lowest_trained(self.names, [group.name for group in self.groups if group.trainable])
        if entering == self.entering:
            return
        self.entering = entering
        self.__dict__.pop("digests", None)
        for rows in self.rows:
            rows.entering, rows.store = None, None
        self.reading = self._find_rows(self.trainer.callback_handler.train_dataloader)
        if self.reading is not None:
            self._open(self.reading)
        elif entering in self.depths:
            reason = self.disabled_reason or "the batches do not tell which rows they have"
            self._say("Frozen layers are computed in every pass: %s.", reason)

    @contextmanager
    def evaluating(self, dataloader: Any) -> Iterator[None]:
        """Read from the store of an evaluation's rows meanwhile; in a training if that reads from one."""
        train, rows = self.reading, self._find_rows(dataloader)
        train_is_stored = train is not None and train.store is not None
        if rows is not None and (train_is_stored or not self.in_training):
            self._open(rows)
        self.reading = rows
        try:
            yield
        finally:
            self.reading = train

    def add_states(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Exchange a batch's row numbers for the stored states of its rows, if there are any.

        Args:
            inputs: The batch.

        Returns:
            The batch, with ``stored_states`` and ``entering`` where they are stored.
        """
        numbers = inputs.pop("row_numbers", None)
        rows = self.reading
        if numbers is None or rows is None or rows.store is None or rows.entering != self.entering:
            return inputs
        states = rows.store.read(numbers, inputs["attention_mask"].to(self.args.device)).to(self.model.dtype)
        return {**inputs, "stored_states": states, "entering": self.entering}

    # Which store is read.

    def _why_not_cacheable(self) -> str | None:
        """Return why frozen layers cannot be computed once, None where they can."""
        collator = self.trainer.data_collator
        if type(collator) is not MultiTaskDataCollator:
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

    def _find_rows(self, dataloader: Any) -> StoredRows | None:
        dataset = getattr(dataloader, "dataset", None)
        return next((rows for rows in self.rows if rows.dataset is dataset), None)

    def _open(self, rows: StoredRows) -> None:
        """Look for the store of what is frozen now; build it, and what the run will read later, where that pays."""
        if rows.entering == self.entering:
            return
        rows.store, rows.entering = None, self.entering
        if self.disabled_reason is not None or self.entering not in self.depths:
            if self.args.torch_compile and self.entering != self.names[0]:
                self._say("Compiled, the frozen layers of a training encoder are computed in every pass.")
            return
        rows.keys = {group: self._key(rows, group) for group in self.depths}
        found = self._find_stores(rows)
        plan = self._plan(rows, found)
        if plan.entering and self._build(rows, plan, found):
            found = self._find_stores(rows)
        rows.store = self._store(rows, self.entering) if self.entering in found else None
        self._report(rows, plan)

    @cached_property
    def digests(self) -> dict[str, str]:
        """What computes the states that enter each group, until something else trains."""
        return layer_digests(self.model.encoder, self.groups)

    def _key(self, rows: StoredRows, group: str) -> str:
        computed_in = "bfloat16" if self._computes_in_bfloat16 else self.accelerator.mixed_precision
        return store_key(self.digests[group], rows.digest_and_lengths[0], str(self.dtype), computed_in)

    def _store(self, rows: StoredRows, group: str) -> ActivationStore | None:
        return ActivationStore.find(self.folder.path / rows.keys[group], rows.layout)

    def _find_stores(self, rows: StoredRows) -> set[str]:
        """Return the groups whose entering states every process finds."""
        here = {
            group for group, key in rows.keys.items() if find_parts(self.folder.path / key, rows.layout) is not None
        }
        return set.intersection(*gather_object([here]))

    def _plan(self, rows: StoredRows, found: Collection[str]) -> CachePlan:
        """Decide what to store, on one process for all."""
        plans: list[CachePlan | None] = [None]
        if self.accelerator.is_main_process:
            stages = [(entering, epochs * rows.passes_per_epoch) for entering, epochs in self._stages()]
            in_use = {key for known in self.rows for key in known.keys.values()}
            room = FreeSpace(self.folder.room(in_use), psutil.virtual_memory().available)
            bytes_each = rows.layout.num_bytes
            plan = plan_store(self.args.store_frozen, stages, self.depths, found, bytes_each, room)
            if plan.entering:
                self.folder.evict(bytes_each * len(plan.entering), in_use)
            plans = [plan]
        return broadcast_object_list(plans)[0]

    def _stages(self) -> list[tuple[str, float]]:
        """Return what frozen states enter from now on and for how many epochs, stage by stage."""
        state, run = self.trainer.state, self.trainer.freeze_callback.run
        if not self.in_training:
            return [(HEADS, 1.0)]
        if run is None:
            return [(self.entering or HEADS, (state.max_steps - state.global_step) / self._steps_per_epoch)]
        return [
            (lowest_trained(self.names, trained), steps / self._steps_per_epoch) for trained, steps in run.remaining()
        ]

    @cached_property
    def _steps_per_epoch(self) -> int:
        return count_steps_per_epoch(self.args, self.trainer.state, self.trainer.callback_handler.train_dataloader)

    def _evaluations_per_epoch(self) -> float:
        if self.in_training and self.args.eval_strategy == IntervalStrategy.STEPS:
            return self._steps_per_epoch / self.trainer.state.eval_steps
        return 1.0

    # How a store is built.

    def _build(self, rows: StoredRows, plan: CachePlan, found: Collection[str]) -> bool:
        """Build stores, each process its part; tell whether all could."""
        below = min(self.depths[group] for group in plan.entering)
        starts = [group for group in found if self.depths[group] < below]
        start = max(starts, key=self.depths.__getitem__, default=None)
        builder = ActivationBuilder(
            self.model,
            rows.dataset.select_columns(rows.columns),
            self.trainer.data_collator,
            Part(rows.layout, *self._part()),
            max(TOKENS_PER_PASS, self.args.eval_batch_size * self._longest_pass(rows)),
            self._autocast,
            show_progress=self.accelerator.is_main_process and not self.args.disable_tqdm,
        )
        folders = {group: self.folder.path / rows.keys[group] for group in plan.entering}
        failure = None
        try:
            builder.build(folders, None if start is None else self._store(rows, start), start)
        except OSError as error:
            failure = str(error)
        failures = [found for found in gather_object([failure]) if found is not None]
        if failures:
            self.disabled_reason = f"the store cannot be written: {failures[0]}"
            if self.accelerator.is_main_process:
                logger.warning("Going on without stored states: %s.", self.disabled_reason)
        return not failures

    def _longest_pass(self, rows: StoredRows) -> int:
        """Return the tokens of the longest row, or window of one."""
        return min(int(rows.layout.lengths.max()), self.trainer.data_collator.tokenizer.model_max_length)

    def _part(self) -> tuple[int, int]:
        """Return which part of the rows this process computes, and of how many."""
        if not self.args.save_on_each_node:
            return self.args.process_index, self.args.world_size
        # Each machine has a disk of its own, so its processes compute all rows between them.
        return self.args.local_process_index, int(os.environ.get("LOCAL_WORLD_SIZE", self.args.world_size))

    @property
    def _computes_in_bfloat16(self) -> bool:
        """Whether states are computed in bfloat16, as they are stored, though the run computes in float32."""
        runs_in_full = self.accelerator.mixed_precision == "no"
        return self.dtype == torch.bfloat16 and runs_in_full and has_native_bf16(self.args.device)

    def _autocast(self) -> AbstractContextManager:
        if self._computes_in_bfloat16:
            return torch.autocast(self.args.device.type, torch.bfloat16)
        return self.trainer.compute_loss_context_manager()

    def _report(self, rows: StoredRows, plan: CachePlan) -> None:
        if rows.store is None or self.entering is None:
            self._say("Frozen layers are computed in every pass over the %s rows: %s.", rows.name, plan.reason)
            return
        self.folder.touch(rows.keys[self.entering])
        size = format_bytes(rows.layout.num_bytes)
        self._say(
            "Frozen layers are computed once: the states entering %s of %s %s rows (%s) are in %s; %s.",
            self.entering,
            f"{len(rows.dataset):,}",
            rows.name,
            size,
            self.folder.path,
            plan.reason,
        )

    def _say(self, message: str, *values: Any) -> None:
        if self.accelerator.is_main_process:
            logger.info(message, *values)


def _why_rows_not_cacheable(dataset: Any) -> str | None:
    """Return why the states of a dataset's rows cannot be stored, None where they can."""
    if not isinstance(dataset, datasets.Dataset):
        return "rows are no datasets.Dataset, whose rows are the same in each epoch"
    if dataset.format["type"] == "custom":
        return "rows are transformed as they are read"
    if "attention_mask" not in dataset.column_names:
        return "rows have no attention_mask"
    return None
