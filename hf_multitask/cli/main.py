"""Commands. Each parses its arguments, calls the library and prints the result.

Commands import the library in their bodies, so that help and completion of the shell answer at once, without torch.
"""

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from safetensors import SafetensorError
from typer.core import TyperCommand

from .options import (
    BatchSize,
    Columns,
    Delimiter,
    Encoding,
    Format,
    Header,
    ModelDir,
    Overwrite,
    Quoting,
    Resume,
    Revision,
    Sheet,
    Verbose,
    Version,
)

if TYPE_CHECKING:
    from ..models.type_aliases import JsonObject
    from ..runs import RunConfig


class LibraryCommand(TyperCommand):
    """A command that uses the library: joins the processes that were started, and prints the library's messages."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        from ..runtime.processes import join_processes

        if join_processes().is_main_process:
            _show_progress_messages()
        return super().invoke(ctx)


app = typer.Typer(
    help="One encoder, several jobs: train, evaluate and use multi-task models.",
    epilog="With HF_MULTITASK_DEBUG=1 in the environment, an error shows its traceback.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
ANY_FIELD = {"allow_extra_args": True, "ignore_unknown_options": True}
OVERRIDES_HELP = (
    "Any field of the config can be overridden with an option after it: --encoder NAME, --data.train FILE, "
    "--freeze three-stage, --freeze '\\[encoder, head.intent]', --training.num_train_epochs 1. Files that a "
    "config names are relative to its folder; output_dir and paths on the command line, to the current folder."
)

NEXT_STEPS = """
Next steps:
  your own rows              docs/QUICKSTART.md
  what to freeze, and when   docs/FREEZING.md
  the model in the browser   make app
  curves and mistakes        pip install 'hf-multitask[reports]', then train again: report.html"""

PROGRAM = "hf-multitask"
DEBUG = "HF_MULTITASK_DEBUG"
# Mistakes in arguments. Typer exports only the class of wrong values.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]

# Exit statuses: a run has failed, wrong usage or input, and what a shell reports for a process ended by SIGINT.
FAILED, INVALID, INTERRUPTED = 1, 2, 130


@app.command(cls=LibraryCommand)
def init(
    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA…", help="Files with labels. Names with train, validation and test are splits of one dataset."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Config to write.")] = Path("config.yaml"),
    encoder: Annotated[
        str | None, typer.Option(help="Hub name or folder. Defaults to an encoder that is on this machine.")
    ] = None,
    format: Format = None,
    columns: Columns = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the config.")] = False,
) -> None:
    """Write a config for data files: their columns are looked at, tasks are guessed and explained in comments."""
    from ..runs.first_config import write_first_config
    from .overrides import parse_columns

    config = write_first_config(data, output, encoder, format, parse_columns(columns), overwrite)
    tasks = ", ".join(f"{task.name} ({task.type.replace('_', ' ')})" for task in config.tasks)
    typer.echo(f"Written to {output}: {tasks}. Please check the tasks; the comments say what was seen in the columns.")
    typer.echo(f"To train: hf-multitask train {output}\nTo look at the data: hf-multitask inspect {output}")


@app.command(cls=LibraryCommand, context_settings=ANY_FIELD, epilog=OVERRIDES_HELP)
def train(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the run.")],
    overwrite: Overwrite = False,
    resume: Resume = False,
    verbose: Verbose = False,
) -> None:
    """Train the model of CONFIG and write it, with its metrics, to output_dir."""
    if verbose:
        _show_details()
    _train(_read_config(context, config), overwrite, resume)


@app.command(cls=LibraryCommand, context_settings=ANY_FIELD, epilog=OVERRIDES_HELP)
def plan(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the run.")],
    output: Annotated[
        Path | None,
        typer.Option(help="Write the stages to this YAML or JSON file, which a config can name as `freeze`."),
    ] = None,
) -> None:
    """Print what each stage of a run will train, with steps, learning rates and memory, without training."""
    from ..runs import run_plan
    from .tables import print_plan

    stages = run_plan(_read_config(context, config), output)
    print_plan(stages)
    if output is not None:
        typer.echo(f"Stages written to {output}. To train them: --freeze {output}")


@app.command("inspect", cls=LibraryCommand, context_settings=ANY_FIELD, epilog=OVERRIDES_HELP)
def inspect_command(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the run.")],
    rows: Annotated[int, typer.Option(min=0, help="Number of training rows of each dataset to show.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON instead of tables.")] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Write a figure of label counts and lengths to this .png or .svg file.")
    ] = None,
) -> None:
    """Show labels, lengths, duplicates, broken tags and unseen labels of the data of CONFIG, without training."""
    from ..reports.data_figures import save_data_figure
    from ..reports.figure_style import check_figure_path
    from ..runs import inspect_data
    from ..runtime.atomic_files import to_json
    from .inspection import print_inspection

    if picture is not None:
        check_figure_path(picture)
    inspection = inspect_data(_read_config(context, config), rows)
    if as_json:
        typer.echo(to_json(inspection.to_dict(), indent=2))
    else:
        print_inspection(inspection)
    if picture is not None:
        save_data_figure(inspection, picture)
        typer.echo(f"Figure written to {picture}", err=as_json)


@app.command(cls=LibraryCommand, context_settings=ANY_FIELD, epilog=OVERRIDES_HELP)
def quickstart(context: typer.Context, verbose: Verbose = False) -> None:
    """Train on the bundled sentences and print the scores and one prediction."""
    if verbose:
        _show_details()
    from accelerate import PartialState

    from ..models import load_model
    from ..models.pipeline_multitask import MultiTaskPipeline
    from ..quickstart import QUICKSTART_CONFIG, QUICKSTART_SENTENCE
    from .tables import print_prediction

    config = _read_config(context, QUICKSTART_CONFIG)
    _train(config, overwrite=True, resume=False)
    if PartialState().is_main_process:
        predict = MultiTaskPipeline(*load_model(config.output_dir))
        typer.echo(f"\n{QUICKSTART_SENTENCE}")
        print_prediction(QUICKSTART_SENTENCE, predict(QUICKSTART_SENTENCE))
        typer.echo(NEXT_STEPS)


@app.command(cls=LibraryCommand)
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
    tag_scheme: Annotated[
        str | None, typer.Option(help="Tag scheme of DATA, if it differs from the training data.")
    ] = None,
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
    revision: Revision = None,
) -> None:
    """Score a trained model on labeled rows."""
    from accelerate import PartialState

    from ..models import load_model
    from ..runs.evaluation import score_rows
    from ..runs.output_dir import SUPPORT
    from ..runtime.atomic_files import write_json
    from .overrides import parse_columns
    from .tables import print_metrics

    options: JsonObject = {"format": format, "columns": parse_columns(columns), "tag_scheme": tag_scheme}
    options |= {"delimiter": delimiter, "encoding": encoding, "quoting": quoting, "header": header, "sheet": sheet}
    model, tokenizer = load_model(model_dir, revision=revision)
    result = score_rows(model, tokenizer, data, batch_size, unseen_labels=unseen_labels, **options)
    if PartialState().is_main_process:
        print_metrics({data.stem: result.metrics})
        if output is not None:
            write_json(output, {**result.metrics, SUPPORT: result.support(model.config.tasks)})


@app.command("predict", cls=LibraryCommand)
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
        OutputOptions(parse_names(tasks), top_k, threshold, word_labels, tag_scheme),
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


@app.command(cls=LibraryCommand)
def average(
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder to write the average to.")],
    folders: Annotated[list[str], typer.Argument(metavar="MODEL_DIR…", help="Folders or hub names of the models.")],
    data: Annotated[
        Path | None, typer.Option(help="File with labels, to score each model and the average: validation rows.")
    ] = None,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Leave out each model that makes the score of the average worse.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model in OUTPUT.")] = False,
    batch_size: BatchSize = 64,
    format: Format = None,
    columns: Columns = None,
) -> None:
    """Average the weights of models of the same tasks, such as those of several seeds."""
    from ..runs import average_models
    from .overrides import parse_columns
    from .tables import print_average

    reading = {"format": format, "columns": parse_columns(columns)} if data is not None else {}
    averaged = average_models(folders, output, data, greedy, overwrite, batch_size, **reading)
    print_average(averaged)
    typer.echo(f"Model, tokenizer and card are in {output}")


@app.command(cls=LibraryCommand)
def export(
    model_dir: ModelDir,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write onnx/model.onnx, one graph with all heads.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Also write onnx/model_int8.onnx, with 8-bit weights.")] = False,
    data: Annotated[Path | None, typer.Option(help="File with labels, to score the model and the graphs on.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder to write to. Defaults to MODEL_DIR.")] = None,
) -> None:
    """Export a trained model to ONNX, and check the logits of the graph against the model."""
    from ..export import export_onnx, score_onnx
    from .tables import print_files, print_metrics

    if not onnx and not int8:
        raise ValueError("export: expected --onnx or --int8, found neither.")
    print_files(export_onnx(model_dir, output, int8))
    if data is not None:
        print_metrics(score_onnx(model_dir, data, output))


@app.command(cls=LibraryCommand, context_settings=ANY_FIELD, epilog=OVERRIDES_HELP)
def recommend(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the run.")],
    main_task: Annotated[str | None, typer.Option(metavar="NAME", help="The task that matters most.")] = None,
    time_budget: Annotated[
        float | None, typer.Option(metavar="MINUTES", help="Longest training time on this machine.")
    ] = None,
    domain: Annotated[
        str | None, typer.Option(help="biomedical, legal, finance or general. Defaults to a guess from the words.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write the recommended config to this YAML file.")] = None,
) -> None:
    """Recommend an encoder, a freeze schedule and learning rates for the data of CONFIG, with reasons."""
    from ..recommendation import recommend_schedule
    from .recommendation import print_recommendation

    run_config = _read_config(context, config)
    recommendation = recommend_schedule(run_config, main_task, time_budget, domain)
    print_recommendation(recommendation)
    if output is not None:
        recommendation.save(output)
        typer.echo(f"Config written to {output}. To train it: hf-multitask train {output}")


@app.callback()
def program(version: Version = False) -> None:
    """One encoder, several jobs: train, evaluate and use multi-task models."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments. Defaults to the arguments of the process.

    Returns:
        The exit status: 0; 1 if a run has failed; 2 for invalid input, wrong usage or a missing extra; 130 if the user
        interrupted. With the environment variable ``HF_MULTITASK_DEBUG=1``, an error is printed with its traceback.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = app(given, standalone_mode=False, prog_name=PROGRAM)
    except _UsageError as error:
        if given:  # otherwise the help is printed already
            typer.echo(_usage_message(error), err=True)
        return INVALID
    except (ValueError, OSError, ImportError, SafetensorError, RuntimeError) as error:
        return _print_error(error)
    return result if isinstance(result, int) else 0


