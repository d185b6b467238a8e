"""What a study is to run, checked as a whole before the first run."""

import dataclasses
import hashlib
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data import SPLITS, DataConfig, PreparedData
from ..freezing.activation_cache.cache_plan import ALWAYS
from ..freezing.presets import build_schedule
from ..freezing.schedule import encoder_is_divided
from ..runs.build import build_trainer
from ..runs.config import RunConfig
from ..runtime.run_length import optimizer_steps, total_steps
from .scenarios import Scenario, find_scenarios

logger = logging.getLogger(__name__)

CONFIG_NAME = "config.json"
RUNS_FOLDER = "runs"
STATES_FOLDER = "states"
ALL_ROWS = "all"
# Fields of a config that its study has its own values of.
OWN_FIELDS = ("output_dir", "freeze")
OWN_TRAINING = ("seed", "report_to", "push_to_hub", "store_dir", "disable_tqdm")


@dataclass(frozen=True)
class PlannedRun:
    """One training of a study.

    Args:
        scenario: What trains when.
        size: Training rows.
        seed: Seed of the run, and of which rows it takes.
        freeze: The config's ``freeze`` for it.
        keeps_model: Whether other runs start from its model.
    """

    scenario: Scenario
    size: int
    seed: int
    freeze: Any
    keeps_model: bool

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"{self.scenario.name}, {self.size:,} rows, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Its folder in that of the study."""
        return self.folder_of(self.scenario.folder_name)

    @property
    def start_folder(self) -> Path | None:
        """Folder of the run whose model it starts from; None where it starts from the encoder."""
        return None if self.scenario.starts_from is None else self.folder_of(self.scenario.starts_from)

    def folder_of(self, scenario: str) -> Path:
        """Return the folder of a scenario's run with the same rows and seed."""
        return Path(RUNS_FOLDER, scenario, str(self.size), str(self.seed))


@dataclass(frozen=True)
class StudyPlan:
    """All runs of a study; a process that is handed it can work on them.

    Args:
        config: The config that all runs share.
        folder: Folder of the study.
        digest: What tells its results from those of another config.
        settings: What the digest is of.
        minutes: The longest that a run may train; no bound where None.
        scenarios: The scenarios.
        runs: The runs, each behind the one that it starts from.
        skipped: Runs that cannot be: ``scenario``, ``size`` and ``reason``.
        num_rows: Rows by split.
    """

    config: RunConfig
    folder: Path
    digest: str
    settings: dict[str, Any]
    minutes: float | None
    scenarios: tuple[Scenario, ...]
    runs: tuple[PlannedRun, ...]
    skipped: tuple[dict[str, Any], ...]
    num_rows: dict[str, int]


