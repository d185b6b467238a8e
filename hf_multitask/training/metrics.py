"""Metrics by task: `evaluate.Metric` subclasses that work without the hub."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
from seqeval.metrics import f1_score
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support
from seqeval.scheme import IOB2
from sklearn import metrics as sklearn_metrics
from transformers import EvalPrediction
from transformers.trainer_utils import EvalLoopOutput

from ..data.labels.unseen_labels import count_unseen, in_scope_labels, is_unseen, seen_labels, tag_names
from ..models.losses import IGNORE_INDEX
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from .calibration import calibration_metric_names, calibration_scores
from .entity_precision import ANSWER_METRICS, answer_metric_names, answered_ids
from .scope import scope_metric_names, scope_scores

# Ends of the names of metrics: the number of labels that train lacks, and a score without them.
UNSEEN_LABELS, SEEN = "unseen_labels", "_seen"


class _TaskMetric(evaluate.Metric):
    """Base class of the metrics."""

    metric_names: tuple[str, ...] = ()
    main_metric = "accuracy"
    about = ""
    row_feature: Any = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(keep_in_memory=True, **kwargs)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.about,
            citation="",
            inputs_description="predictions and references, one of each per row",
            features=datasets.Features({"predictions": self.row_feature, "references": self.row_feature}),
        )


class LabelMetric(_TaskMetric):
    """Accuracy and macro F1 of one label per row. As in scikit-learn, F1 covers labels that occur in either."""

    metric_names = ("accuracy", "macro_f1")
    about = "Accuracy and macro F1 of one label per row."
    row_feature = datasets.Value("int64")

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        return {
            "accuracy": float(sklearn_metrics.accuracy_score(references, predictions)),
            "macro_f1": float(sklearn_metrics.f1_score(references, predictions, average="macro", zero_division=0)),
        }


class MultiLabelMetric(_TaskMetric):
    """Exact-match accuracy, micro F1 and macro F1 of several labels per row."""

    metric_names = ("accuracy", "micro_f1", "macro_f1")
    about = "Exact-match accuracy, micro F1 and macro F1 of several labels per row, 0 or 1 for each label."
    row_feature = datasets.List(datasets.Value("float32"))

    def _compute(self, predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]]) -> dict[str, float]:
        gold, found = np.array(references, dtype=np.int64), np.array(predictions, dtype=np.int64)
        return {
            "accuracy": float(sklearn_metrics.accuracy_score(gold, found)),
            "micro_f1": float(sklearn_metrics.f1_score(gold, found, average="micro", zero_division=0)),
            "macro_f1": float(sklearn_metrics.f1_score(gold, found, average="macro", zero_division=0)),
        }


class RegressionMetric(_TaskMetric):
    """Mean squared error and mean absolute error of the numbers of a row."""

    metric_names = ("mse", "mae")
    about = "Mean squared error and mean absolute error."
    row_feature = datasets.List(datasets.Value("float32"))

    def _compute(
        self, predictions: Sequence[Sequence[float]], references: Sequence[Sequence[float]]
    ) -> dict[str, float]:
        return {
            "mse": float(sklearn_metrics.mean_squared_error(references, predictions)),
            "mae": float(sklearn_metrics.mean_absolute_error(references, predictions)),
        }


class TagMetric(_TaskMetric):
    """Precision, recall and F1 of whole entities.

    ``precision``, ``recall`` and ``f1`` count like conlleval: an I- tag that continues nothing starts an entity.
    ``strict_f1`` counts only entities that IOB2 allows. seqeval computes them.
    """

    metric_names = ("precision", "recall", "f1", "strict_f1")
    main_metric = "f1"
    about = "Precision, recall and F1 of entities, as conlleval counts them, and strict IOB2 F1."
    row_feature = datasets.List(datasets.Value("string"))

    def _compute(self, predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float]:
        found, gold = [list(row) for row in predictions], [list(row) for row in references]
        precision, recall, f1, _ = precision_recall_fscore_support(gold, found, average="micro", zero_division=0)
        strict_f1 = f1_score(gold, found, mode="strict", scheme=IOB2, zero_division=0)
        scores = {"precision": precision, "recall": recall, "f1": f1, "strict_f1": strict_f1}
        return {name: float(score) for name, score in scores.items()}


def metric_of(task: TaskConfig) -> type[_TaskMetric]:
    """Return the metric that scores a task."""
    if task.is_token_task:
        return TagMetric
    return {MULTI_LABEL: MultiLabelMetric, REGRESSION: RegressionMetric}.get(str(task.problem_type), LabelMetric)


def watched_metric(task: TaskConfig) -> str:
    """Return the name of the metric that stands for a task: its main metric; of a regression, the absolute error."""
    return f"{task.name}_{'mae' if task.problem_type == REGRESSION else metric_of(task).main_metric}"


def task_metric_names(tasks: Sequence[TaskConfig]) -> list[str]:
    """Return the names of all metrics that every evaluation of the tasks can have, in the order of reports."""
    scores = [f"{task.name}_{name}" for task in tasks for name in metric_of(task).metric_names]
    calibration = [f"{task.name}_{name}" for task in tasks for name in calibration_metric_names(task)]
    scope = [f"{task.name}_{name}" for task in tasks for name in scope_metric_names(task)]
    answers = [f"{task.name}_{name}" for task in tasks for name in answer_metric_names(task)]
    losses = [*(f"{task.name}_loss" for task in tasks), "loss"]
    return [*scores, *_JOINT_SCORES, *losses, *calibration, *scope, *answers]


def reported_metric_names(tasks: Sequence[TaskConfig]) -> list[str]:
    """Return `task_metric_names` and the names of the metrics of a split that has labels which train lacks."""
    scores = [f"{task.name}_{name}" for task in tasks for name in metric_of(task).metric_names]
    seen = [f"{name}{SEEN}" for name in (*scores, *_JOINT_SCORES)]
    return [*task_metric_names(tasks), *(f"{task.name}_{UNSEEN_LABELS}" for task in tasks), *seen]


def build_compute_metrics(tasks: Sequence[TaskConfig]) -> Callable[[EvalPrediction], dict[str, float]]:
    """Build the function that `MultiTaskTrainer` calls at each evaluation.

    A label that train lacks counts as wrong. If there are any, the metrics have their number by task,
    ``<task>_unseen_labels`` (of entities for a token task), and each score without them, ``<task>_<metric>_seen`` and
    ``joint_accuracy_seen``, which leaves out the words of these entities, and these labels of other rows.

    Args:
        tasks: The tasks, with their labels.

    Returns:
        A function from predictions to metrics: ``<task>_<metric>`` and ``<task>_loss`` for each task that has labels
        in the split; ``<task>_ece``, ``<task>_brier`` and ``<task>_nll``, see `calibration_scores`; those of
        `scope_scores` for a task that abstains; ``<task>_answer_precision``, ``_recall`` and ``_f1`` of the entities
        that reach ``min_score``, and ``<task>_left_out``, the number of the others; ``loss``, the sum of the losses
        weighted by ``loss_weight``; ``joint_accuracy``, the share of fully labeled rows in which every task except
        regressions is right; or, if no row has labels for all of these tasks, ``mean_score``, the mean of their
        accuracies and, for token tasks, F1.
        It raises a ``TypeError`` for the predictions of another trainer.
    """
    tasks = list(tasks)

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        found = {task.name: _of_task(prediction, task) for task in tasks}
        ids = {name: values["ids"] for name, (values, _) in found.items()}
        labels = {name: in_scope_labels(gold) for name, (_, gold) in found.items()}
        metrics = _scores(tasks, ids, labels)
        for task in tasks:
            if found[task.name][0]["count"].sum() > 0:
                metrics[f"{task.name}_loss"] = _mean_loss(found[task.name][0])
            of_scores = calibration_scores(task, *found[task.name]) | scope_scores(task, *found[task.name])
            of_scores |= _answer_scores(task, *found[task.name])
            metrics |= {f"{task.name}_{name}": value for name, value in of_scores.items()}
        metrics["loss"] = total_loss(tasks, {name: values for name, (values, _) in found.items()})
        unseen = {task.name: count for task in tasks if (count := count_unseen(task, labels[task.name]))}
        if unseen:
            metrics |= {f"{name}_{UNSEEN_LABELS}": count for name, count in unseen.items()}
            of_seen = _scores(tasks, ids, {task.name: seen_labels(task, labels[task.name]) for task in tasks})
            names = (*(f"{task.name}_" for task in tasks if task.name in unseen), *_JOINT_SCORES)
            metrics |= {f"{name}{SEEN}": score for name, score in of_seen.items() if name.startswith(names)}
        return metrics

    return compute_metrics


_JOINT_SCORES = ("joint_accuracy", "mean_score")


def _scores(
    tasks: Sequence[TaskConfig], ids: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Return the scores by task that has labels, and the joint accuracy or the mean score."""
    metrics = {
        f"{task.name}_{name}": value
        for task in tasks
        if is_scored(task, labels[task.name])
        for name, value in task_metrics(task, ids[task.name], labels[task.name]).items()
    }
    right = [rows_right(task, ids[task.name], labels[task.name]) for task in tasks if task.problem_type != REGRESSION]
    if not right:
        return metrics
    labeled = np.all([row >= 0 for row in right], axis=0)
    if labeled.any():
        return metrics | {"joint_accuracy": float(np.all(right, axis=0)[labeled].mean())}
    scores = [metrics.get(f"{task.name}_{metric_of(task).main_metric}") for task in tasks]
    if found_scores := [score for score in scores if score is not None]:
        metrics["mean_score"] = float(np.mean(found_scores))
    return metrics


