"""Report of a training run: ``report.html`` and ``history.json`` in the output folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..models.layer_groups import layer_ranges
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ..models.type_aliases import JsonObject
from ..runtime.atomic_files import write_json
from ..runtime.byte_sizes import format_bytes
from ..runtime.fold_scores import FoldScores
from ..runtime.training_history import LogEntry
from ..training.conflict_log import format_cosine, mean_shares, read_conflict, summarize_conflict
from ..training.task_gradients import ALL
from .class_scores import class_scores, count_confusion, count_entity_errors
from .conflict_figures import draw_conflict
from .confusion_figures import MAX_SHOWN, draw_confusion, draw_regression, shown_labels
from .convergence import convergence_parts
from .figure_style import to_svg
from .mistakes import MAX_MISTAKES, label_issue_parts, mistake_examples, mistake_row, worst_rows
from .page import Paragraph, Part, Section, SvgFigure, Table, render_page
from .reliability_figure import draw_reliability, reliability_caption
from .split_result import SplitResult
from .training_curves import draw_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT_NAME = "report.html"
HISTORY_NAME = "history.json"
MAX_CLASSES = 100
MAX_PAIRS = 15
# Figures of pairs of tasks.
MAX_CONFLICTS = 6


@dataclass(frozen=True)
class TrainingRecord:
    """Record of a finished run.

    Args:
        facts: Facts about the run, as text by name.
        tasks: The tasks.
        history: ``trainer.state.log_history``.
        stages: Contents of ``stages.json``; empty without a schedule.
        results: Results by split.
        folds: Scores of the folds of a cross-validation.
    """

    facts: Mapping[str, str]
    tasks: Sequence[TaskConfig]
    history: Sequence[LogEntry]
    stages: Sequence[JsonObject]
    results: Mapping[str, SplitResult]
    folds: FoldScores | None = None

    @property
    def was_trained(self) -> bool:
        """Whether at least one training step was logged."""
        return any("loss" in entry for entry in self.history)


def write_history(folder: str | Path, record: TrainingRecord) -> None:
    """Write ``history.json``, the data of the training curves.

    Args:
        folder: Output folder of the run.
        record: Record of the run.
    """
    tasks = [task.to_dict() for task in record.tasks]
    values = {"history": record.history, "stages": record.stages, "tasks": tasks}
    write_json(Path(folder, HISTORY_NAME), values)


def write_report(folder: str | Path, record: TrainingRecord) -> None:
    """Write ``report.html``.

    Args:
        folder: Output folder of the run.
        record: Record of the run.

    Raises:
        ImportError: If matplotlib or jinja2 is not installed.
    """
    page = render_page(f"Training run {Path(folder).resolve().name}", report_sections(record))
    Path(folder, REPORT_NAME).write_text(page, encoding="utf-8")


def report_sections(record: TrainingRecord) -> list[Section]:
    """Build the sections of a run's report.

    Args:
        record: Record of the run.

    Returns:
        The sections of the page.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    facts = Table(["Run", ""], [[name, value] for name, value in record.facts.items()])
    sections = [Section("Run", [facts])]
    if record.folds is not None:
        sections.append(Section("Cross-validation", [folds_table(record.folds)]))
    if record.results or record.folds is None:
        sections.append(Section("Scores", [scores_table(record.results)]))
    sections.append(Section("Training curves", _curves(record)))
    if record.stages:
        sections.append(Section("Stages", [stage_table(record.stages)]))
    if conflict := conflict_parts([task.name for task in record.tasks], record.history):
        sections.append(Section("Sharing between tasks", conflict))
    if parts := convergence_parts(record.history):
        sections.append(Section("Layers that have stopped learning", parts))
    for task in record.tasks:
        sections.append(Section(f"Task {task.name}", _task_parts(task, record)))
    return sections


def scores_table(results: Mapping[str, SplitResult]) -> Table | Paragraph:
    """Return a table of the metrics, with one column per split."""
    if not results:
        return Paragraph("There are neither validation nor test rows, so nothing was scored.")
    names = dict.fromkeys(name for result in results.values() for name in result.metrics)
    rows = [[name, *(_number(result.metrics.get(name)) for result in results.values())] for name in names]
    return Table(["Metric", *results], rows, "The same numbers as in metrics.json.")


def folds_table(scores: FoldScores) -> Table:
    """Return a table of the metrics in each fold, with their mean and standard deviation."""
    header, *rows = scores.table()
    caption = (
        f"Scores of {len(scores.folds)} trainings, each on the rows of one fold that it did not train on. The model "
        "of this run was trained on all rows."
    )
    return Table(header, rows, caption)


