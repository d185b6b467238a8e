"""The report of a training run: `REPORT_NAME` and `HISTORY_NAME` in its folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.row_texts import RowTexts
from ..models.layer_groups import layer_ranges
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ..runtime.atomic_files import write_json
from ..runtime.byte_sizes import format_bytes
from .class_scores import class_scores, count_confusion, count_entity_errors
from .confusion_figures import MAX_SHOWN, draw_confusion, draw_regression, shown_labels
from .figure_style import to_svg
from .mistakes import mistake_examples, mistake_row, worst_rows
from .page import Paragraph, Part, Section, SvgFigure, Table, render_page
from .training_curves import draw_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT_NAME = "report.html"
HISTORY_NAME = "history.json"
MAX_MISTAKES = 20
MAX_CLASSES = 100
MAX_PAIRS = 15


@dataclass(frozen=True)
class SplitResult:
    """What a run gave on one split.

    Args:
        metrics: The metrics, as ``metrics.json`` holds them.
        output: ``predictions`` and ``label_ids`` by task, as `MultiTaskTrainer.predict` returns them.
        texts: The texts of the rows.
    """

    metrics: Mapping[str, float]
    output: Any
    texts: RowTexts

    def has_labels(self, task: TaskConfig) -> bool:
        """Tell whether any row has a label of a task."""
        return bool(self.output.predictions[task.name]["count"].sum() > 0)


@dataclass(frozen=True)
class TrainingRecord:
    """What is known of a run at its end.

    Args:
        facts: What it was, in words by name.
        tasks: The tasks.
        history: ``trainer.state.log_history``.
        stages: The list in ``stages.json``; empty where there is none.
        results: What it gave, by split.
    """

    facts: Mapping[str, str]
    tasks: Sequence[TaskConfig]
    history: Sequence[Mapping[str, Any]]
    stages: Sequence[Mapping[str, Any]]
    results: Mapping[str, SplitResult]

    @property
    def was_trained(self) -> bool:
        """Whether a step was taken that was logged."""
        return any("loss" in entry for entry in self.history)


def write_history(folder: str | Path, record: TrainingRecord) -> None:
    """Write what curves are drawn from to ``history.json``.

    Args:
        folder: The run's folder.
        record: The run.
    """
    tasks = [task.to_dict() for task in record.tasks]
    values = {"history": record.history, "stages": record.stages, "tasks": tasks}
    write_json(Path(folder, HISTORY_NAME), values)


def write_report(folder: str | Path, record: TrainingRecord) -> None:
    """Write ``report.html``.

    Args:
        folder: The run's folder.
        record: The run.

    Raises:
        ImportError: If matplotlib or jinja2 is not installed.
    """
    page = render_page(f"Training run {Path(folder).resolve().name}", report_sections(record))
    Path(folder, REPORT_NAME).write_text(page, encoding="utf-8")


def report_sections(record: TrainingRecord) -> list[Section]:
    """Put a run's report together.

    Args:
        record: The run.

    Returns:
        The sections of the page.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    facts = Table(["Run", ""], [[name, value] for name, value in record.facts.items()])
    sections = [Section("Run", [facts]), Section("Scores", [scores_table(record.results)])]
    sections.append(Section("Course of the training", _course(record)))
    if record.stages:
        sections.append(Section("Stages", [stage_table(record.stages)]))
    for task in record.tasks:
        sections.append(Section(f"Task {task.name}", _task_parts(task, record)))
    return sections


def scores_table(results: Mapping[str, SplitResult]) -> Table | Paragraph:
    """Return the metrics with a column for each split."""
    if not results:
        return Paragraph("The data have neither validation nor test rows: nothing was scored.")
    names = dict.fromkeys(name for result in results.values() for name in result.metrics)
    rows = [[name, *(_number(result.metrics.get(name)) for result in results.values())] for name in names]
    return Table(["Metric", *results], rows, "The same numbers as in metrics.json.")


