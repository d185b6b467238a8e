"""A study as a sortable table and as curves of its scenarios."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from ..models.type_aliases import JsonObject
from ..reports.training_curves import main_metric
from ..runtime.atomic_files import read_json
from ..runtime.training_history import EVAL_PREFIX, TrainingHistory
from ..study import ScenarioResult, Study, Summary
from .run_progress import CurvePoint

MEBIBYTE = 2**20

Cells: TypeAlias = list[str | float | None]
"""Cells of one row of the table."""


def study_table(study: Study) -> tuple[list[str], list[Cells]]:
    """Return the results of each scenario as numbers, which the page can sort.

    Args:
        study: The study.

    Returns:
        The header, and one row per scenario and number of training rows.
    """
    has_sd = any(
        score.sd is not None
        for item in study.scenarios
        for summary in item.summary
        for score in summary.scores.values()
    )
    header = ["scenario", "rows"]
    for task, metric in study.main_metrics.items():
        header += [metric, *([f"± {task}"] if has_sd else [])]
    header += ["mean score", "time, s", "total, s", "peak MiB", "trained weights", "drift", "loss gap", "not beaten"]
    rows = []
    for scenario in study.scenarios:
        for summary in scenario.summary:
            front = study.front(summary.size)
            rows.append(_row(study, scenario, summary, has_sd, "yes" if scenario.name in front else ""))
    return header, rows


PRICE_HEADER = ["way to train", "minutes", "mean score", "note", "scores"]


def price_list(study: Study) -> list[list[str]]:
    """Return what each scenario costs and scores with the most training rows, the cheapest first.

    Args:
        study: The study.

    Returns:
        Rows of a table with `PRICE_HEADER`. The note marks the winner, and what no other beats in both.
    """
    size = study.sizes[-1]
    winner = None if study.winner is None else study.winner.scenario
    rows = []
    for scenario, summary in sorted(study.summaries(size), key=lambda item: item[1].total_seconds):
        scores = ", ".join(f"{score.mean:.4f} ({study.main_metrics[task]})" for task, score in summary.scores.items())
        mark = (
            "recommended"
            if scenario.name == winner
            else "best for its time"
            if scenario.name in study.front(size)
            else ""
        )
        mean = "" if summary.overall is None else f"{summary.overall.mean:.4f}"
        rows.append([f"{scenario.name}\n{scenario.about}", _minutes(summary), mean, mark, scores])
    return rows


def price_points(study: Study) -> list[tuple[float, float, str]]:
    """Return minutes, mean score and name of each scenario that trains all tasks, with the most training rows."""
    return [
        (round(summary.total_seconds / 60, 3), round(summary.overall.mean, 4), scenario.name)
        for scenario, summary in study.summaries(study.sizes[-1])
        if summary.overall is not None
    ]


def curve_names(study: Study) -> dict[str, str]:
    """Return the available curves: keys of the trainer's history by title."""
    names = {
        f"{task.name}: {main_metric(task)} on validation": f"{EVAL_PREFIX}{task.name}_{main_metric(task)}"
        for task in study.tasks
    }
    return names | {f"{task.name}: loss on validation": f"{EVAL_PREFIX}{task.name}_loss" for task in study.tasks}


def study_curves(study: Study, size: int, name: str) -> list[CurvePoint]:
    """Return a curve of each scenario, from the run with its first seed.

    Args:
        study: The study.
        size: Number of training rows.
        name: Key of the trainer's history.

    Returns:
        The points. A run whose history was deleted has none.
    """
    points = []
    for scenario in study.scenarios:
        run = next((run for run in scenario.runs if run.size == size), None)
        history = TrainingHistory(_history(study.folder, run.history) if run else [])
        points += [CurvePoint(*point, scenario.name) for point in history.points(name)]
    return points


def _row(study: Study, scenario: ScenarioResult, summary: Summary, has_sd: bool, on_front: str) -> Cells:
    row: Cells = [scenario.name, summary.size]
    for task in study.main_metrics:
        score = summary.scores.get(task)
        row.append(None if score is None else _rounded(score.mean))
        if has_sd:
            row.append(None if score is None else _rounded(score.sd))
    row += [
        None if summary.overall is None else _rounded(summary.overall.mean),
        round(summary.seconds, 1),
        round(summary.total_seconds, 1),
        round(summary.peak_memory_bytes / MEBIBYTE),
        summary.trainable_parameters,
        _rounded(summary.drift.get("pooled")),
        _rounded(summary.loss_gap),
        on_front,
    ]
    return row


def _minutes(summary: Summary) -> str:
    minutes = summary.total_seconds / 60
    return f"{minutes:.1f}" if minutes >= 1 else f"{minutes:.2f}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _history(folder: Path, name: str) -> Sequence[JsonObject]:
    path = (folder / name).resolve()
    values = read_json(path) if path.is_relative_to(folder.resolve()) else None
    return values.get("history", []) if isinstance(values, dict) else []
