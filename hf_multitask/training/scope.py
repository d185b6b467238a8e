"""Texts out of scope: thresholds of tasks that abstain, fitted on validation, and how well they are told apart."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from accelerate.utils import gather_object
from sklearn.metrics import average_precision_score, roc_auc_score

from ..data.labels.unseen_labels import OUT_OF_SCOPE
from ..models.abstention import Abstention
from ..models.heads_scope import SCOPE_END, NearestNeighbors, ScopeStatistic
from ..models.tasks import TaskConfig
from ..runtime.processes import log_once

logger = logging.getLogger(__name__)

SCOPE_METRICS = ("false_rejections", "scope_recall", "scope_precision", "scope_auroc", "scope_auprc")


@dataclass(frozen=True)
class ThresholdFit:
    """Threshold of a task, fitted on validation.

    Args:
        abstention: The task's abstention, with the threshold.
        false_rejections: Share of the rows in scope that it rejects.
        recall: Share of the rows out of scope that it rejects; None without any.
    """

    abstention: Abstention
    false_rejections: float
    recall: float | None

    def __str__(self) -> str:
        """Return the fit as part of a sentence."""
        found = "" if self.recall is None else f" and {self.recall:.1%} of the rows out of scope"
        return (
            f"{self.abstention.method} below {self.abstention.threshold:.4g} is out of scope; it rejects "
            f"{self.false_rejections:.1%} of the rows in scope{found}"
        )


class ScopeCollector:
    """Collects from the batches of an evaluation what thresholds are fitted on.

    Args:
        tasks: Tasks of the model.
    """

    def __init__(self, tasks: Sequence[TaskConfig]) -> None:
        self.tasks = [task for task in tasks if task.abstention is not None]
        self._statistics: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {task.name: [] for task in self.tasks}

    def add(
        self,
        logits: Mapping[str, torch.Tensor],
        labels: Mapping[str, torch.Tensor],
        tag_positions: torch.Tensor | None,
    ) -> None:
        """Add a batch; see `LogitCollector.add`."""
        for task in self.tasks:
            if task.abstention is not None:
                statistic = task.abstention.statistic(logits[task.name], logits.get(f"{task.name}{SCOPE_END}"))
                self._statistics[task.name].append((statistic.cpu().numpy(), labels[task.name].cpu().numpy()))

    def fit(self) -> dict[str, ThresholdFit | None]:
        """Fit the thresholds on the batches of all processes.

        Returns:
            The fit of each task that abstains; None if no row has a label of it.
        """
        return {task.name: _fit(task, gather_object(self._statistics[task.name])) for task in self.tasks}


class StateCollector:
    """Collects pooled states and labels of training rows, and fits the statistics of states on them.

    Args:
        tasks: Tasks of the model.
        statistics: By task that abstains by its states, the statistic in its head.
    """

    def __init__(self, tasks: Sequence[TaskConfig], statistics: Mapping[str, ScopeStatistic]) -> None:
        self.tasks = [task for task in tasks if task.name in statistics]
        self.statistics = statistics
        self._seen: dict[str, torch.Tensor] = {}
        self._states: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {task.name: [] for task in self.tasks}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Remember the states that the statistics read in this context."""
        hooks = [
            statistic.register_forward_pre_hook(lambda _, inputs, name=name: self._seen.update({name: inputs[0]}))
            for name, statistic in self.statistics.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def add(
        self,
        logits: Mapping[str, torch.Tensor],
        labels: Mapping[str, torch.Tensor],
        tag_positions: torch.Tensor | None,
    ) -> None:
        """Add a batch; see `LogitCollector.add`."""
        for task in self.tasks:
            gold = labels[task.name]
            states = self._seen[task.name][: len(gold)]
            self._states[task.name].append((states[gold >= 0].float().cpu(), gold[gold >= 0].cpu()))

    def fit(self) -> None:
        """Fit the statistics on the batches of all processes. A task without a labeled row keeps its own."""
        for task in self.tasks:
            batches = gather_object(self._states[task.name])
            states, labels = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
            if not len(states) or task.abstention is None:
                continue
            statistic = self.statistics[task.name]
            statistic.fit(states, labels)
            stored = len(statistic.index) if isinstance(statistic, NearestNeighbors) else 0
            task.abstain = replace(task.abstention, stored=stored).to_dict()


def set_thresholds(tasks: Sequence[TaskConfig], fits: Mapping[str, ThresholdFit | None]) -> dict[str, ThresholdFit]:
    """Set the thresholds of tasks, and log them.

    Args:
        tasks: Tasks of the model.
        fits: What `ScopeCollector.fit` returns.

    Returns:
        The fits that there are.
    """
    by_name = {task.name: task for task in tasks}
    for name, fit in fits.items():
        if fit is None:
            log_once(logger, "Task %r does not abstain: no row has a label of it.", name)
            continue
        by_name[name].abstain = fit.abstention.to_dict()
        log_once(logger, "Task %r: %s.", name, fit)
    return {name: fit for name, fit in fits.items() if fit is not None}


def scope_metric_names(task: TaskConfig) -> tuple[str, ...]:
    """Return the names of the metrics of `scope_scores`; none for a task that does not abstain."""
    return () if task.abstention is None else SCOPE_METRICS


def scope_scores(task: TaskConfig, values: Mapping[str, np.ndarray], labels: np.ndarray) -> dict[str, float]:
    """Measure how well a task tells texts out of scope from those in scope.

    Args:
        task: The task.
        values: Reduced predictions of the task, see `reduce_predictions`.
        labels: Labels as the collator returns them (rows,).

    Returns:
        ``scope_auroc`` and ``scope_auprc`` of the statistic, with out of scope as the positive class, if there are
        rows of both kinds. With a threshold: ``false_rejections``, the share of the rows in scope that are rejected,
        and, with rows out of scope, ``scope_recall`` and ``scope_precision`` of the rejections. Empty for a task that
        does not abstain.
    """
    abstention = task.abstention
    if abstention is None or "statistic" not in values:
        return {}
    inside, outside = values["statistic"][labels >= 0], values["statistic"][labels == OUT_OF_SCOPE]
    scores: dict[str, float] = {}
    if abstention.threshold is not None and len(inside):
        scores["false_rejections"] = float((inside < abstention.threshold).mean())
    if abstention.threshold is not None and len(outside):
        rejected = (inside < abstention.threshold).sum(), (outside < abstention.threshold).sum()
        scores["scope_recall"] = float(rejected[1] / len(outside))
        scores["scope_precision"] = float(rejected[1] / max(sum(rejected), 1))
    if len(inside) and len(outside):
        is_outside = np.repeat([0, 1], [len(inside), len(outside)])
        statistic = -np.concatenate([inside, outside])
        scores["scope_auroc"] = float(roc_auc_score(is_outside, statistic))
        scores["scope_auprc"] = float(average_precision_score(is_outside, statistic))
    return scores


def _fit(task: TaskConfig, batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> ThresholdFit | None:
    abstention = task.abstention
    if abstention is None or not batches:
        return None
    statistics, labels = (np.concatenate(arrays).astype(np.float64) for arrays in zip(*batches, strict=True))
    inside, outside = statistics[labels >= 0], statistics[labels == OUT_OF_SCOPE]
    if not len(inside):
        return None
    # With other methods, the expected share of new texts below the quantile is above the wanted one.
    threshold = float(np.quantile(inside, abstention.false_rejections, method="weibull"))
    if len(outside):
        threshold = _best_balance(inside, outside)
    fitted = replace(abstention, threshold=threshold, scale=max(float(inside.std()), 1e-6))
    recall = float((outside < threshold).mean()) if len(outside) else None
    return ThresholdFit(fitted, float((inside < threshold).mean()), recall)


def _best_balance(inside: np.ndarray, outside: np.ndarray) -> float:
    """Return the threshold with the greatest mean of accepted rows in scope and rejected rows out of scope."""
    candidates = np.unique(np.concatenate([inside, outside]))
    between = np.concatenate([candidates[:1], (candidates[1:] + candidates[:-1]) / 2, candidates[-1:] + 1e-6])
    accepted = 1 - np.searchsorted(np.sort(inside), between, side="left") / len(inside)
    rejected = np.searchsorted(np.sort(outside), between, side="left") / len(outside)
    return float(between[np.argmax(accepted + rejected)])
