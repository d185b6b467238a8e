"""Plan of a study, checked as a whole before the first run."""

import dataclasses
import hashlib
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
from transformers import TrainingArguments

from ..data import SPLITS, DataConfig, PreparedData
from ..data.folds import check_labels_of_folds
from ..freezing.activation_cache.cache_plan import ALWAYS
from ..freezing.presets import build_schedule
from ..freezing.schedule import encoder_is_divided
from ..models.layer_groups import LayerGroups
from ..models.type_aliases import JsonObject
from ..runs.build import assemble_trainer, load_parts
from ..runs.chosen_settings import completed_config, settings_of
from ..runs.config import RunConfig
from ..runtime.run_length import optimizer_steps, total_steps
from .race_rungs import Length, rung_lengths
from .scenarios import Scenario, find_racers, find_scenarios, with_alone
from .study_results import HELD_OUT, SkippedRun

logger = logging.getLogger(__name__)

CONFIG_NAME = "config.json"
RUNS_FOLDER = "runs"
STATES_FOLDER = "states"
ALL_ROWS = "all"
# Fields of a config that a study sets for each run, so that they do not identify it.
RUN_FIELDS = ("output_dir", "freeze")
RUN_TRAINING_FIELDS = ("seed", "report_to", "push_to_hub", "store_dir", "disable_tqdm")


@dataclass(frozen=True)
class PlannedRun:
    """One training run of a study.

    Args:
        scenario: The scenario.
        size: Number of training rows.
        seed: Seed of the training and of the choice of rows.
        freeze: Value of the config's ``freeze``.
        keeps_model: Whether the model is kept because other runs start from it.
        fold: Fold that is held out, from 0; None without folds.
        shortening: In a race, the run has one of so many epochs of the config.
    """

    scenario: Scenario
    size: int
    seed: int
    freeze: str | JsonObject
    keeps_model: bool
    fold: int | None = None
    shortening: int = 1

    @property
    def length(self) -> Length:
        """Rows and epochs."""
        return Length(self.size, self.shortening)

    @property
    def name(self) -> str:
        """Name of the run in messages."""
        fold = "" if self.fold is None else f", fold {self.fold + 1}"
        return f"{self.scenario.name}, {self.length.text}, seed {self.seed}{fold}"

    @property
    def folder(self) -> Path:
        """Folder of the run, relative to the folder of the study."""
        return self._folder_of(self.scenario.folder_name)

    @property
    def start_folder(self) -> Path | None:
        """Folder of the run whose model it starts from, or None if it starts from the encoder."""
        return None if self.scenario.starts_from is None else self._folder_of(self.scenario.starts_from)

    def _folder_of(self, scenario: str) -> Path:
        """Return the folder of a scenario's run with the same size, seed and fold."""
        folder = Path(RUNS_FOLDER, scenario, str(self.size), str(self.seed))
        if self.shortening > 1:
            folder = folder / f"short-{self.shortening}"
        return folder if self.fold is None else folder / f"fold-{self.fold + 1}"


@dataclass(frozen=True)
class StudyPlan:
    """Plan of a study. It can be sent to another process.

    Args:
        config: Config that all runs share.
        folder: Folder of the study.
        digest: Digest of the settings, which marks the records of this study.
        settings: Settings that the results depend on; see `study_settings`.
        minutes: Time limit of a run in minutes, if any.
        scenarios: The scenarios.
        runs: The runs, each after the run that it starts from.
        skipped: Scenarios that cannot be run, by number of training rows.
        num_rows: Number of rows by split. With folds, `HELD_OUT` takes the place of validation and test, and train is
            the smallest number of training rows.
        folds: Rows of each fold; empty without folds.
    """

    config: RunConfig
    folder: Path
    digest: str
    settings: JsonObject
    minutes: float | None
    scenarios: tuple[Scenario, ...]
    runs: tuple[PlannedRun, ...]
    skipped: tuple[SkippedRun, ...]
    num_rows: dict[str, int]
    folds: tuple[Sequence[int], ...] = ()