def stage_table(stages: Sequence[Mapping[str, Any]]) -> Table:
    """Return what each stage of freezing gave, with a column for each.

    Args:
        stages: The list in ``stages.json``.
    """
    rows = [
        ["Trains", *(", ".join(layer_ranges(stage["trained_groups"])) or "nothing" for stage in stages)],
        ["Parameters that train", *(f"{stage['trainable_parameters']:,}" for stage in stages)],
        ["Share of the weights", *(f"{stage['trainable_share']:.1%}" for stage in stages)],
        ["Begins with", *(stage["reason"] for stage in stages)],
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
    for key, what in (("train_losses", "Mean training"), ("best", "Best")):
        for name in dict.fromkeys(name for stage in stages for name in stage[key]):
            rows.append([f"{what} {name}", *(_number(stage[key].get(name)) for stage in stages)])
    header = ["Stage", *(f"{i} {stage['name']}" for i, stage in enumerate(stages, start=1))]
    return Table(header, rows, "What trained when; the best value of each metric on validation in each stage.")


def class_table(task: TaskConfig, split: str, output: Any) -> Table:
    """Return precision, recall and F1 of each label that occurs in a split; the lowest F1 first.

    Args:
        task: A task with labels.
        split: Name of the split.
        output: See `SplitResult`.

    Returns:
        The table; for a token task it has a row for each entity type and the kinds of mistakes.
    """
    found, labels = output.predictions[task.name]["ids"], output.label_ids[task.name]
    scores = sorted(class_scores(task, found, labels), key=lambda score: score.f1)
    errors = count_entity_errors(task, found, labels) if task.is_token_task else {}
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
    return Table(header, rows, f"By {header[0].lower()} on {split}, the lowest F1 first.{more}")


def draw_predictions(task: TaskConfig, output: Any) -> "Figure | None":
    """Draw what a task predicts for which gold label.

    Args:
        task: The task.
        output: See `SplitResult`.

    Returns:
        The figure: a confusion matrix, or the predicted numbers of a regression over the gold ones. None for a task
        with several labels a row, where no label stands for another.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    if task.problem_type == MULTI_LABEL:
        return None
    found, labels = output.predictions[task.name]["ids"], output.label_ids[task.name]
    if task.problem_type == REGRESSION:
        kept = np.isfinite(labels).all(axis=1) & np.isfinite(found).all(axis=1)
        return draw_regression(labels[kept], found[kept], task.labels or []) if kept.any() else None
    confusion = shown_labels(count_confusion(task, found, labels))
    return draw_confusion(confusion) if confusion.names else None


def _course(record: TrainingRecord) -> list[Part]:
    if not record.was_trained:
        return [Paragraph("Nothing was trained: every group is frozen, or the run took no step that was logged.")]
    caption = "Losses of training and validation, the main metric of each task on validation, and the learning rates."
    if record.stages:
        caption += " The bands are the stages, with their numbers."
    return [SvgFigure(to_svg(draw_curves(record.history, record.stages, record.tasks)), caption)]


def _task_parts(task: TaskConfig, record: TrainingRecord) -> list[Part]:
    labelled = {split: result for split, result in record.results.items() if result.has_labels(task)}
    if not labelled:
        return [Paragraph("No row of validation or test has a label of this task.")]
    parts: list[Part] = []
    if task.problem_type != REGRESSION:
        parts += [class_table(task, split, result.output) for split, result in labelled.items()]
    # Validation, where there is one: who mends what is wrong on test has no test any more.
    split = next(iter(labelled))
    result = labelled[split]
    figure = draw_predictions(task, result.output)
    if figure is not None:
        parts.append(SvgFigure(to_svg(figure), _figure_caption(task, split)))
    if not task.is_token_task and task.problem_type not in (MULTI_LABEL, REGRESSION):
        parts += _confused_pairs(task, split, result.output)
    return [*parts, *_mistakes(task, split, result)]


def _figure_caption(task: TaskConfig, split: str) -> str:
    if task.problem_type == REGRESSION:
        return f"Predicted and gold numbers on {split}."
    caption = f"Gold labels (rows) and what they are predicted as (columns) on {split}; darker is more of the row."
    if task.is_token_task:
        caption += (
            " An entity counts with all of its words: one with other ends is missed (last column) and spurious "
            "(last row)."
        )
    if len(task.labels or []) > MAX_SHOWN:
        caption += f" At most {MAX_SHOWN} labels are shown, those with most mistakes."
    return caption


def _confused_pairs(task: TaskConfig, split: str, output: Any) -> list[Part]:
    confusion = count_confusion(task, output.predictions[task.name]["ids"], output.label_ids[task.name])
    wrong = confusion.counts - np.diag(confusion.counts.diagonal())
    pairs = np.argwhere(wrong)
    order = np.argsort(-wrong[pairs[:, 0], pairs[:, 1]], kind="stable")[:MAX_PAIRS]
    rows = [[confusion.names[i], confusion.names[j], f"{wrong[i, j]:,}"] for i, j in pairs[order]]
    caption = f"The labels most often taken for another on {split}."
    return [Table(["Gold", "Predicted", "Rows"], rows, caption)] if rows else []


def _mistakes(task: TaskConfig, split: str, result: SplitResult) -> list[Part]:
    """Show the worst mistakes with their texts."""
    worst = worst_rows(task, result.output, MAX_MISTAKES)
    if not worst:
        return [Paragraph(f"Every labelled row of {split} is right.")]
    texts = {row: result.texts[row] for row, _ in worst}
    if task.is_token_task:
        about = Paragraph(f"The worst mistakes on {split}: rows that are wrong, those with the highest loss first.")
        return [about, *mistake_examples(task, result.output, worst, texts)]
    rows = [mistake_row(task, result.output, row, loss, texts[row]) for row, loss in worst]
    caption = f"The worst mistakes on {split}: those with the highest loss, where the model was most sure."
    return [Table(["Text", "Gold", "Predicted", "Loss"], rows, caption)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
