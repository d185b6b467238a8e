"""States of rows at each depth of an encoder, from one pass."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import datasets
import torch

from ..models import MultiTaskModel
from ..models.collator import MultiTaskDataCollator
from ..models.encoder_pooling import mean_of_windows, pool
from ..models.losses import is_labeled
from ..models.modeling_multitask import gather_words
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ..models.token_batches import cut_batches, rows_per_batch
from ..models.type_aliases import Batch

TOKENS_PER_PASS = 2048


@dataclass(frozen=True)
class LayerStates:
    """States that heads read, at each depth, with the labels of the rows.

    Args:
        texts: Pooled states (depths, rows, hidden); empty without sequence tasks. A text in windows has the mean of
            its windows, from which a linear head gives the mean of their logits.
        words: States of the words of all rows (depths, words, hidden); empty without token tasks.
        is_word: Mask of the words of each row (rows, most_words).
        tag_positions: Position of the subword of each word (rows, most_words), -1 for words without one.
        labels: Labels by task, as the collator makes them.
    """

    texts: torch.Tensor
    words: torch.Tensor
    is_word: torch.Tensor
    tag_positions: torch.Tensor
    labels: dict[str, torch.Tensor]

    def take(self, rows: torch.Tensor) -> "LayerStates":
        """Return the states of some rows.

        Args:
            rows: Mask of the rows (rows,).
        """
        of_rows = rows.unsqueeze(1).expand_as(self.is_word)[self.is_word]
        return LayerStates(
            self.texts[:, rows] if self.texts.numel() else self.texts,
            self.words[:, of_rows] if self.words.numel() else self.words,
            self.is_word[rows],
            self.tag_positions[rows],
            {name: labels[rows] for name, labels in self.labels.items()},
        )

    def of_task(self, task: TaskConfig) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the labeled items of a task, words or texts, to train a head on.

        Args:
            task: The task.

        Returns:
            States (depths, items, hidden) and labels (items, …).
        """
        labels = self.labels[task.name]
        if not task.is_token_task:
            labeled = is_labeled(task, labels)
            kept = labeled.all(1) if task.problem_type in (MULTI_LABEL, REGRESSION) else labeled
            width = task.num_labels if labels.dim() > 1 else None
            return self.texts[:, kept], labels[kept] if width is None else labels[kept, :width]
        flat, has_subword = labels[self.is_word], self.tag_positions[self.is_word] >= 0
        kept = is_labeled(task, flat) & has_subword
        return self.words[:, kept], flat[kept]


@dataclass
class _Collected:
    """States of batches, in the order of the passes, and the number of words of each row."""

    counts: Sequence[int]
    texts: list[torch.Tensor] = field(default_factory=list)
    words: dict[int, torch.Tensor] = field(default_factory=dict)


@torch.no_grad()
def collect_states(
    model: MultiTaskModel, rows: datasets.Dataset, collator: MultiTaskDataCollator, tasks: Sequence[TaskConfig]
) -> LayerStates:
    """Run rows through the encoder once and return their states at each depth.

    Encoders that cannot start from the states of a layer return them too.

    Args:
        model: The model, in eval mode.
        rows: Prepared rows.
        collator: Collator of the rows.
        tasks: The tasks.

    Returns:
        The states, in the order of the rows, on the CPU.
    """
    # Labels and positions of all rows, padded together: one token stands for the texts.
    without_texts = [
        {name: row[name] for name in ("labels", "tag_positions") if name in row} | {"input_ids": [0]} for row in rows
    ]
    whole = collator(without_texts)
    counts = [len(row.get("tag_positions", ())) for row in without_texts]
    lengths = torch.tensor([len(ids) for ids in rows["input_ids"]])
    order = lengths.argsort(descending=True, stable=True)
    found = _Collected(counts)
    for start, end in cut_batches(rows_per_batch(lengths[order].numpy(), TOKENS_PER_PASS).tolist()):
        numbers = order[start:end].tolist()
        _run(model, collator(rows.__getitems__(numbers)), numbers, tasks, found)
    positions = whole.get("tag_positions", torch.zeros(len(rows), 0, dtype=torch.long))
    is_word = torch.arange(positions.size(1)) < torch.tensor(counts).unsqueeze(1)
    empty = torch.zeros(0, 0, 0)
    return LayerStates(
        torch.cat(found.texts, 1)[:, order.argsort()] if found.texts else empty,
        torch.cat([found.words[i] for i in range(len(rows))], 1) if found.words else empty,
        is_word,
        positions,
        whole["labels"],
    )


def _run(
    model: MultiTaskModel, batch: Batch, numbers: Sequence[int], tasks: Sequence[TaskConfig], found: _Collected
) -> None:
    """Run a batch and keep what heads read of its states."""
    left_out = ("labels", "tag_positions", "row_numbers")
    inputs = {name: value.to(model.device) for name, value in batch.items() if name not in left_out}
    states = model(**inputs, tasks=[], output_hidden_states=True, return_dict=True).hidden_states
    mask, windows = inputs["attention_mask"], inputs.get("row_windows")
    if any(not task.is_token_task for task in tasks):
        pooled = [pool(state, mask, model.config.pooling) for state in states]
        if windows is not None:
            pooled = [mean_of_windows(vectors, mask, windows) for vectors in pooled]
        found.texts.append(torch.stack(pooled).float().cpu())
    if any(task.is_token_task for task in tasks):
        positions = batch["tag_positions"].to(model.device)
        words = torch.stack([gather_words(state, positions, windows) for state in states]).float().cpu()
        for i, number in enumerate(numbers):
            found.words[number] = words[:, i, : found.counts[number]]