def stage_table(stages: Sequence[JsonObject]) -> Table:
    """Return a table of the freeze stages, with one column per stage.

    Args:
        stages: Contents of ``stages.json``.
    """
    rows = [
        ["Trained groups", *(", ".join(layer_ranges(stage["trained_groups"])) or "nothing" for stage in stages)],
        ["Trainable parameters", *(f"{stage['trainable_parameters']:,}" for stage in stages)],
        ["Share of all weights", *(f"{stage['trainable_share']:.1%}" for stage in stages)],
        ["Reason for the start", *(stage["reason"] for stage in stages)],
        ["Steps", *(f"{stage['steps']:,}" for stage in stages)],
        ["Epochs", *(f"{stage['epochs']:g}" for stage in stages)],
        ["Seconds", *(f"{stage['seconds']:.1f}" if "seconds" in stage else "" for stage in stages)],
        [
            "Peak memory",
            *(
                format_bytes(stage["peak_memory_bytes"], "MiB") if stage.get("peak_memory_bytes") else ""
                for stage in stages
            ),
        ],
    ]
    for key, title in (("train_losses", "Mean training"), ("best", "Best")):
        for name in dict.fromkeys(name for stage in stages for name in stage[key]):
            rows.append([f"{title} {name}", *(_number(stage[key].get(name)) for stage in stages)])
    header = ["Stage", *(f"{i} {stage['name']}" for i, stage in enumerate(stages, start=1))]
    return Table(header, rows, "Trained groups, and the best value of each metric on validation, by stage.")


def conflict_parts(tasks: Sequence[str], history: Sequence[LogEntry]) -> list[Part]:
    """Return what a run has measured with ``conflict_steps``; empty without it.

    Args:
        tasks: Names of the tasks.
        history: ``trainer.state.log_history``.

    Returns:
        A sentence, a table of the means over the run, and a figure for each pair of tasks, the lowest cosines first.
    """
    pairs = [(pair.means(), pair) for pair in read_conflict(tasks, history)]
    if not pairs:
        return []
    pairs.sort(key=lambda found: found[0][ALL])
    rows = []
    for means, pair in pairs:
        by_group = {name: mean for name, mean in means.items() if name != ALL} or means
        lowest = min(by_group, key=lambda name: by_group[name])
        rows.append([" and ".join(pair.tasks), format_cosine(means[ALL]), format_cosine(by_group[lowest]), lowest])
    shares = [[name, f"{share:.0%}"] for name, share in mean_shares(tasks, history).items()]
    parts: list[Part] = [Paragraph(summarize_conflict(tasks, history) or "")]
    parts.append(Table(["Tasks", "Cosine", "Lowest", "In"], rows, "Means over the run of the cosines of gradients."))
    parts.append(Table(["Task", "Share"], shares, "Mean share of each task in the norm of the gradients."))
    for _, pair in pairs[:MAX_CONFLICTS]:
        caption = f"Cosine of the gradients of {' and '.join(pair.tasks)}: red where they pull apart."
        parts.append(SvgFigure(to_svg(draw_conflict(pair)), caption))
    return parts


def class_table(task: TaskConfig, split: str, result: SplitResult) -> Table:
    """Return a table of precision, recall and F1 of each label in a split, sorted by F1 from the lowest.

    Args:
        task: Task with labels.
        split: Name of the split.
        result: Result on the split.

    Returns:
        The table. For a token task, it has one row per entity type, with the kinds of errors.
    """
    predictions, labels = result.predictions(task), result.labels(task)
    scores = sorted(class_scores(task, predictions, labels), key=lambda score: score.f1)
    errors = count_entity_errors(task, predictions, labels) if task.is_token_task else {}
    header = ["Entity type" if errors else "Label", "Precision", "Recall", "F1", "Gold", "Predicted", "Correct"]
    header += ["Wrong type", "Wrong boundaries", "Missed", "Spurious"] if errors else []
    rows = []
    for score in scores[:MAX_CLASSES]:
        row = [score.label, *map(_number, (score.precision, score.recall, score.f1))]
        row += [f"{count:,}" for count in (score.gold, score.predicted, score.correct)]
        if errors:
            kinds = errors[score.label]
            row += [f"{n:,}" for n in (kinds.wrong_type, kinds.wrong_boundaries, kinds.missed, kinds.spurious)]
        rows.append(row)
    more = f" {MAX_CLASSES} of {len(scores)} are shown." if len(scores) > MAX_CLASSES else ""
    return Table(header, rows, f"By {header[0].lower()} on {split}, lowest F1 first.{more}")


def labeled_results(task: TaskConfig, record: TrainingRecord) -> dict[str, SplitResult]:
    """Return the results on the splits in which a row has a label of a task."""
    return {split: result for split, result in record.results.items() if result.has_labels(task)}


