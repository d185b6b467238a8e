"""Commands that use trained models."""

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    AnnotationTool,
    BatchSize,
    Columns,
    Delimiter,
    Encoding,
    Format,
    Header,
    ModelDir,
    OutOfScope,
    Quoting,
    Revision,
    Sheet,
    check_file,
)
from .program import INTERRUPTED, LibraryCommand

commands = typer.Typer()


@commands.command(cls=LibraryCommand)
def evaluate(
    model_dir: ModelDir,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="File with labels, in any format that train reads.")],
    batch_size: BatchSize = 64,
    format: Format = None,
    columns: Columns = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    quoting: Quoting = None,
    header: Header = None,
    sheet: Sheet = None,
    tasks: Annotated[
        str | None, typer.Option(metavar="NAME,…", help="Tasks that DATA has labels for. Defaults to all.")
    ] = None,
    tag_scheme: Annotated[
        str | None, typer.Option(help="Tag scheme of DATA, if it differs from the training data.")
    ] = None,
    out_of_scope: OutOfScope = None,
    unseen_labels: Annotated[
        str,
        typer.Option(
            help="Labels that the model does not have: error, or ignore, which counts them as wrong and adds scores "
            "without them."
        ),
    ] = "error",
    output: Annotated[
        Path | None, typer.Option(help="Also write the metrics, and how many rows they are of, to this JSON file.")
    ] = None,
    mistakes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also list the wrong answers, those of which the model was surest first, in this file (JSON Lines), "
            "and print the commonest.",
        ),
    ] = None,
    label_issues: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also list the rows whose label in DATA is most likely wrong in this file. The model must not have "
            "been trained on them; `label-issues` does this for training rows.",
        ),
    ] = None,
    tool: AnnotationTool = None,
    revision: Revision = None,
) -> None:
    """Score a trained model on labeled rows."""
    from accelerate import PartialState

    from ..models import load_model
    from ..reports.review import Review, check_tool
    from ..runs.evaluation import score_rows
    from ..runs.output_dir import SUPPORT
    from ..runtime.atomic_files import write_json
    from .overrides import parse_names, reading_values
    from .review import check_review_options, write_review
    from .tables import print_metrics

    check_review_options(tool, mistakes, label_issues)
    options = reading_values(format, columns, delimiter, encoding, quoting, header, sheet)
    options["tag_scheme"] = tag_scheme
    options["tasks"] = None if tasks is None else list(parse_names(tasks) or ())
    options["out_of_scope"] = None if out_of_scope is None else {"test": out_of_scope}
    model, tokenizer = load_model(model_dir, revision=revision)
    check_tool(tool, [task for task in model.config.tasks if tasks is None or task.name in options["tasks"]])
    result = score_rows(model, tokenizer, data, batch_size, unseen_labels=unseen_labels, **options)
    if PartialState().is_main_process:
        print_metrics({data.stem: result.metrics})
        if output is not None:
            write_json(output, {**result.metrics, SUPPORT: result.support(model.config.tasks)})
        write_review(Review(model.config.tasks, result), tool, mistakes, label_issues)


@commands.command(cls=LibraryCommand)
def calibrate(
    model_dir: ModelDir,
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="File with labels that the model was not trained on: validation.")
    ],
    batch_size: BatchSize = 64,
    format: Format = None,
    columns: Columns = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    quoting: Quoting = None,
    header: Header = None,
    sheet: Sheet = None,
    out_of_scope: OutOfScope = None,
) -> None:
    """Fit the temperatures and thresholds of a trained model, and write them into its config."""
    from ..runs.calibration import calibrate_model
    from .overrides import reading_values

    options = reading_values(format, columns, delimiter, encoding, quoting, header, sheet)
    options["out_of_scope"] = None if out_of_scope is None else {"test": out_of_scope}
    if calibrate_model(model_dir, data, batch_size, **options):
        typer.echo(f"The temperatures are in {Path(model_dir, 'config.json')}")


