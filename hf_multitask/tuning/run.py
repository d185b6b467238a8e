"""A whole search: from a config to the best config, its scores and a report."""

import math
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from accelerate import PartialState
from filelock import FileLock

from ..freezing.snapshots import checkpoints
from ..freezing.stage import greater_is_better
from ..models.messages import unknown_name_message
from ..runs.build import RunParts, assemble_trainer, load_parts
from ..runs.chosen_settings import completed_config, settings_of
from ..runs.config import RunConfig
from ..runs.config_file import config_to_yaml
from ..runs.folds import check_final_schedule
from ..runs.output_dir import read_metrics
from ..runs.training import run_training
from ..runtime.atomic_files import write_text
from ..runtime.extras import check_packages
from ..runtime.quiet import warnings_only
from ..training.metrics import task_metric_names
from ..training.settings import THOROUGH
from .parameters import Parameter, Value, apply_values, value_of
from .report import BEST_CONFIG_NAME, write_report
from .results import TrialResult, TuningResult, rank
from .search import LOCK_NAME, SECONDS, Search
from .space import Space, build_parameters
from .training import STATES_FOLDER, TrialTraining

BASE_NAME, WINNER_FOLDER = "base.yaml", "winner"
MIN_TRIALS_FOR_IMPORTANCE = 4

OnTrial = Callable[[TrialResult, int, int], None]
"""Called when a trial is finished, with its result, the number of finished trials and the number of all."""