def plan_study(
    config: RunConfig,
    folder: str | Path,
    scenarios: Sequence[str] | None,
    seeds: int,
    sizes: Sequence[int | str],
    epochs: float | None,
    minutes: float | None,
) -> tuple[StudyPlan, PreparedData]:
    """Work out the runs of a study; see `run_study` for the arguments.

    Returns:
        The plan and the prepared data.

    Raises:
        ValueError: If something in config, data or arguments is wrong, or the folder holds another config's study.
        FileExistsError: If the folder holds something else.
    """
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, found {seeds}.")
    for name, value in (("epochs", epochs), ("minutes", minutes)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be above 0, found {value}.")
    _check_splits(config)
    config = shared_config(config, Path(folder), epochs)
    settings = study_settings(config, minutes)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    check_folder(Path(folder), settings)
    with tempfile.TemporaryDirectory() as unused:
        trainer, data = build_trainer(replace(config, output_dir=unused))
    groups, arguments = trainer.layer_groups, trainer.args
    divided = encoder_is_divided(groups)
    chosen = find_scenarios(scenarios, data.tasks, len(groups.layers) if divided else 0)
    started_from = {scenario.starts_from for scenario in chosen}
    first_seed = int(config.training.get("seed", arguments.seed))
    runs, skipped = [], []
    # Streams are refused, so every split has a length.
    splits: dict[str, Any] = data.splits
    for size in parse_sizes(sizes, len(splits["train"])):
        steps_per_epoch = optimizer_steps(arguments, -(-size // arguments.per_device_train_batch_size))
        max_steps = total_steps(arguments, steps_per_epoch)
        for scenario in sorted(chosen, key=lambda scenario: scenario.starts_from is not None):
            freeze = scenario.freeze_for(steps_per_epoch, max_steps)
            try:
                schedule = build_schedule(freeze, groups, max_steps / steps_per_epoch, arguments.metric_for_best_model)
                schedule.check_length(steps_per_epoch, max_steps)
            except ValueError as error:
                skipped.append({"scenario": scenario.name, "size": size, "reason": str(error)})
                logger.warning("%s, %d rows: left out: %s", scenario.name, size, error)
                continue
            runs += [
                PlannedRun(scenario, size, first_seed + i, freeze, scenario.name in started_from) for i in range(seeds)
            ]
    if not runs:
        raise ValueError(f"no scenario can be run: {skipped[0]['reason']}")
    rows = {split: len(splits[split]) for split in SPLITS if split in splits}
    plan = StudyPlan(config, Path(folder), digest, settings, minutes, tuple(chosen), tuple(runs), tuple(skipped), rows)
    return plan, data


def shared_config(config: RunConfig, folder: Path, epochs: float | None) -> RunConfig:
    """Return the config that all runs of a study share.

    Args:
        config: The config as it was given.
        folder: Folder of the study.
        epochs: Epochs of each run; the config's where None.
    """
    arguments = config.training_arguments()
    training: dict[str, Any] = {
        **config.training,
        "disable_tqdm": True,
        "report_to": "none",
        "push_to_hub": False,
        # What one run computes once, such as the frozen encoder's states of the test rows, another reads.
        "store_frozen": arguments.store_frozen if "store_frozen" in config.training else ALWAYS,
        "store_dir": str(folder / STATES_FOLDER),
        # The weights of the best epoch are needed until the run's end; nobody resumes a run of a study.
        "save_only_model": True,
        "save_total_limit": 1,
    }
    if not arguments.load_best_model_at_end:
        training["save_strategy"] = "no"
    if arguments.eval_strategy == "epoch":
        # The gap of both losses needs them side by side, and few rows have fewer steps than one log.
        training["logging_strategy"] = "epoch"
    if epochs is not None:
        training |= {"num_train_epochs": epochs, "max_steps": -1}
    return replace(config, freeze="none", training=training)


def study_settings(config: RunConfig, minutes: float | None) -> dict[str, Any]:
    """Return all that decides what comes out of a study's runs, as JSON holds it.

    Scenarios, sizes and seeds are not in it: more of them add runs to a study.

    Args:
        config: What `shared_config` returns.
        minutes: The longest that a run may train.
    """
    values = {item.name: getattr(config, item.name) for item in dataclasses.fields(config)}
    values = {name: value for name, value in values.items() if name not in OWN_FIELDS}
    if Path(config.encoder).is_dir():
        values["encoder"] = str(Path(config.encoder).resolve())
    values["tasks"] = [task.to_dict() for task in config.tasks]
    sets = [_data_settings(data) for data in config.data_configs]
    values["data"] = sets[0] if isinstance(config.data, DataConfig) else sets
    values["sampling"] = dataclasses.asdict(config.sampling)
    values["training"] = {name: value for name, value in config.training.items() if name not in OWN_TRAINING}
    values["minutes"] = minutes
    return json.loads(json.dumps(values, sort_keys=True, default=str))


def parse_sizes(sizes: Sequence[int | str], num_rows: int) -> list[int]:
    """Read sizes of the training set.

    Args:
        sizes: Numbers of rows, or ``"all"``.
        num_rows: All training rows.

    Returns:
        The numbers, ascending.

    Raises:
        ValueError: If one is no number, below 1 or above that of the rows.
    """
    found = set()
    for size in sizes:
        if size == ALL_ROWS:
            found.add(num_rows)
            continue
        if not str(size).isdigit() or not 1 <= int(size) <= num_rows:
            raise ValueError(
                f"sizes: expected numbers of rows from 1 to {num_rows}, as many as train has, or 'all', found "
                f"{size!r}."
            )
        found.add(int(size))
    if not found:
        raise ValueError("sizes is empty; expected at least one number of rows, or 'all'.")
    return sorted(found)


def _check_splits(config: RunConfig) -> None:
    if any(data.streams_train for data in config.data_configs):
        raise ValueError(
            "study: takes training sets of several sizes, so all rows must be at hand: leave out streaming."
        )
    if all(data.test is None for data in config.data_configs):
        raise ValueError("study: data.test is missing; the scenarios are compared on its rows.")
    if all(data.validation is None and data.validation_split is None for data in config.data_configs):
        raise ValueError("study: data.validation is missing; expected a file, or data.validation_split.")


def check_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a folder that holds something else than this study.

    Args:
        folder: The folder.
        settings: What `study_settings` returns.

    Raises:
        ValueError: If it holds the study of another config. The message says what differs.
        FileExistsError: If it holds something else.
    """
    path = folder / CONFIG_NAME
    if not path.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(f"{str(folder)!r} exists and holds no study; give another folder.")
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON. {error}") from error
    differences = _differences(found, settings)
    if differences:
        raise ValueError(
            f"{str(folder)!r} holds the study of another config: {'; '.join(differences)}. Give another folder, or "
            "the config that it was made with."
        )


def _differences(there: Any, here: Any, name: str = "") -> list[str]:
    """Return in words where two configs differ."""
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


def _data_settings(data: DataConfig) -> dict[str, Any]:
    values = {item.name: getattr(data, item.name) for item in dataclasses.fields(data) if item.name != "num_proc"}
    return values | {split: _source(values[split]) for split in SPLITS}


def _source(source: Any) -> Any:
    """Return what tells the rows of a split from others."""
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