@commands.command("predict", cls=LibraryCommand)
def predict_command(
    model_dir: ModelDir,
    rows: Annotated[
        Path,
        typer.Argument(metavar="INPUT", help="File with `text` or `tokens`, or a .txt file with one text per line."),
    ],
    output: Annotated[Path, typer.Option(help="File to write, with one row per input row: .jsonl, .csv or .parquet.")],
    batch_size: Annotated[
        str, typer.Option(metavar="auto|N", help="Rows per batch and device; auto measures which size is fastest.")
    ] = "auto",
    workers: Annotated[
        int, typer.Option(min=0, help="Number of processes that read and tokenize ahead, for a fast GPU.")
    ] = 0,
    format: Format = None,
    columns: Columns = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    quoting: Quoting = None,
    header: Header = None,
    sheet: Sheet = None,
    keep: Annotated[
        str | None, typer.Option(metavar="COLUMN,…", help="Columns of INPUT to copy to OUTPUT, such as id.")
    ] = None,
    tasks: Annotated[str | None, typer.Option(metavar="NAME,…", help="Tasks to predict. Defaults to all.")] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Number of labels to list with their scores.")] = None,
    threshold: Annotated[
        float,
        typer.Option(help="Probability above which a label is predicted, for tasks with several labels per row."),
    ] = 0.5,
    min_score: Annotated[
        float | None,
        typer.Option(help="Score from which an entity is written; 0 writes all. Defaults to that of each task."),
    ] = None,
    word_labels: Annotated[bool, typer.Option(help="Also write the words and the label of each word.")] = True,
    tag_scheme: Annotated[
        str, typer.Option(help="Tag scheme of these labels; `original` is the scheme of the training data.")
    ] = "IOB2",
    on_error: Annotated[
        str,
        typer.Option(
            metavar="stop|skip",
            help="Whether an invalid row stops the command or is skipped and written to OUTPUT.errors.jsonl.",
        ),
    ] = "stop",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace OUTPUT, and the unfinished parts of another run.")
    ] = False,
    revision: Revision = None,
) -> None:
    """Predict all tasks for each row of a file of any size. After an interruption, the same command continues."""
    from ..data.readers.reading_options import ReadingOptions
    from ..models import load_model
    from ..models.predictor import OutputOptions
    from ..prediction import BulkPrediction
    from .overrides import parse_columns, parse_names
    from .progress_bar import show_progress

    job = BulkPrediction(
        rows,
        output,
        OutputOptions(parse_names(tasks), top_k, threshold, min_score, word_labels, tag_scheme),
        keep=parse_names(keep) or (),
        format=format,
        columns=parse_columns(columns),
        reading=ReadingOptions(delimiter, encoding, quoting, header, sheet),
        batch_size=int(batch_size) if batch_size.isdecimal() else batch_size,
        workers=workers,
        on_error=on_error,
        overwrite=overwrite,
    )
    model, tokenizer = load_model(model_dir, revision=revision)
    with show_progress("rows") as on_progress:
        try:
            counts = job.run(model, tokenizer, on_progress)
        except KeyboardInterrupt:
            typer.echo("\nInterrupted; the same command continues from here.", err=True)
            raise typer.Exit(INTERRUPTED) from None
    if counts is not None:
        earlier = f" ({counts.earlier} of them by an earlier run)" if counts.earlier else ""
        skipped = f", {counts.skipped} skipped: see {job.errors_path}" if counts.skipped else ""
        typer.echo(f"{counts.read} rows read{earlier}, {counts.predicted} predicted{skipped}. Written to {output}")


@commands.command(cls=LibraryCommand)
def average(
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder to write the average to.")],
    folders: Annotated[list[str], typer.Argument(metavar="MODEL_DIR…", help="Folders or hub names of the models.")],
    data: Annotated[
        Path | None,
        typer.Option(help="File with labels, to score each model and the average: validation.", callback=check_file),
    ] = None,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Leave out each model that makes the score of the average worse.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model in OUTPUT.")] = False,
    batch_size: BatchSize = 64,
    format: Format = None,
    columns: Columns = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    quoting: Quoting = None,
    header: Header = None,
    sheet: Sheet = None,
) -> None:
    """Average the weights of models of the same tasks, such as those of several seeds."""
    from ..runs import average_models
    from .overrides import reading_values
    from .tables import print_average

    reading = {} if data is None else reading_values(format, columns, delimiter, encoding, quoting, header, sheet)
    averaged = average_models(folders, output, data, greedy, overwrite, batch_size, **reading)
    print_average(averaged)
    typer.echo(f"Model, tokenizer and card are in {output}")


@commands.command(cls=LibraryCommand)
def export(
    model_dir: ModelDir,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write onnx/model.onnx, one graph with all heads.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Also write onnx/model_int8.onnx, with 8-bit weights.")] = False,
    data: Annotated[
        Path | None, typer.Option(help="File with labels, to score the model and the graphs on.", callback=check_file)
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder to write to. Defaults to MODEL_DIR.")] = None,
    format: Format = None,
    columns: Columns = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    quoting: Quoting = None,
    header: Header = None,
    sheet: Sheet = None,
) -> None:
    """Export a trained model to ONNX, and check the logits of the graph against the model."""
    from ..export import export_onnx, score_onnx
    from .overrides import reading_values
    from .tables import print_files, print_metrics

    if not onnx and not int8:
        raise ValueError("export: expected --onnx or --int8, found neither.")
    reading = reading_values(format, columns, delimiter, encoding, quoting, header, sheet)
    print_files(export_onnx(model_dir, output, int8))
    if data is not None:
        print_metrics(score_onnx(model_dir, data, output, **reading))
