"""Worst mistakes of a run as ``mistakes.json``, for programs that show them elsewhere than in the report."""

from collections.abc import Sequence
from pathlib import Path

from ..models.tasks import REGRESSION, TaskConfig
from ..models.type_aliases import JsonObject
from ..runtime.atomic_files import write_json
from .mistakes import mistake_examples, mistake_row, worst_rows
from .split_result import SplitResult
from .training_report import TrainingRecord, labeled_results

MISTAKES_NAME = "mistakes.json"
MAX_MISTAKES = 10


def write_mistakes(folder: str | Path, record: TrainingRecord) -> None:
    """Write ``mistakes.json``: the worst mistakes of each task on one split, with their texts.

    Args:
        folder: Output folder of the run.
        record: Record of the run.
    """
    tasks = [_task_mistakes(task, record) for task in record.tasks]
    write_json(Path(folder, MISTAKES_NAME), {"tasks": [task for task in tasks if task is not None]})


def _task_mistakes(task: TaskConfig, record: TrainingRecord) -> JsonObject | None:
    """Return the mistakes of a task, or None if no validation or test row has a label of it."""
    labeled = labeled_results(task, record)
    if not labeled:
        return None
    # Validation if possible, as in the report.
    split, result = next(iter(labeled.items()))
    wrong = worst_rows(task, result, None)
    worst = wrong[:MAX_MISTAKES]
    describe = _token_mistakes if task.is_token_task else _sequence_mistakes
    return {
        "task": task.name,
        "split": split,
        "rows": int(result.is_labeled(task).sum()),
        # Each row of a regression is off by something.
        "wrong": None if task.problem_type == REGRESSION else len(wrong),
        "mistakes": [
            {
                "row": row + 1,
                "text": result.texts[row].text,
                "text_pair": result.texts[row].text_pair,
                # Of a regression, the loss.
                "score": score,
                "lines": lines,
            }
            for (row, score), lines in zip(worst, describe(task, result, worst), strict=True)
        ],
    }


def _sequence_mistakes(
    task: TaskConfig, result: SplitResult, worst: Sequence[tuple[int, float]]
) -> list[list[JsonObject]]:
    lines = []
    for row, score in worst:
        text, gold, predicted, _ = mistake_row(task, result, row, score)
        named = {"text": text, "gold": gold, "predicted": predicted}
        lines.append([{"name": name, "pieces": [{"text": value, "label": ""}]} for name, value in named.items()])
    return lines


def _token_mistakes(
    task: TaskConfig, result: SplitResult, worst: Sequence[tuple[int, float]]
) -> list[list[JsonObject]]:
    return [
        [
            {"name": name, "pieces": [{"text": piece.text, "label": piece.label} for piece in pieces]}
            for name, pieces in example.lines
        ]
        for example in mistake_examples(task, result, worst)
    ]