def is_scored(task: TaskConfig, labels: np.ndarray) -> bool:
    """Return whether any row has a label of a task, also if train lacks it.

    Args:
        task: The task.
        labels: Labels as the collator returns them (rows, …).
    """
    if task.problem_type in (MULTI_LABEL, REGRESSION):
        return not np.isnan(labels).any(axis=1).all()
    return bool((labels != IGNORE_INDEX).any())


def total_loss(tasks: Sequence[TaskConfig], predictions: Mapping[str, Mapping[str, np.ndarray]]) -> float:
    """Return the sum of the mean losses of tasks that have labels, weighted by ``loss_weight``.

    Args:
        tasks: The tasks.
        predictions: By task, ``loss`` and ``count`` of each row, see `reduce_predictions`.
    """
    loss = 0.0
    for task in tasks:
        if predictions[task.name]["count"].sum() > 0:
            loss += task.loss_weight * _mean_loss(predictions[task.name])
    return loss


def with_loss_only(tasks: Sequence[TaskConfig], output: EvalLoopOutput, prefix: str) -> EvalLoopOutput:
    """Return the output of an evaluation that was asked for losses only with their sum as in other evaluations.

    The Trainer takes the mean over batches, which depends on their size.

    Args:
        tasks: The tasks.
        output: Output of an evaluation. It is returned unchanged if it has labels.
        prefix: Prefix of its metrics.
    """
    losses: Any = output.predictions
    if output.label_ids is not None or losses is None or any("loss" not in losses[task.name] for task in tasks):
        return output
    metrics = {**(output.metrics or {}), f"{prefix}_loss": total_loss(tasks, losses)}
    return output._replace(
        predictions=None,  # type: ignore[arg-type]  # as the Trainer returns it for losses only
        metrics=metrics,
    )