def plan_study(
    config: RunConfig,
    folder: str | Path,
    scenarios: Sequence[str] | None,
    seeds: int,
    sizes: Sequence[int | str],
    epochs: float | None,
    minutes: float | None,
    alone: bool = False,
    racing: bool = False,
) -> tuple[StudyPlan, PreparedData]:
    """Plan a study or a race and prepare its data; see `run_study` for the arguments.

    A race has runs of all rungs, of which it trains some, and scenarios that can race.

    Returns:
        The plan and the prepared data.

    Raises:
        ValueError: If config, data or arguments are invalid, or the folder contains the study of another config.
        FileExistsError: If the folder contains something else.
    """
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, found {seeds}.")
    for name, value in (("epochs", epochs), ("minutes", minutes)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be above 0, found {value}.")
    folder = Path(folder)
    _check_splits(config)
    # Some scenarios watch the evaluation of each epoch.
    config = replace(config, training={"eval_strategy": "epoch", **config.training})
    # Only the scenarios of adapters have any.
    lora, config = config.lora, replace(config, lora=None)
    # Tasks by themselves, with no other scenario, are trained as a whole.
    parts = load_parts(config, freezes_layers=not alone or scenarios is not None)
    # Chosen once, so that the runs differ in nothing but their scenario and their seed.
    config = shared_config(completed_config(config, settings_of(config, parts.facts)), folder, epochs)
    with_lora = replace(config, lora=lora)
    settings = study_settings(with_lora, minutes)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    check_folder(folder, settings)
    # A trainer that is never run: it builds and checks all that the runs share.
    with tempfile.TemporaryDirectory() as unused:
        trainer, data = assemble_trainer(replace(config, output_dir=unused), parts), parts.data
    groups, arguments = trainer.layer_groups, trainer.args
    scenarios = with_alone(scenarios, data.tasks) if alone else scenarios
    find = find_racers if racing else find_scenarios
    chosen = find(scenarios, data.tasks, len(groups.layers) if encoder_is_divided(groups) else 0)
    # Streams were refused above, so every split has a length.
    num_rows = {split: len(rows) for split in SPLITS if isinstance(rows := data.get(split), datasets.Dataset)}
    folds: tuple[Sequence[int], ...] = ()
    if data.folds is not None:
        check_labels_of_folds(data.folds, data.tasks)
        folds = tuple(map(data.folds.rows, range(data.folds.number)))
        num_rows = {"train": num_rows["train"] - max(map(len, folds)), HELD_OUT: num_rows["train"]}
    started_from = {scenario.starts_from for scenario in chosen}
    first_seed = int(config.training.get("seed", arguments.seed))
    runs: list[PlannedRun] = []
    skipped: list[SkippedRun] = []
    parsed = parse_sizes(sizes, num_rows["train"])
    lengths = _race_lengths(parsed[-1], arguments) if racing else [Length(size) for size in parsed]
    for length in lengths:
        runnable, too_short = _schedule_scenarios(chosen, length, groups, arguments)
        skipped += too_short
        runs += [
            PlannedRun(
                scenario, length.size, first_seed + i, freeze, scenario.name in started_from, fold, length.shortening
            )
            for scenario, freeze in runnable
            for i in range(seeds)
            for fold in (range(len(folds)) if folds else [None])
        ]
    # Each scenario once before any twice: a study that is stopped early compares as many as possible.
    runs.sort(key=lambda run: (run.size, -run.shortening, run.seed, run.fold or 0))
    if not runs:
        raise ValueError(f"no scenario can be run: {skipped[0]['reason']}")
    shared = (with_lora, folder, digest, settings, minutes)
    return StudyPlan(*shared, tuple(chosen), tuple(runs), tuple(skipped), num_rows, folds), data


def _steps_per_epoch(size: int, arguments: TrainingArguments) -> int:
    return optimizer_steps(arguments, -(-size // arguments.per_device_train_batch_size))


def _race_lengths(size: int, arguments: TrainingArguments) -> list[Length]:
    return rung_lengths(size, total_steps(arguments, _steps_per_epoch(size, arguments)))


def _schedule_scenarios(
    scenarios: Sequence[Scenario], length: Length, groups: LayerGroups, arguments: TrainingArguments
) -> tuple[list[tuple[Scenario, str | JsonObject]], list[SkippedRun]]:
    """Return the scenarios that fit into a run of a length, each with its ``freeze``, and the others."""
    size = length.size
    steps_per_epoch = _steps_per_epoch(size, arguments)
    max_steps = total_steps(arguments, steps_per_epoch, length.shortening)
    runnable: list[tuple[Scenario, str | JsonObject]] = []
    skipped: list[SkippedRun] = []
    # Scenarios that start from the model of another one come after it.
    for scenario in sorted(scenarios, key=lambda scenario: scenario.starts_from is not None):
        freeze = scenario.freeze_for(steps_per_epoch, max_steps)
        try:
            schedule = build_schedule(freeze, groups, max_steps / steps_per_epoch, arguments.metric_for_best_model)
            schedule.check_length(steps_per_epoch, max_steps)
        except ValueError as error:
            skipped.append({"scenario": scenario.name, "size": size, "reason": str(error)})
            logger.warning("%s, %d rows: skipped: %s", scenario.name, size, error)
            continue
        runnable.append((scenario, freeze))
    return runnable, skipped


def shared_config(config: RunConfig, folder: Path, epochs: float | None) -> RunConfig:
    """Return the config that all runs of a study share.

    Args:
        config: The config of the user.
        folder: Folder of the study.
        epochs: Number of epochs of each run. Defaults to the epochs or steps of the config.
    """
    arguments = config.training_arguments()
    training: JsonObject = {
        **config.training,
        "disable_tqdm": True,
        "report_to": "none",
        "push_to_hub": False,
        # Runs share cached states, such as the frozen encoder's states of the test rows.
        "store_frozen": arguments.store_frozen if "store_frozen" in config.training else ALWAYS,
        "store_dir": str(folder / STATES_FOLDER),
        # Only the weights of the best epoch are needed, until the run ends: runs of a study are never resumed.
        "save_only_model": True,
        "save_total_limit": 1,
    }
    if not arguments.load_best_model_at_end:
        training["save_strategy"] = "no"
    if arguments.eval_strategy == "epoch":
        # The loss gap needs a training loss per evaluation, and an epoch of few rows is shorter than `logging_steps`.
        training["logging_strategy"] = "epoch"
    if epochs is not None:
        training |= {"num_train_epochs": epochs, "max_steps": -1}
    return replace(config, freeze="none", training=training)


def study_settings(config: RunConfig, minutes: float | None) -> JsonObject:
    """Return the settings that the results of a study's runs depend on, as JSON represents them.

    Scenarios, sizes and seeds are not among them: more of them add runs to a study.

    Args:
        config: Return value of `shared_config`.
        minutes: Time limit of a run in minutes, if any.
    """
    values = {item.name: getattr(config, item.name) for item in dataclasses.fields(config)}
    values = {name: value for name, value in values.items() if name not in RUN_FIELDS}
    if Path(config.encoder).is_dir():
        values["encoder"] = str(Path(config.encoder).resolve())
    del values["lora"]
    if config.lora is not None:
        values["lora"] = dataclasses.asdict(config.lora)
    values["tasks"] = [task.to_dict() for task in config.tasks]
    sets = [_data_settings(data) for data in config.data_configs]
    values["data"] = sets[0] if isinstance(config.data, DataConfig) else sets
    values["sampling"] = dataclasses.asdict(config.sampling)
    values["training"] = {name: value for name, value in config.training.items() if name not in RUN_TRAINING_FIELDS}
    values["minutes"] = minutes
    return json.loads(json.dumps(values, sort_keys=True, default=str))


def parse_sizes(sizes: Sequence[int | str], num_rows: int) -> list[int]:
    """Parse sizes of the training set.

    Args:
        sizes: Numbers of rows, or ``"all"``.
        num_rows: Number of training rows available.

    Returns:
        Numbers of rows, ascending.

    Raises:
        ValueError: If a size is not a number, below 1 or above the number of rows.
    """
    parsed = set()
    for size in sizes:
        if size == ALL_ROWS:
            parsed.add(num_rows)
            continue
        if not str(size).isdigit() or not 1 <= int(size) <= num_rows:
            raise ValueError(
                f"sizes: expected numbers of rows from 1 to {num_rows}, the number of rows of train, or 'all', found "
                f"{size!r}."
            )
        parsed.add(int(size))
    if not parsed:
        raise ValueError("sizes is empty; expected at least one number of rows, or 'all'.")
    return sorted(parsed)


def _check_splits(config: RunConfig) -> None:
    if any(data.streams_train for data in config.data_configs):
        raise ValueError(
            "study: trains on subsets of several sizes, so it needs all training rows: leave out streaming."
        )
    if any(data.folds is not None for data in config.data_configs):
        return
    if all(data.test is None for data in config.data_configs):
        raise ValueError(
            "study: data.test is missing; the scenarios are compared on its rows. Without test, give data.folds: the "
            "scenarios are then compared on folds of train."
        )
    if not any(data.has_validation for data in config.data_configs):
        raise ValueError("study: data.validation is missing; expected a file, or data.validation_split.")


def check_folder(folder: Path, settings: JsonObject) -> None:
    """Raise if a folder contains something other than this study.

    Args:
        folder: The folder.
        settings: Return value of `study_settings`.

    Raises:
        ValueError: If the folder contains the study of another config. The message lists the differences.
        FileExistsError: If the folder contains something else.
    """
    path = folder / CONFIG_NAME
    if not path.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(f"{str(folder)!r} exists and does not contain a study; give another folder.")
        return
    try:
        existing = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON. {error}") from error
    differences = _differences(existing, settings)
    if differences:
        raise ValueError(
            f"{str(folder)!r} contains the study of another config: {'; '.join(differences)}. Give another folder, or "
            "the config that the study was made with."
        )


def _differences(there: object, here: object, name: str = "") -> list[str]:
    """Return a phrase for each value that differs between two configs."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        return [
            line
            for key in dict.fromkeys([*there, *here])
            for line in _differences(there.get(key), here.get(key), f"{name}.{key}" if name else key)
        ]
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here) and there:
        pairs = enumerate(zip(there, here, strict=True))
        return [line for i, (one, other) in pairs for line in _differences(one, other, f"{name}.{i}")]
    return [] if there == here else [f"{name} is {there!r:.80} there and {here!r:.80} here"]


def _data_settings(data: DataConfig) -> JsonObject:
    values = {item.name: getattr(data, item.name) for item in dataclasses.fields(data) if item.name != "num_proc"}
    # Without folds, a study has the settings that it had before there were folds, so that it can be continued.
    values = {
        name: value
        for name, value in values.items()
        if name not in ("folds", "group", "out_of_scope") or value is not None
    }
    if data.out_of_scope is not None:
        values["out_of_scope"] = {split: _identify_source(rows) for split, rows in data.out_of_scope_sources().items()}
    return values | {split: _identify_source(values[split]) for split in SPLITS}


def _identify_source(source: Any) -> str | None:
    """Return a string that identifies the rows of a split."""
    if source is None:
        return None
    if isinstance(source, (str, Path)):
        path = Path(source)
        if not path.is_file():
            return str(source)
        return f"{path.name}, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    if hasattr(source, "_fingerprint"):
        return f"datasets, {source._fingerprint}"
    text = json.dumps(list(source), sort_keys=True, default=str)
    return f"{len(source)} rows, sha256 {hashlib.sha256(text.encode()).hexdigest()}"
