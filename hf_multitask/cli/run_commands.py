"""Commands from data files to a trained model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import AnnotationTool, Columns, ConfigFile, DataFiles, Format, Overwrite, Resume, Verbose
from .program import ANY_FIELD, INTERRUPTED, OVERRIDES_HELP, LibraryCommand, read_config

if TYPE_CHECKING:
    from ..runs import RunConfig

commands = typer.Typer()

NEXT_STEPS = """
Next steps:
  your own rows              docs/QUICKSTART.md
  what to freeze, and when   docs/FREEZING.md
  the model in the browser   make app
  curves and mistakes        pip install 'hf-multitask[reports]', then train again: report.html"""


@commands.command(cls=LibraryCommand)
def init(
    data: DataFiles,
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


@commands.command(cls=LibraryCommand, context_settings=ANY_FIELD, epilog=OVERRIDES_HELP)
def train(
    context: typer.Context,
    config: ConfigFile,
    overwrite: Overwrite = False,
    resume: Resume = False,
    verbose: Verbose = False,
) -> None:
    """Train the model of CONFIG and write it, with its metrics, to output_dir."""
    if verbose:
        _show_details()
    _train(read_config(context, config), overwrite, resume)


@commands.command(cls=LibraryCommand, context_settings=ANY_FIELD, epilog=OVERRIDES_HELP)
def plan(
    context: typer.Context,
    config: ConfigFile,
    output: Annotated[
        Path | None,
        typer.Option(help="Write the stages to this YAML or JSON file, which a config can name as `freeze`."),
    ] = None,
) -> None:
    """Print what each stage of a run will train, with steps, learning rates and memory, without training."""
    from ..runs import run_plan
    from .tables import print_plan

    stages = run_plan(read_config(context, config), output)
    print_plan(stages)
    if output is not None:
        typer.echo(f"Stages written to {output}. To train them: --freeze {output}")


@commands.command("inspect", cls=LibraryCommand, context_settings=ANY_FIELD, epilog=OVERRIDES_HELP)
def inspect_command(
    context: typer.Context,
    config: ConfigFile,
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
    inspection = inspect_data(read_config(context, config), rows)
    if as_json:
        typer.echo(to_json(inspection.to_dict(), indent=2))
    else:
        print_inspection(inspection)
    if picture is not None:
        save_data_figure(inspection, picture)
        typer.echo(f"Figure written to {picture}", err=as_json)


@commands.command("label-issues", cls=LibraryCommand, context_settings=ANY_FIELD, epilog=OVERRIDES_HELP)
def label_issues(
    context: typer.Context,
    config: ConfigFile,
    output: Annotated[Path, typer.Option(metavar="FILE", help="File to write the rows to (JSON Lines).")],
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Number of trainings. Defaults to data.folds of CONFIG, or else to 5."),
    ] = None,
    share: Annotated[
        float, typer.Option(help="Share of the rows to list at least, the least probable labels first.")
    ] = 0.04,
    tool: AnnotationTool = None,
) -> None:
    """List the training rows of CONFIG whose label is most likely wrong, by models that did not train on them."""
    from accelerate import PartialState

    from ..runs import review_training_rows
    from .review import check_review_options, write_review

    run = read_config(context, config)
    check_review_options(tool, label_issues=output, tasks=run.tasks, share=share)
    review = review_training_rows(run, folds)
    if PartialState().is_main_process:
        write_review(review, tool, label_issues=output, share=share)


@commands.command(cls=LibraryCommand, context_settings=ANY_FIELD, epilog=OVERRIDES_HELP)
def quickstart(context: typer.Context, verbose: Verbose = False) -> None:
    """Train on the bundled sentences and print the scores and one prediction."""
    if verbose:
        _show_details()
    from accelerate import PartialState

    from ..models import load_model
    from ..models.pipeline_multitask import MultiTaskPipeline
    from ..quickstart import QUICKSTART_CONFIG, QUICKSTART_SENTENCE
    from .tables import print_prediction

    config = read_config(context, QUICKSTART_CONFIG)
    _train(config, overwrite=True, resume=False)
    if PartialState().is_main_process:
        predict = MultiTaskPipeline(*load_model(config.output_dir))
        typer.echo(f"\n{QUICKSTART_SENTENCE}")
        print_prediction(QUICKSTART_SENTENCE, predict(QUICKSTART_SENTENCE))
        typer.echo(NEXT_STEPS)


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
        typer.echo(f"To use the model: hf-multitask predict {config.output_dir} texts.txt --output predictions.jsonl")


def _show_details() -> None:
    from ..runtime.console_log import show_details

    show_details()
