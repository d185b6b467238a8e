"""What commands print: metrics as a table, a prediction with its entities marked."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_metrics(metrics: Mapping[str, Mapping[str, float]], console: Console | None = None) -> None:
    """Print metrics as a table with a column for each split.

    Args:
        metrics: Metrics by split.
        console: Where to print; standard output where None.
    """
    table = Table("metric", *metrics)
    for name in dict.fromkeys(name for values in metrics.values() for name in values):
        table.add_row(name, *(f"{values[name]:.4f}" if name in values else "" for values in metrics.values()))
    (console or Console()).print(table)


def print_prediction(text: str, prediction: Mapping[str, Any], console: Console | None = None) -> None:
    """Print a text with its entities marked, and the labels of its sequence tasks.

    Args:
        text: The text.
        prediction: What `predict` yields for it.
        console: Where to print; standard output where None.
    """
    console = console or Console()
    for task, value in prediction.items():
        shown = _marked(text, value["entities"]) if "entities" in value else escape(_described(value))
        console.print(f"[bold]{task}[/bold]: {shown}", highlight=False, soft_wrap=True)


def _described(value: Mapping[str, Any]) -> str:
    if "label" in value:
        return f"{value['label']} ({value['score']:.3f})"
    if "labels" in value:
        return ", ".join(f"{name} ({score:.3f})" for name, score in zip(value["labels"], value["scores"], strict=True))
    return str(value.get("value", value.get("values")))


def _marked(text: str, entities: Sequence[Mapping[str, Any]]) -> str:
    parts, start = [], 0
    for entity in entities:
        parts.append(escape(text[start : entity["start"]]))
        parts.append(f"[bold cyan]\\[{escape(entity['text'])}][/bold cyan][cyan]({escape(entity['label'])})[/cyan]")
        start = entity["end"]
    return "".join([*parts, escape(text[start:])])
