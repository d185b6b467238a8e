"""Predictions as the page shows them: bars and marked entities of one text, or a table of many."""

from collections.abc import Sequence
from html import escape
from typing import Any

from ..models import TaskConfig
from ..models.tasks import REGRESSION
from ..reports.page import Piece
from .answers import NOTHING, ModelAnswers, describe, differing_tasks, is_rejected
from .markup import bar, marked, paragraph, plain, raw_table

ROWS_SHOWN = 200
DIFFERS = "differs"


def show_one(answers: Sequence[ModelAnswers], scores: Sequence[ModelAnswers]) -> str:
    """Return the predictions for one text, with a column per model.

    Args:
        answers: Labels that the models predict.
        scores: Scores of the models' best labels.
    """
    differing = differing_tasks(answers, 0)
    columns = "".join(
        f'<section class="model"><h2 class="part">{escape(answer.name)}</h2>'
        + "".join(_show_task(task, answer, scored, task.name in differing) for task in answer.predictions.tasks)
        + "</section>"
        for answer, scored in zip(answers, scores, strict=True)
    )
    return f'<div class="models">{columns}</div>'


def show_many(answers: Sequence[ModelAnswers]) -> str:
    """Return a table of the predictions for many texts. Texts that two models see differently come first.

    Args:
        answers: Labels that the models predict.
    """
    texts = answers[0].predictions.texts
    differing = [differing_tasks(answers, row) for row in range(len(texts))]
    # Sorting keeps the order of the texts otherwise.
    order = sorted(range(len(texts)), key=lambda row: not differing[row])[:ROWS_SHOWN]
    header = ["text"]
    for answer in answers:
        header += [
            task.name if len(answers) == 1 else f"{task.name}: {answer.name}" for task in answer.predictions.tasks
        ]
    rows = [
        [
            plain(texts[row].text),
            *(_cell(task, answer, row, differing[row]) for answer in answers for task in answer.predictions.tasks),
        ]
        for row in order
    ]
    about = _about(len(texts), len(order), len(answers), sum(map(bool, differing)))
    return paragraph(about) + raw_table(header, rows, "Predictions")


def _about(count: int, shown: int, models: int, differing: int) -> str:
    words = [f"{count:,} texts."]
    if models > 1:
        words = [
            f"The models differ on {differing:,} of {count:,} texts."
            if differing
            else f"The models agree on all {count:,} texts."
        ]
        if differing and differing < count:
            words.append(f"Those come first, marked “{DIFFERS}”.")
    if shown < count:
        words.append(f"The first {shown:,} are shown; the download has all.")
    return " ".join(words)


def _cell(task: TaskConfig, answer: ModelAnswers, row: int, differing: set[str]) -> str:
    cell = describe(task, answer.predictions.rows[row][task.name])
    score = "" if cell.score is None else f' <span class="quiet">{cell.score:.0%}</span>'
    return f"{plain(cell.text)}{score}{_badge(task.name in differing)}"


def _show_task(task: TaskConfig, answer: ModelAnswers, scored: ModelAnswers, differs: bool) -> str:
    value = answer.predictions.rows[0][task.name]
    if task.is_token_task:
        body = _entities(answer.predictions.texts[0].text, value["entities"])
    elif task.problem_type == REGRESSION:
        body = paragraph(describe(task, value).text)
    else:
        body = "".join(bar(item["label"], item["score"]) for item in scored.predictions.rows[0][task.name])
        if is_rejected(value):
            body = paragraph(describe(task, value).text) + body
    kind = " differing" if differs else ""
    return f'<div class="answer{kind}"><h3>{escape(task.name)}{_badge(differs)}</h3>{body}</div>'


def _badge(differs: bool) -> str:
    return f' <span class="badge">{DIFFERS}</span>' if differs else ""


def _entities(text: str, entities: Sequence[dict[str, Any]]) -> str:
    """Return a text with its entities marked, and a bar with the score of each."""
    if not entities:
        return paragraph(f"{NOTHING} found")
    pieces: list[Piece] = []
    end = 0
    for entity in entities:
        pieces += [Piece(text[end : entity["start"]]), Piece(text[entity["start"] : entity["end"]], entity["label"])]
        end = entity["end"]
    bars = "".join(bar(f"{entity['text']} ({entity['label']})", entity["score"]) for entity in entities)
    return f"<p>{marked([*pieces, Piece(text[end:])])}</p>{bars}"