def _print_error(error: Exception) -> int:
    """Print an error on one line and return the exit status. A fault of ours is raised again."""
    from ..models.hub_errors import one_line
    from ..training.checkpoint_errors import is_write_error

    is_documented = isinstance(error, (ValueError, OSError, ImportError))
    if not is_documented and not is_write_error(error):
        raise error
    if os.environ.get(DEBUG) == "1":
        traceback.print_exception(error)
    message = error if is_documented else f"a file could not be written. {one_line(error)}"
    typer.echo(f"error: {message}", err=True)
    return FAILED if _has_failed(error) else INVALID


def _has_failed(error: BaseException | None) -> bool:
    """Return whether an error ended a run that was valid."""
    from ..training.checkpoint_errors import is_write_error
    from ..training.divergence import DivergenceError

    return error is not None and (
        isinstance(error, DivergenceError) or is_write_error(error) or _has_failed(error.__cause__)
    )


def _usage_message(error: Any) -> str:
    """Return one line for a mistake in the arguments."""
    close = getattr(error, "possibilities", None)  # of a misspelt option
    message = " ".join((error.message if close else error.format_message()).split()).rstrip(".")
    if close:
        message += f". Did you mean {' or '.join(close)}?"
    end = "" if message.endswith("?") else "."
    return f"error: {message}{end} See {error.ctx.command_path if error.ctx else PROGRAM} --help."


