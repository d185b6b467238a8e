"""Computation of the states that an activation cache stores."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import datasets
import torch
from filelock import FileLock
from huggingface_hub.utils import tqdm
from torch import nn

from ...models.collator import TEACHER_COLUMN
from ...models.modeling_multitask import MultiTaskModel
from ...models.token_batches import cut_batches, rows_per_batch
from ...models.type_aliases import Batch, Row
from .store import ActivationStore, Part, PartWriter, remove_part

logger = logging.getLogger(__name__)

# Minimum number of tokens per pass: enough to keep a processor busy, too few to fill any memory.
TOKENS_PER_PASS = 1024
# Entries of a batch that are not inputs of the encoder.
_NOT_ENCODED = ("labels", "tag_positions", "row_windows", "row_numbers", TEACHER_COLUMN)


@dataclass
class ActivationBuilder:
    """Runs rows through the lower layers of an encoder and writes the states that enter layer groups.

    Rows are taken longest first, so batches contain little padding.

    Args:
        model: The model.
        dataset: Rows with the inputs of the encoder.
        collator: Collator of the rows.
        part: Part of the rows that this process computes.
        tokens_per_pass: Maximum number of tokens per pass, padding included. A single row, or a window of one, may
            have more.
        autocast: Return the context in which the encoder runs.
        show_progress: Whether to show a progress bar.
    """

    model: MultiTaskModel
    dataset: datasets.Dataset
    collator: Callable[[list[Row]], Batch]
    part: Part
    tokens_per_pass: int
    autocast: Callable[[], AbstractContextManager]
    show_progress: bool

    def build(
        self, folders: Mapping[str, Path], start: ActivationStore | None = None, entering: str | None = None
    ) -> None:
        """Write this process's part of each store. Parts that an earlier process has written stay.

        Args:
            folders: Folders of the stores by the group that the states enter.
            start: Store of lower states to start from; from the tokens if None.
            entering: Group that the lower states enter.

        Raises:
            OSError: If the stores cannot be written. The unfinished files are removed.
        """
        with ExitStack() as locks:
            missing = {}
            for group, folder in sorted(folders.items()):
                folder.mkdir(parents=True, exist_ok=True)
                path = self.part.path(folder)
                # Another run may compute the same part. The lock of a killed process is released.
                locks.enter_context(FileLock(path.with_suffix(".lock")))
                if self.part.is_whole(folder):
                    continue
                if path.is_file():
                    logger.warning("%s: the stored states are damaged: the size is wrong. Writing them again.", path)
                    remove_part(path)
                missing[group] = PartWriter(folder, self.part)
            try:
                if missing:
                    self._write(missing, start, entering)
            except OSError:
                for writer in missing.values():
                    writer.discard()
                raise

    @torch.no_grad()
    def _write(self, writers: Mapping[str, PartWriter], start: ActivationStore | None, entering: str | None) -> None:
        rows = self.part.rows.tolist()
        sizes = rows_per_batch(self.part.layout.lengths[self.part.rows], self.tokens_per_pass)
        bounds = [0, *(end for _, end in cut_batches(sizes.tolist()))]
        # Resume at a batch boundary: a state depends in its last bits on the batch that it is computed in.
        written = min(writer.num_rows for writer in writers.values())
        done = max(bound for bound in bounds if bound <= written)
        for writer in writers.values():
            writer.truncate_to(done)
        was_training = self.model.training
        self.model.eval()
        try:
            # In the line of the bar of training, which does not move meanwhile. disable=None: none without a terminal.
            disable = None if self.show_progress else True
            bar = tqdm(total=len(rows), initial=done, desc="Storing", disable=disable, position=0, leave=False)
            with bar, _requiring_gradients(self.model.encoder), self.autocast():
                for i, end in pairwise(bounds[bounds.index(done) :]):
                    batch = rows[i:end]
                    for group, found in self._states(batch, list(writers), start, entering).items():
                        writers[group].write(found)
                    bar.update(len(batch))
        finally:
            self.model.train(was_training)
        for writer in writers.values():
            writer.finish()

    def _states(
        self, rows: Sequence[int], groups: Sequence[str], start: ActivationStore | None, entering: str | None
    ) -> dict[str, torch.Tensor]:
        """Return the states of rows by group (num_tokens, hidden), without padding."""
        device = self.model.device
        collated = self.collator(self.dataset.__getitems__(list(rows)))
        inputs = {name: value.to(device) for name, value in collated.items() if name not in _NOT_ENCODED}
        stored = None if start is None else start.read_unless_damaged(rows, inputs["attention_mask"])
        if stored is None:
            entering = None
        else:
            inputs["stored_states"] = stored.to(self.model.dtype)
        found: dict[str, list[torch.Tensor]] = {group: [] for group in groups}
        # A long text has many windows, too many for one pass.
        windows_per_pass = max(1, self.tokens_per_pass // inputs["attention_mask"].size(1))
        parts = zip(*(value.split(windows_per_pass) for value in inputs.values()), strict=True)
        for values in parts:
            part = dict(zip(inputs, values, strict=True))
            computed = self.model.states_entering(groups, entering=entering, **part)
            mask = part["attention_mask"].bool()
            for group, value in computed.items():
                found[group].append(value[mask].to(self.part.layout.dtype))
        return {group: torch.cat(values) for group, values in found.items()}


@contextmanager
def _requiring_gradients(encoder: nn.Module) -> Iterator[None]:
    """Let all weights require gradients in this context, because autocast only caches casts of such weights."""
    frozen = [weight for weight in encoder.parameters() if not weight.requires_grad]
    for weight in frozen:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)
