"""Temperature scaling: one number by task that calibrates its scores (Guo et al. 2017, section 4.2)."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import datasets
import numpy as np
import torch
from accelerate.utils import gather_object
from torch.nn import functional

from ..models.decoding import decode, log_tag_probabilities
from ..models.heads_crf import CRF
from ..models.losses import IGNORE_INDEX
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ..runtime.processes import log_once
from .calibration import Confidences, entity_outcomes, expected_calibration_error

logger = logging.getLogger(__name__)

# One number needs no more rows than this, which bounds time and memory.
MAX_ROWS = 10_000
# Range of temperatures, and points of the grid in it from which the search starts.
LOWEST, HIGHEST = 0.05, 20.0
GRID_POINTS = 25
SEARCH_STEPS = 24
_GOLDEN = (math.sqrt(5) - 1) / 2
_SMALLEST = 1e-12


@dataclass(frozen=True)
class TemperatureFit:
    """Temperature of a task, fitted on labeled rows.

    Args:
        temperature: The temperature.
        items: Number of items that it was fitted on: rows, labels of rows, or predicted entities.
        error_before: Expected calibration error of the items without a temperature.
        error_after: The same with the temperature.
    """

    temperature: float
    items: int
    error_before: float
    error_after: float

    def __str__(self) -> str:
        """Return the fit as part of a sentence."""
        return (
            f"temperature {self.temperature:.3g}; expected calibration error {self.error_before:.4f} without it, "
            f"{self.error_after:.4f} with it ({self.items:,} scores)"
        )


def sample_rows(rows: datasets.Dataset) -> datasets.Dataset:
    """Return rows, or `MAX_ROWS` of them at equal distances if there are more."""
    if len(rows) <= MAX_ROWS:
        return rows
    return rows.select(np.linspace(0, len(rows) - 1, MAX_ROWS).astype(int))


def set_temperatures(
    tasks: Sequence[TaskConfig], fits: Mapping[str, TemperatureFit | None]
) -> dict[str, TemperatureFit]:
    """Set the temperatures of tasks, and log them.

    Args:
        tasks: Tasks of the model.
        fits: What `LogitCollector.fit` returns.

    Returns:
        The fits that there are.
    """
    by_name = {task.name: task for task in tasks}
    for name, fit in fits.items():
        if fit is None:
            what = "no entity was predicted" if by_name[name].is_token_task else "no row has a label of it"
            log_once(logger, "Task %r is not calibrated: %s.", name, what)
            continue
        by_name[name].temperature = fit.temperature
        log_once(logger, "Task %r: %s.", name, fit)
    return {name: fit for name, fit in fits.items() if fit is not None}


class PredictedEntities(NamedTuple):
    """Entities that a token task predicts.

    Args:
        scores: Their calibrated scores (entities,).
        right: 1 for an entity whose type and boundaries are right, else 0 (entities,).
        types: Their types (entities,).
    """

    scores: np.ndarray
    right: np.ndarray
    types: np.ndarray


class _Items(NamedTuple):
    """What a batch adds to the fit of a task.

    Args:
        logits: Logits of rows (rows, num_labels), or log-probabilities of words in predicted entities.
        labels: Labels of the rows, or predicted tags of the words.
        entities: Of each word, the number of its entity in the batch; empty for rows.
        right: Of each entity, whether it is right; empty for rows.
    """

    logits: torch.Tensor
    labels: torch.Tensor
    entities: torch.Tensor
    right: torch.Tensor


class LogitCollector:
    """Collects from the batches of an evaluation what temperatures are fitted on.

    Args:
        tasks: Tasks of the model.
        crfs: CRFs by task, for the tasks that have one.
    """

    def __init__(self, tasks: Sequence[TaskConfig], crfs: Mapping[str, CRF]) -> None:
        self.tasks = [task for task in tasks if task.problem_type != REGRESSION]
        self.crfs = crfs
        self._items: dict[str, list[_Items]] = {task.name: [] for task in self.tasks}
        self._gathered: dict[str, _Items | None] | None = None

    @torch.no_grad()
    def add(
        self,
        logits: Mapping[str, torch.Tensor],
        labels: Mapping[str, torch.Tensor],
        tag_positions: torch.Tensor | None,
    ) -> None:
        """Add a batch.

        Args:
            logits: Logits by task.
            labels: Labels by task.
            tag_positions: Position of each word's subword (batch, num_words), see `MultiTaskModel.forward`.
        """
        for task in self.tasks:
            values, gold = logits[task.name].float(), labels[task.name]
            if task.is_token_task:
                items = _entity_items(task, values, gold, tag_positions, self.crfs.get(task.name))
            else:
                items = _row_items(task, values, gold)
            self._items[task.name].append(_Items(*(tensor.cpu() for tensor in items)))

    def fit(self) -> dict[str, TemperatureFit | None]:
        """Fit the temperatures on the batches of all processes.

        Returns:
            The fit of each task that has scores; None if no row has a label of it, or no entity was predicted.
        """
        gathered = self._gather()
        return {task.name: _fit(task, gathered[task.name]) for task in self.tasks}

    def entities(self, task: TaskConfig) -> PredictedEntities:
        """Return the entities that a token task predicts on all processes, with its temperature.

        Args:
            task: Token task.
        """
        items = self._gather()[task.name]
        if items is None:
            return PredictedEntities(*(np.zeros(0) for _ in range(3)))
        found = _entity_confidences(items, task.temperature)
        _, first = np.unique(items.entities.numpy(), return_index=True)
        names = task.labels or []
        return PredictedEntities(*found, np.array([names[i][2:] for i in items.labels[first].tolist()]))

    def _gather(self) -> dict[str, _Items | None]:
        """Return the items of all processes by task, None if there are none."""
        if self._gathered is None:
            self._gathered = {name: _joined(gather_object(items)) for name, items in self._items.items()}
        return self._gathered


def _row_items(task: TaskConfig, logits: torch.Tensor, labels: torch.Tensor) -> _Items:
    empty = logits.new_zeros(0)
    if task.problem_type == MULTI_LABEL:
        labels = labels[:, : task.num_labels]
        labeled = ~labels.isnan().any(1)
    else:
        labeled = labels >= 0
    return _Items(logits[labeled], labels[labeled], empty, empty)


def _entity_items(
    task: TaskConfig, logits: torch.Tensor, labels: torch.Tensor, tag_positions: torch.Tensor | None, crf: CRF | None
) -> _Items:
    ids = decode(task, logits, tag_positions, crf)
    log_probabilities = log_tag_probabilities(task, logits, tag_positions, crf)
    rows: list[int] = []
    words: list[int] = []
    entities: list[int] = []
    right: list[bool] = []
    for i, (row_ids, gold) in enumerate(zip(ids.cpu().numpy(), labels.cpu().numpy(), strict=True)):
        labeled = np.flatnonzero(gold != IGNORE_INDEX)
        for span, is_right in entity_outcomes(task, row_ids[labeled], gold[labeled]):
            length = span.end - span.start
            rows += [i] * length
            words += labeled[span.start : span.end].tolist()
            entities += [len(right)] * length
            right.append(is_right)
    device = logits.device
    at = torch.tensor(rows, dtype=torch.long, device=device), torch.tensor(words, dtype=torch.long, device=device)
    outcomes = torch.tensor(right, dtype=torch.float)
    return _Items(log_probabilities[at], ids[at], torch.tensor(entities, dtype=torch.long), outcomes)


def _joined(batches: Sequence[_Items]) -> _Items | None:
    """Return the items of batches as those of one, whose entities are numbered from 0."""
    if not batches:
        return None
    counts = torch.tensor([0, *(len(batch.right) for batch in batches[:-1])]).cumsum(0)
    numbered = [batch.entities + start for batch, start in zip(batches, counts, strict=True)]
    logits, labels, _, right = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
    return _Items(logits.double(), labels, torch.cat(numbered), right.double()) if len(logits) else None


def _fit(task: TaskConfig, items: _Items | None) -> TemperatureFit | None:
    if items is None:
        return None
    confidences, loss = _of_entities(items) if task.is_token_task else _of_rows(task, items)
    temperature = _minimize(loss)
    before, after = (confidences(value) for value in (1.0, temperature))
    errors = [expected_calibration_error(found) for found in (before, after)]
    return TemperatureFit(temperature, len(before.scores), *errors)


_Confidences = Callable[[float], Confidences]
_Loss = Callable[[float], float]


def _of_rows(task: TaskConfig, items: _Items) -> tuple[_Confidences, _Loss]:
    logits, labels = items.logits, items.labels
    # A wrong label that has not occurred in n rows has the probability 1 / (n + 2), as in Platt (1999): if all rows
    # are right, the best temperature would be 0.
    smoothing = 1 / (len(logits) + 2)
    if task.problem_type == MULTI_LABEL:
        targets = labels.double() * (1 - 2 * smoothing) + smoothing

        def confidences(temperature: float) -> Confidences:
            scores = (logits / temperature).sigmoid()
            return Confidences(scores.flatten().numpy(), labels.flatten().numpy())

        def loss(temperature: float) -> float:
            return functional.binary_cross_entropy_with_logits(logits / temperature, targets).item()

        return confidences, loss

    def confidences_of_best(temperature: float) -> Confidences:
        scores, best = (logits / temperature).softmax(-1).max(-1)
        return Confidences(scores.numpy(), (best == labels).double().numpy())

    def loss_of_labels(temperature: float) -> float:
        return functional.cross_entropy(logits / temperature, labels, label_smoothing=smoothing).item()

    return confidences_of_best, loss_of_labels


def _of_entities(items: _Items) -> tuple[_Confidences, _Loss]:
    smoothing = 1 / (len(items.right) + 2)
    targets = items.right * (1 - 2 * smoothing) + smoothing

    def confidences(temperature: float) -> Confidences:
        return _entity_confidences(items, temperature)

    def loss(temperature: float) -> float:
        bounded = torch.from_numpy(confidences(temperature).scores).clamp(_SMALLEST, 1 - _SMALLEST)
        return functional.binary_cross_entropy(bounded, targets).item()

    return confidences, loss


def _entity_confidences(items: _Items, temperature: float) -> Confidences:
    """Return the scores of entities, each the mean probability of its words' tags, and which are right."""
    of_words = (items.logits / temperature).softmax(-1).gather(1, items.labels.unsqueeze(1)).squeeze(1)
    sums = torch.zeros(len(items.right), dtype=torch.double).index_add(0, items.entities, of_words)
    lengths = torch.bincount(items.entities, minlength=len(items.right))
    return Confidences((sums / lengths).numpy(), items.right.numpy())


def _minimize(loss: _Loss) -> float:
    """Return the temperature of the smallest loss: the best of a grid, refined by golden-section search."""
    grid = np.linspace(math.log(LOWEST), math.log(HIGHEST), GRID_POINTS)
    best = int(np.argmin([loss(math.exp(point)) for point in grid]))
    low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, GRID_POINTS - 1)])
    for _ in range(SEARCH_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if loss(math.exp(left)) <= loss(math.exp(right)):
            high = right
        else:
            low = left
    return round(math.exp((low + high) / 2), 4)