def _show_progress_messages() -> None:
    """Print the log messages of the library, such as changes of the freeze schedule."""
    from transformers.utils.logging import disable_progress_bar

    from ..runtime.console_log import LineHandler

    disable_progress_bar()  # of loading weights, which takes less than a second
    package = logging.getLogger("hf_multitask")
    if not package.handlers:
        package.addHandler(LineHandler())
        package.setLevel(logging.INFO)


def _show_details() -> None:
    from ..runtime.console_log import show_details

    show_details()


def _read_config(context: typer.Context, path: Path) -> "RunConfig":
    """Read a config, with the values that the options of the command replace."""
    from ..runs import RunConfig
    from .overrides import parse_overrides

    return RunConfig.from_file(path, parse_overrides(context.args, _flags(context)))


def _flags(context: typer.Context) -> list[str]:
    """Return the options that a command has itself."""
    return [option for parameter in context.command.params for option in parameter.opts if option.startswith("--")]


def _train(config: "RunConfig", overwrite: bool, resume: bool) -> None:
    from accelerate import PartialState

    from ..freezing.stage_results import read_stage_results
    from ..reports.training_report import REPORT_NAME
    from ..runs import find_last_checkpoint, has_unfinished_folds, run_training
    from .tables import print_metrics, print_stages

    try:
        metrics = run_training(config, overwrite=overwrite, resume=resume)
    except KeyboardInterrupt:
        checkpoint = find_last_checkpoint(Path(config.output_dir))
        hint = f"resume from {checkpoint} with --resume" if checkpoint else "there is no checkpoint yet"
        if checkpoint is None and has_unfinished_folds(Path(config.output_dir)):
            hint = "continue with --resume, which keeps the finished folds"
        typer.echo(f"\nInterrupted; {hint}.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if PartialState().is_main_process:
        stages = read_stage_results(config.output_dir)
        if len(stages) > 1:
            print_stages(stages)
        print_metrics(metrics)
        typer.echo(f"Model, tokenizer, card, metrics.json and train.log are in {config.output_dir}")
        if (report := Path(config.output_dir, REPORT_NAME)).is_file():
            typer.echo(f"Report: {report}")


@app.command("study", cls=LibraryCommand, context_settings=ANY_FIELD, epilog=OVERRIDES_HELP)
def study_command(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of a run.")],
    scenarios: Annotated[
        str | None,
        typer.Option(metavar="NAME,…", help="Scenarios to compare, the others with the first. Defaults to all."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, counted from the seed of CONFIG.")] = 3,
    sizes: Annotated[
        str, typer.Option(metavar="N,…|all", help="Numbers of training rows, such as 50,100,all.")
    ] = "all",
    epochs: Annotated[float | None, typer.Option(help="Epochs of each run. Defaults to the epochs of CONFIG.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Longest training time of a run.")] = None,
    time_budget: Annotated[
        float | None, typer.Option(metavar="MINUTES", help="Time after which the study ends with what is finished.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the study. Defaults to output_dir with the suffix -study.")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Number of processes that train different runs at the same time.")
    ] = 1,
) -> None:
    """Train freezing scenarios on the same data, seeds and budget, and compare their scores and costs.

    Writes study.json, study.md and study.html. After an interruption, the same command continues. A file named stop in
    the folder of the study ends it after the training in progress, with the results so far.
    """
    from ..study import run_study
    from .overrides import parse_names
    from .study import print_run, print_study

    run_config = _read_config(context, config)
    folder = output or Path(f"{run_config.output_dir}-study")
    try:
        study = run_study(
            run_config,
            folder,
            parse_names(scenarios),
            seeds,
            parse_names(sizes) or (),
            epochs,
            minutes,
            processes,
            print_run,
            time_budget,
        )
    except KeyboardInterrupt:
        typer.echo("\nInterrupted; the finished runs are kept, and the same command continues from here.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if study is not None:
        print_study(study)
        typer.echo(f"study.html, study.md, study.json and figures are in {folder}")


@app.command(cls=LibraryCommand, context_settings=ANY_FIELD, epilog=OVERRIDES_HELP)
def tune(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of a run.")],
    trials: Annotated[int, typer.Option(help="Number of finished trials of the search, earlier ones included.")] = 20,
    time_budget: Annotated[
        float | None, typer.Option(metavar="MINUTES", help="Time after which no other trial begins.")
    ] = None,
    space: Annotated[
        Path | None,
        typer.Option(help="YAML file of ranges and choices by key of the config. Defaults to a space for its tasks."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Number of seeds that the best config is trained with at the end.")
    ] = 3,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the search. Defaults to output_dir with the suffix -tuning.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Metric of the validation rows. Defaults to that of CONFIG's run."),
    ] = None,
) -> None:
    """Search for the settings that score best on validation, and train the winner with several seeds.

    Writes best.yaml, trials.json and tuning.md. After an interruption, the same command continues; started several
    times, its processes share the search.
    """
    from ..tuning import run_tuning
    from ..tuning.space import read_space
    from .tuning import print_trial, print_tuning

    run_config = _read_config(context, config)
    folder = output or Path(f"{run_config.output_dir}-tuning")
    values = None if space is None else read_space(space)
    try:
        result = run_tuning(run_config, folder, trials, time_budget, values, seeds, metric, print_trial)
    except KeyboardInterrupt:
        typer.echo("\nInterrupted; the finished trials are kept, and the same command continues from here.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    print_tuning(result)
    typer.echo(f"tuning.md, trials.json and the figure are in {folder}")
    typer.echo(f"To train the winner: hf-multitask train {folder / 'best.yaml'}")


@app.command(cls=LibraryCommand)
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")] = False,
) -> None:
    """Show versions, device, memory, missing extras, the encoders that are here, and what will be slow."""
    from dataclasses import asdict

    from ..runtime.atomic_files import to_json
    from ..runtime.diagnosis import diagnose

    diagnosis = diagnose()
    typer.echo(to_json(asdict(diagnosis), indent=2) if as_json else str(diagnosis))


@app.command("app", cls=LibraryCommand)
def app_command(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="YAML file of a run whose data is offered first.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Folder of models and studies, in which the app also writes.")] = Path(
        "out"
    ),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port. Defaults to the first free port from 7860.")
    ] = None,
    share: Annotated[bool, typer.Option("--share", help="Create a public address through gradio.live.")] = False,
    browser: Annotated[bool, typer.Option("--browser", help="Open the app in a browser.")] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Name under which the app is reached, such as that of a proxy in front of it. Can be given several "
            "times.",
        ),
    ] = None,
) -> None:
    """Train, try and compare models in the browser."""
    from ..app import launch_app

    launch_app(folder, config, host, port, share, browser, allowed_host or [])
