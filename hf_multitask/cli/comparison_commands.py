"""Commands that find out how to train: by rules, or by training and comparing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from .options import ConfigFile
from .program import ANY_FIELD, INTERRUPTED, OVERRIDES_HELP, LibraryCommand, read_config

commands = typer.Typer()


@commands.command(cls=LibraryCommand, context_settings=ANY_FIELD, epilog=OVERRIDES_HELP)
def recommend(
    context: typer.Context,
    config: ConfigFile,
    main_task: Annotated[str | None, typer.Option(metavar="NAME", help="The task that matters most.")] = None,
    time_budget: Annotated[
        float | None, typer.Option(metavar="MINUTES", help="Longest training time on this machine.")
    ] = None,
    domain: Annotated[
        str | None, typer.Option(help="biomedical, legal, finance or general. Defaults to a guess from the words.")
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Measure what each layer of the encoder knows about these rows first.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="Write the recommended config to this YAML file.")] = None,
) -> None:
    """Recommend an encoder, a freeze schedule and learning rates for the data of CONFIG, with reasons."""
    from ..recommendation import recommend_schedule
    from .recommendation import print_recommendation

    run_config = read_config(context, config)
    recommendation = recommend_schedule(run_config, main_task, time_budget, domain, probe)
    print_recommendation(recommendation)
    if output is not None:
        recommendation.save(output)
        typer.echo(f"Config written to {output}. To train it: hf-multitask train {output}")


@commands.command("study", cls=LibraryCommand, context_settings=ANY_FIELD, epilog=OVERRIDES_HELP)
def study_command(
    context: typer.Context,
    config: ConfigFile,
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
    alone: Annotated[
        bool, typer.Option("--alone", help="Train each task by itself too, and compare it with the first scenario.")
    ] = False,
    race: Annotated[
        bool,
        typer.Option("--race", help="Train with few rows first, go on with the better scenarios, and recommend one."),
    ] = False,
    main_task: Annotated[
        str | None, typer.Option(metavar="NAME", help="Task whose score decides a race. Defaults to the mean of all.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS|auto", help="Train on this cluster of Ray; --processes is then per machine."),
    ] = None,
) -> None:
    """Train freezing scenarios on the same data, seeds and budget, and compare their scores and costs.

    Writes study.json, study.md and study.html. After an interruption, the same command continues. A file named stop in
    the folder of the study ends it after the training in progress, with the results so far. A race writes race.json,
    race.md and winner.yaml; --sizes is then a single number of rows, and --seeds the most that are trained.
    """
    from ..study import run_race, run_study
    from .overrides import parse_names
    from .study import print_race, print_run, print_rung, print_study, print_training

    run_config = read_config(context, config)
    folder = output or Path(f"{run_config.output_dir}-study")
    if not race and main_task is not None:
        raise ValueError("--main-task decides a race: give --race too.")
    try:
        if race:
            size = _size_of_race(parse_names(sizes) or (), alone)
            result = run_race(
                run_config,
                folder,
                parse_names(scenarios),
                seeds,
                size,
                epochs,
                minutes,
                processes,
                time_budget,
                main_task,
                print_training,
                print_rung,
                ray_address=ray,
            )
            if result is not None:
                print_race(result)
            return
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
            alone=alone,
            ray_address=ray,
        )
    except KeyboardInterrupt:
        typer.echo("\nInterrupted; the finished runs are kept, and the same command continues from here.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if study is not None:
        print_study(study)
        typer.echo(f"study.html, study.md, study.json and figures are in {folder}")


def _size_of_race(sizes: Sequence[str], alone: bool) -> str:
    """Return the number of rows of a race.

    Raises:
        ValueError: If there are several, or the race is to train tasks by themselves.
    """
    if alone:
        raise ValueError("--alone compares models of different tasks, which cannot race: leave out --race or --alone.")
    if len(sizes) != 1:
        raise ValueError(f"--sizes: a race is for one number of rows, found {', '.join(sizes) or 'none'}.")
    return sizes[0]


@commands.command(cls=LibraryCommand, context_settings=ANY_FIELD, epilog=OVERRIDES_HELP)
def tune(
    context: typer.Context,
    config: ConfigFile,
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

    run_config = read_config(context, config)
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
