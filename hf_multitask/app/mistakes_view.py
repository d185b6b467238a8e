"""What a model gets wrong, as the page shows it."""

from collections.abc import Sequence

from ..models.type_aliases import JsonObject
from ..reports.page import Piece
from .markup import heading, marked, paragraph, raw_table

TITLE = "What the model gets wrong"
SHOWN = 5
# Words of the page for names of the reports.
COLUMNS = {"gold": "correct"}


def show_mistakes(tasks: Sequence[JsonObject]) -> str:
    """Return the worst mistakes of each task as HTML.

    Args:
        tasks: The tasks of ``mistakes.json``.
    """
    if not tasks:
        return ""
    return heading(TITLE) + "".join(map(_show_task, tasks))


def worst_text(tasks: Sequence[JsonObject]) -> str:
    """Return the text of the worst mistake, or an empty text if there is no mistake."""
    return next((_as_line(mistake["text"]) for task in tasks for mistake in task["mistakes"]), "")


def _show_task(task: JsonObject) -> str:
    worst = task["mistakes"][:SHOWN]
    about = _describe(task, len(worst))
    if not worst:
        return paragraph(about)
    names = [COLUMNS.get(line["name"], line["name"]) for line in worst[0]["lines"]]
    rows = [
        [marked(Piece(piece["text"], piece["label"]) for piece in line["pieces"]) for line in mistake["lines"]]
        for mistake in worst
    ]
    return paragraph(about) + raw_table(names, rows, f"Mistakes of {task['task']}")


def _describe(task: JsonObject, shown: int) -> str:
    name, split, rows, wrong = task["task"], task["split"], task["rows"], task["wrong"]
    if wrong is None:
        return f"{name}: the {shown} {split} rows with the largest errors."
    if not wrong:
        return f"{name}: all {rows:,} {split} rows are right."
    which = "They are listed" if shown == wrong else f"The {shown} worst are listed"
    return f"{name}: {wrong:,} of {rows:,} {split} rows are wrong. {which}, the most certain ones first."


def _as_line(text: str) -> str:
    return " ".join(text.split())
