"""Predictions as files to download: a table for a spreadsheet, and JSON lines with everything."""

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

from ..models.text_inputs import TEXT_COLUMN
from ..models.type_aliases import JsonObject
from ..runtime.atomic_files import write_text
from .answers import ModelAnswers, describe

CSV_NAME, JSONL_NAME = "predictions.csv", "predictions.jsonl"
# Excel takes a CSV without it for a file in the code page of the machine.
BYTE_ORDER_MARK = "\ufeff"


def write_predictions(folder: Path, answers: Sequence[ModelAnswers]) -> tuple[Path, Path]:
    """Write predictions as CSV and as JSON lines.

    Args:
        folder: Folder to write to. Equal predictions get the same files.
        answers: Predictions of one or two models. With two, the columns are named after the models too.

    Returns:
        The CSV file and the JSONL file.
    """
    lines, cells = _json_lines(answers), _csv_text(answers)
    key = hashlib.sha256((lines + cells).encode()).hexdigest()[:16]
    paths = folder / f"predictions-{key}" / CSV_NAME, folder / f"predictions-{key}" / JSONL_NAME
    for path, text in zip(paths, (BYTE_ORDER_MARK + cells, lines), strict=True):
        write_text(path, text)
    return paths


def _json_lines(answers: Sequence[ModelAnswers]) -> str:
    lines = []
    for i, text in enumerate(answers[0].predictions.texts):
        row: JsonObject = {TEXT_COLUMN: text.text}
        if len(answers) == 1:
            row |= answers[0].predictions.rows[i]
        else:
            row |= {"models": {answer.name: answer.predictions.rows[i] for answer in answers}}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    return "".join(lines)


def _csv_text(answers: Sequence[ModelAnswers]) -> str:
    columns = [(answer, task) for answer in answers for task in answer.predictions.tasks]
    header = [TEXT_COLUMN]
    rows = [[text.text] for text in answers[0].predictions.texts]
    for answer, task in columns:
        cells = [describe(task, row[task.name]) for row in answer.predictions.rows]
        name = task.name if len(answers) == 1 else f"{answer.name}: {task.name}"
        has_scores = any(cell.score is not None for cell in cells)
        header += [name, f"{name} score"] if has_scores else [name]
        for row, cell in zip(rows, cells, strict=True):
            row += [cell.text, "" if cell.score is None else f"{cell.score:.4f}"] if has_scores else [cell.text]
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows([header, *rows])
    return out.getvalue()