def draw_predictions(task: TaskConfig, result: SplitResult) -> "Figure | None":
    """Draw the predictions of a task against its gold labels.

    Args:
        task: The task.
        result: Result on a split.

    Returns:
        A confusion matrix, or a scatter plot for a regression. None for a task with several labels per row, in which
        labels are not alternatives, and if there is nothing to draw.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    if task.problem_type == MULTI_LABEL:
        return None
    predictions, labels = result.predictions(task), result.labels(task)
    if task.problem_type == REGRESSION:
        kept = np.isfinite(labels).all(axis=1) & np.isfinite(predictions).all(axis=1)
        return draw_regression(labels[kept], predictions[kept], task.labels or []) if kept.any() else None
    confusion = shown_labels(count_confusion(task, predictions, labels))
    return draw_confusion(confusion) if confusion.names else None


def _curves(record: TrainingRecord) -> list[Part]:
    if not record.was_trained:
        return [Paragraph("Nothing was trained: all groups are frozen, or no training step was logged.")]
    caption = "Training and validation losses, the main metric of each task on validation, and the learning rates."
    if record.stages:
        caption += " The bands are the numbered stages."
    return [SvgFigure(to_svg(draw_curves(record.history, record.stages, record.tasks)), caption)]


def _task_parts(task: TaskConfig, record: TrainingRecord) -> list[Part]:
    labeled = labeled_results(task, record)
    if not labeled:
        return [Paragraph("No validation or test row has a label of this task.")]
    parts: list[Part] = []
    if task.problem_type != REGRESSION:
        parts += [class_table(task, split, result) for split, result in labeled.items()]
    # Validation if possible: fixing mistakes found on test makes test useless as a test.
    split, result = next(iter(labeled.items()))
    figure = draw_predictions(task, result)
    if figure is not None:
        parts.append(SvgFigure(to_svg(figure), _figure_caption(task, split)))
    reliability = draw_reliability(task, labeled)
    if reliability is not None:
        parts.append(SvgFigure(to_svg(reliability), reliability_caption(task)))
    if not task.is_token_task and task.problem_type not in (MULTI_LABEL, REGRESSION):
        parts += _confused_pairs(task, split, result)
    return [*parts, *_mistakes(task, split, result), *label_issue_parts(task, split, result)]


def _figure_caption(task: TaskConfig, split: str) -> str:
    if task.problem_type == REGRESSION:
        return f"Predicted and gold numbers on {split}."
    caption = (
        f"Confusion matrix on {split}: gold labels (rows) and predicted labels (columns). Darker is more of the row."
    )
    if task.is_token_task:
        caption += (
            " Only entities with the same words match: an entity with wrong boundaries is missed (last column) and "
            "spurious (last row)."
        )
    if len(task.labels or []) > MAX_SHOWN:
        caption += f" At most {MAX_SHOWN} labels are shown, the ones with the most mistakes."
    return caption


def _confused_pairs(task: TaskConfig, split: str, result: SplitResult) -> list[Part]:
    confusion = count_confusion(task, result.predictions(task), result.labels(task))
    wrong = confusion.counts - np.diag(confusion.counts.diagonal())
    pairs = np.argwhere(wrong)
    order = np.argsort(-wrong[pairs[:, 0], pairs[:, 1]], kind="stable")[:MAX_PAIRS]
    rows = [[confusion.names[i], confusion.names[j], f"{wrong[i, j]:,}"] for i, j in pairs[order]]
    caption = f"Most frequent confusions on {split}."
    return [Table(["Gold", "Predicted", "Rows"], rows, caption)] if rows else []


def _mistakes(task: TaskConfig, split: str, result: SplitResult) -> list[Part]:
    """Return the worst mistakes with their texts."""
    wrong = worst_rows(task, result, None)
    if not wrong:
        return [Paragraph(f"All labeled rows of {split} are predicted correctly.")]
    worst = wrong[:MAX_MISTAKES]
    if task.problem_type == REGRESSION:
        caption = f"Largest errors on {split}: the {len(worst)} rows with the highest loss."
    else:
        shown = "all" if len(worst) == len(wrong) else f"the first {len(worst)}"
        caption = (
            f"Worst mistakes on {split}: {len(wrong):,} of {result.is_labeled(task).sum():,} rows are wrong; {shown} "
            "are shown, sorted by how sure the model was of its wrong answer."
        )
    if task.is_token_task:
        return [Paragraph(caption), *mistake_examples(task, result, worst)]
    rows = [mistake_row(task, result, row, score) for row, score in worst]
    return [
        Table(["Text", "Gold", "Predicted", "Loss" if task.problem_type == REGRESSION else "Score"], rows, caption)
    ]


def _number(value: float | None) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return "" if value is None else f"{value:.4f}"