def run_tuning(
    config: RunConfig,
    output: str | Path,
    trials: int = 20,
    minutes: float | None = None,
    space: Space | None = None,
    seeds: int = 3,
    metric: str | None = None,
    on_trial: OnTrial | None = None,
) -> TuningResult:
    """Search for the settings of a run that score best on validation, and train the winner with several seeds.

    The first trial is the config itself. The second has what ``effort: thorough`` chooses for the keys that the config
    leaves out and the space has. The trials are kept in the folder: the same call continues a search that was killed,
    and several processes or machines that make the same call share one.

    Args:
        config: Config of an ordinary run with validation rows. What it leaves out is chosen first.
        output: Folder of the search.
        trials: Number of finished trials of the search, earlier ones included.
        minutes: Time after which this process begins no other trial and stops the one that it trains, unless it is the
            config itself. No limit if None.
        space: Ranges or choices by key of the config; see `tuning.space`. The default space if None.
        seeds: Number of seeds that the winner is trained with, counted up from the seed of the config.
        metric: Metric of the validation rows. Defaults to the ``metric_for_best_model`` of the run.
        on_trial: Called when this process has finished a trial.

    Returns:
        The results.

    Raises:
        ValueError: If config, data, space or metric are invalid, or ``output`` contains another search.
        ImportError: If Optuna or matplotlib is missing.
    """
    check_packages("tune", "a search for settings")
    for name, value in (("trials", trials), ("seeds", seeds)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, found {value}.")
    if minutes is not None and minutes <= 0:
        raise ValueError(f"minutes must be above 0, found {minutes}.")
    if PartialState().num_processes > 1:
        raise ValueError(
            "tune trains each trial in one process. Start the same command several times without a launcher: its "
            "processes share the folder."
        )
    folder = Path(output)
    with warnings_only():
        parts = _load_parts(config)
        config, thorough = (_with_settings(config, parts, metric, effort) for effort in (config.effort, THOROUGH))
        parameters = build_parameters(config, space)
        _check_values(config, parameters, parts)
        _check_folder(folder, config, parameters)
        arguments = config.training_arguments()
        name, maximize = str(arguments.metric_for_best_model).removeprefix("eval_"), bool(arguments.greater_is_better)
        training = TrialTraining(config, parts.data, folder, name, maximize)
        search = Search(folder, parameters, maximize, arguments.seed, _second_trial(parameters, thorough))

        def report(number: int) -> None:
            finished = _results(search)
            if on_trial is not None:
                on_trial(next(trial for trial in finished if trial.number == number), len(finished), trials)

        search.run(training.train, trials, math.inf if minutes is None else 60 * minutes, report)
        shutil.rmtree(folder / STATES_FOLDER, ignore_errors=True)
        finished = _results(search)
        best = min(finished, key=lambda trial: rank(trial, maximize))
        base = {parameter.key: parameter.base for parameter in parameters}
        winner = config if best.values == base else apply_values(config, best.values)
        title = f"Trial {best.number} of a search for settings: {name} {best.value} on validation"
        write_text(folder / BEST_CONFIG_NAME, config_to_yaml(winner, folder, title, ()))
        scores = _train_winner(winner, folder, best.number, [arguments.seed + i for i in range(seeds)])
    result = TuningResult(folder, name, maximize, base, finished, best.number, _importance(search), scores)
    result.save()
    write_report(result)
    return result


def _load_parts(config: RunConfig) -> RunParts:
    """Return the loaded parts of a run that trials can share."""
    if not any(data.has_validation for data in config.data_configs):
        raise ValueError("tune: data.validation is missing; expected a file, data.validation_split or data.folds.")
    if any(data.streams_train for data in config.data_configs):
        raise ValueError("tune: trials share the training rows, so all of them are needed: leave out streaming.")
    return load_parts(config)


def _with_settings(config: RunConfig, parts: RunParts, metric: str | None, effort: str) -> RunConfig:
    """Return the config with the metric, and all settings as an effort chooses them."""
    if metric is not None:
        names = task_metric_names(parts.data.tasks)
        if metric not in names:
            raise ValueError(unknown_name_message("metric", metric, names))
        chosen = {"metric_for_best_model": metric, "greater_is_better": greater_is_better(metric)}
        config = replace(config, training={**config.training, **chosen})
    return completed_config(config, settings_of(replace(config, effort=effort), parts.facts))


def _second_trial(parameters: Sequence[Parameter], config: RunConfig) -> dict[str, Value] | None:
    """Return the values of a config, each the nearest that its parameter has; None if they are those of the base."""
    arguments = config.training_arguments()
    values = {parameter.key: parameter.nearest(value_of(config, parameter.key, arguments)) for parameter in parameters}
    return None if values == {parameter.key: parameter.base for parameter in parameters} else values


def _check_values(config: RunConfig, parameters: Sequence[Parameter], parts: RunParts) -> None:
    """Raise if a value of the space is not allowed, before anything trains."""
    if parts.data.folds is not None:
        _check_schedule(config, parts)
    for parameter in parameters:
        values = (parameter.low, parameter.high) if parameter.choices is None else parameter.choices
        for value in values:
            try:
                changed = apply_values(config, {parameter.key: value})
                changed.training_arguments()
                if parameter.key == "freeze":
                    _check_schedule(changed, parts)
            except ValueError as error:
                raise ValueError(f"space: {parameter.key}: {error}") from error


def _check_schedule(config: RunConfig, parts: RunParts) -> None:
    """Raise if the freeze schedule does not fit, or with folds, if the training on all rows cannot follow it."""
    with tempfile.TemporaryDirectory() as unused:
        trainer = assemble_trainer(replace(config, output_dir=unused), parts)
        if parts.data.folds is not None:
            check_final_schedule(trainer)


def _check_folder(folder: Path, config: RunConfig, parameters: Sequence[Parameter]) -> None:
    """Write what the search starts from, or raise if the folder contains something else."""
    lines = [f"{parameter.key}: {parameter.distribution()!r}" for parameter in parameters]
    text = config_to_yaml(config, folder, "Config that the search starts from, and the values that it tries", lines)
    path = folder / BASE_NAME
    folder.mkdir(parents=True, exist_ok=True)
    # Another process may be writing the file at this moment.
    with FileLock(folder / LOCK_NAME):
        if not path.is_file():
            if {item.name for item in folder.iterdir()} - {LOCK_NAME}:
                (folder / LOCK_NAME).unlink()
                raise FileExistsError(f"{str(folder)!r} exists and does not contain a search; give another folder.")
            write_text(path, text)
    for old, new in zip(path.read_text(encoding="utf-8").splitlines(), text.splitlines(), strict=False):
        if old != new:
            raise ValueError(
                f"{str(folder)!r} contains another search: {old.strip('# ')!r} there and {new.strip('# ')!r} here. "
                "Give another folder, or the config and space that it was begun with."
            )


def _results(search: Search) -> list[TrialResult]:
    return [
        TrialResult(
            number=trial.number,
            value=trial.value,
            pruned=trial.state.name == "PRUNED",
            seconds=trial.user_attrs.get(SECONDS, 0.0),
            values=search.values_of(trial),
        )
        for trial in search.finished()
    ]


def _train_winner(
    config: RunConfig, folder: Path, number: int, seeds: Sequence[int]
) -> dict[str, dict[int, dict[str, float]]]:
    """Train the winner with each seed that is not trained, and return its metrics by split and seed."""
    scores: dict[str, dict[int, dict[str, float]]] = {}
    winner = folder / WINNER_FOLDER / f"trial-{number}"
    # One process at a time; the others find the metrics afterwards.
    with FileLock(folder / f"{WINNER_FOLDER}.lock"):
        for earlier in (folder / WINNER_FOLDER).glob("trial-*"):
            if earlier != winner:
                shutil.rmtree(earlier)
        for seed in seeds:
            output = winner / f"seed-{seed}"
            metrics = read_metrics(output)
            if metrics is None:
                training = {**config.training, "seed": seed}
                metrics = run_training(replace(config, training=training, output_dir=str(output)), overwrite=True)
                for checkpoint in checkpoints(output).values():
                    shutil.rmtree(checkpoint)
            for split, values in metrics.items():
                scores.setdefault(split, {})[seed] = values
    return scores


def _importance(search: Search) -> dict[str, float]:
    """Return the importance of each key, largest first; empty if there are too few finished trials to tell."""
    import optuna

    finished = [trial for trial in search.finished() if trial.state.name == "COMPLETE"]
    if len(finished) < MIN_TRIALS_FOR_IMPORTANCE or len({trial.value for trial in finished}) == 1:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return dict(optuna.importance.get_param_importances(search.study, evaluator=evaluator))