def _answer_scores(task: TaskConfig, values: Mapping[str, np.ndarray], labels: np.ndarray) -> dict[str, float]:
    """Return the scores of a token task without the entities below its ``min_score``, and the number of these."""
    if task.min_score is None or "score" not in values or not is_scored(task, labels):
        return {}
    ids, left_out = answered_ids(task, values, labels)
    scores = task_metrics(task, ids, labels)
    return dict(
        zip(ANSWER_METRICS, (*(scores[name] for name in ("precision", "recall", "f1")), left_out), strict=True)
    )


def _mean_loss(prediction: Mapping[str, np.ndarray]) -> float:
    return float(prediction["loss"].sum(dtype=np.float64) / prediction["count"].sum())


def task_metrics(task: TaskConfig, predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Score the labeled rows of one task.

    Args:
        task: The task.
        predictions: Predictions as `decode` returns them (rows, …).
        labels: Labels as the collator returns them (rows, …).

    Returns:
        The metrics by name.
    """
    metric = metric_of(task)()
    if task.is_token_task:
        kept = labels != IGNORE_INDEX
        rows = np.flatnonzero(kept.any(axis=1))
        return metric.compute(
            predictions=[tag_names(task, predictions[i][kept[i]]) for i in rows],
            references=[tag_names(task, labels[i][kept[i]]) for i in rows],
        )
    if task.problem_type == MULTI_LABEL:
        predictions, labels = with_unseen_columns(task, predictions, labels)
    are_numbers = task.problem_type in (MULTI_LABEL, REGRESSION)
    kept = ~np.isnan(labels).any(axis=1) if are_numbers else labels != IGNORE_INDEX
    return metric.compute(predictions=predictions[kept].tolist(), references=labels[kept].tolist())


def rows_right(task: TaskConfig, predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return whether all labels of each row are predicted: 1 if so, 0 if not, -1 for rows without a label.

    Args:
        task: The task.
        predictions: Decoded predictions (rows, …).
        labels: Labels as the collator returns them (rows, …).
    """
    if task.problem_type == MULTI_LABEL:
        predictions, labels = with_unseen_columns(task, predictions, labels)
    missing = np.isnan(labels) if task.problem_type == MULTI_LABEL else labels == IGNORE_INDEX
    equal = (predictions == labels) | missing
    if equal.ndim > 1:
        equal, missing = equal.all(axis=1), missing.all(axis=1)
    return np.where(missing, -1, equal.astype(np.int64))


def with_unseen_columns(
    task: TaskConfig, predictions: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions and labels of a multi-label task with a column, 0 or 1, for each label that train lacks.

    Args:
        task: The task.
        predictions: Decoded predictions (rows, num_labels).
        labels: Labels as the collator returns them: numbers, followed by the ids of unseen labels (rows, …).
    """
    known, ids = labels[:, : task.num_labels], labels[:, task.num_labels :]
    columns = [(ids == label).any(axis=1) for label in np.unique(ids[is_unseen(ids)])]
    if not columns:
        return predictions, known
    unseen = np.stack(columns, axis=1).astype(known.dtype)
    return np.hstack([predictions, np.zeros_like(unseen)]), np.hstack([known, unseen])


def _of_task(prediction: EvalPrediction, task: TaskConfig) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the reduced predictions and the labels of a task. `MultiTaskTrainer` has mappings by task here."""
    predictions: Any = prediction.predictions
    labels: Any = prediction.label_ids
    if not isinstance(labels, Mapping) or not isinstance(predictions, Mapping) or "ids" not in predictions[task.name]:
        raise TypeError(
            "compute_metrics: expected the predictions of a MultiTaskTrainer, found those of another trainer, which "
            "have logits. Replace Trainer(…, compute_metrics=build_compute_metrics(tasks)) by MultiTaskTrainer(…), "
            "which has these metrics already."
        )
    return predictions[task.name], labels[task.name]
