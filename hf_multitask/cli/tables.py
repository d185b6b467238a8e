"""Output of commands: tables of metrics, stages, plans and files, and a prediction with its entities."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from ..export import ExportedFile
from ..freezing.plan import PLAN_HEADER, StagePlan
from ..runs import AveragedModel
from ..runtime.byte_sizes import format_bytes
from ..runtime.fold_scores import MEAN, SD
from .console_table import print_cells


def print_metrics(metrics: Mapping[str, Mapping[str, float]], console: Console | None = None) -> None:
    """Print metrics as a table with one column per split. The means over folds have their standard deviations.

    Args:
        metrics: Metrics by split.
        console: Console to print to. Defaults to standard output.
    """
    spread = metrics.get(SD, {})
    columns = {split: values for split, values in metrics.items() if split != SD}
    rows = []
    for name in dict.fromkeys(name for values in columns.values() for name in values):
        cells = [_number(values[name]) if name in values else "" for values in columns.values()]
        if MEAN in columns and name in spread:
            cells[list(columns).index(MEAN)] += f" ± {spread[name]:.4f}"
        rows.append([name, *cells])
    print_cells(["metric", *columns], rows, console)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def print_stages(stages: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print the results of stages as a table with one column per stage: costs, losses and the best validation scores.

    Args:
        stages: Content of ``stages.json``.
        console: Console to print to. Defaults to standard output.
    """
    rows: dict[str, list[str]] = {
        "steps": [str(stage["steps"]) for stage in stages],
        "seconds": [f"{stage['seconds']:.0f}" for stage in stages],
        "trainable parameters": [f"{stage['trainable_parameters']:,}" for stage in stages],
        "peak memory": [format_bytes(stage["peak_memory_bytes"], "MiB") for stage in stages],
        "mean training loss": [
            f"{stage['train_losses']['loss']:.4f}" if "loss" in stage["train_losses"] else "" for stage in stages
        ],
    }
    for name in dict.fromkeys(name for stage in stages for name in stage["best"]):
        rows[name] = [f"{stage['best'][name]:.4f}" if name in stage["best"] else "" for stage in stages]
    header = ["best on validation", *(stage["name"] for stage in stages)]
    print_cells(header, [[name, *cells] for name, cells in rows.items()], console)


def print_files(files: Sequence[ExportedFile], console: Console | None = None) -> None:
    """Print exported files as a table, with their sizes and the differences of their logits from the model's.

    Args:
        files: Files that `export_onnx` returns.
        console: Console to print to. Defaults to standard output.
    """
    rows = [[str(file.path), format_bytes(file.num_bytes, "MiB"), f"{file.difference:.1e}"] for file in files]
    print_cells(["file", "size", "largest difference of logits"], rows, console)


def print_average(averaged: AveragedModel, console: Console | None = None) -> None:
    """Print the models of an average with their scores, and the metrics of the average.

    Args:
        averaged: Result of `average_models`.
        console: Console to print to. Defaults to standard output.
    """
    metric = next((item.score[0] for item in averaged.ingredients if item.score is not None), "score")
    rows = [
        [item.name, "yes" if item.is_used else "no", "" if item.score is None else f"{item.score[1]:.4f}"]
        for item in averaged.ingredients
    ]
    print_cells(["model", "part of the average", metric], rows, console)
    if averaged.metrics:
        print_metrics({"average": averaged.metrics}, console)


def print_plan(stages: Sequence[StagePlan], console: Console | None = None) -> None:
    """Print the stages of a schedule as a table.

    Args:
        stages: Result of `run_plan`.
        console: Console to print to. Defaults to standard output.
    """
    print_cells(PLAN_HEADER, [stage.in_words() for stage in stages], console)


def print_prediction(text: str, prediction: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the predictions for a text: its entities in place, and the labels of its sequence tasks.

    Args:
        text: The text.
        prediction: Predictions of the `MultiTaskPipeline` by task.
        console: Console to print to. Defaults to standard output.
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
