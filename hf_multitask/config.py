"""The config of a run, read from YAML, with every field open to be overridden."""

import dataclasses
import json
from argparse import ArgumentError
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import yaml
from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import HfArgumentParser

from .data import load_hub_split
from .freezing.presets import SCHEDULE_SUFFIXES
from .models import TaskConfig
from .models.names import unknown_name
from .training_args import MultiTaskTrainingArguments

SPLITS = ("train", "validation", "test")

# What a run does unless its config says otherwise; in Python the defaults of TrainingArguments hold.
TRAINING_DEFAULTS: dict[str, Any] = {
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 2,
    "load_best_model_at_end": True,
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 64,
    "logging_steps": 25,
    "report_to": "none",
}


@strict
@dataclass
class DataConfig:
    """Where the rows are and how they are read.

    Args:
        train: File, folder of ``save_to_disk``, or the split's name where ``name`` is given.
        validation: The same for validation; the best epoch is chosen on it.
        test: The same for test.
        name: Hub name of a data set, or a folder that ``datasets`` can read.
        config: Configuration of that data set.
        revision: Revision of that data set.
        format: Format of the files, such as ``"conll"``; by their extension where None.
        columns: By our name of a column, its name in the files, or its number in CoNLL files.
        max_length: Longest sequence in subwords; what the tokenizer says where None.
        label_subwords: Which subwords of a word are trained on: ``"first"`` or ``"all"``.
        unseen_labels: What to do with a label that train never has: ``"error"`` or ``"ignore"``.
    """

    train: str | None = None
    validation: str | None = None
    test: str | None = None
    name: str | None = None
    config: str | None = None
    revision: str | None = None
    format: str | None = None
    columns: dict[str, str | int] = field(default_factory=dict)
    max_length: int | None = None
    label_subwords: str = "first"
    unseen_labels: str = "error"

    def sources(self) -> dict[str, str | datasets.Dataset]:
        """Return the file or the data set of each split that is given."""
        given = {split: getattr(self, split) for split in SPLITS if getattr(self, split) is not None}
        if self.name is None:
            return given
        return {split: load_hub_split(self.name, name, self.config, self.revision) for split, name in given.items()}


@strict
@dataclass
class RunConfig:
    """All that a training run is made of.

    Args:
        encoder: Hub name or folder of the encoder.
        tasks: The tasks.
        data: The data.
        freeze: What trains when: a preset such as ``"three-stage"``, a file of stages, groups that do not train, a
            mapping with ``stages`` or ``preset``; see `freezing.build_schedule`.
        pooling: ``"mean"``, ``"cls"`` or ``"max"``; the encoder's own where None.
        training: Fields of `MultiTaskTrainingArguments`.
        output_dir: Folder of the model and its checkpoints.
    """

    encoder: str
    tasks: list[TaskConfig]
    data: DataConfig
    output_dir: str
    freeze: str | list[str] | dict[str, Any] = "none"
    pooling: str | None = None
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what no single field can tell."""
        if not self.tasks:
            raise ValueError("tasks is empty; expected at least one task.")
        if self.data.train is None:
            raise ValueError("data.train is missing; expected a JSONL file or the name of a split.")
        self.training_arguments()

    @classmethod
    def from_file(cls, path: str | Path, overrides: Mapping[str, Any] | None = None) -> "RunConfig":
        """Read a config.

        Args:
            path: YAML file. Its data files, its file of stages and an encoder folder are relative to it.
            overrides: Values by dotted name that replace the file's, such as ``{"training.num_train_epochs": 1}``.
                Their paths are relative to the working directory.

        Returns:
            The config.

        Raises:
            ValueError: If the file is no YAML, or a key or value is not allowed. The message names the file, and the
                closest key.
        """
        path = Path(path)
        values = _resolve_paths(_read_yaml(path), path.parent)
        for name, value in (overrides or {}).items():
            _set(values, name, value)
        try:
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunConfig":
        """Build a config from a mapping, as a YAML file holds it.

        Args:
            values: Field names and values.

        Returns:
            The config.

        Raises:
            ValueError: If a key is unknown or missing, or a value is of another type.
        """
        _check_keys(cls, values, "key")
        required = [
            item.name
            for item in dataclasses.fields(cls)
            if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        ]
        for key in required:
            if values.get(key) is None:
                raise ValueError(f"the key {key!r} is missing, found {', '.join(values) or 'none'}.")
        data = values["data"]
        if not isinstance(data, Mapping):
            raise ValueError(f"data must be a mapping such as {{train: train.jsonl}}, found {data!r}.")
        _check_keys(DataConfig, data, "key in data")
        tasks = values["tasks"]
        if not isinstance(tasks, list) or not all(isinstance(task, Mapping) for task in tasks):
            raise ValueError(f"tasks must be a list of mappings such as {{name: …, type: …}}, found {tasks!r:.80}.")
        try:
            parsed = {"data": DataConfig(**data), "tasks": [TaskConfig.from_dict(dict(task)) for task in tasks]}
            return cls(**{**values, **parsed})
        except StrictDataclassError as error:
            raise ValueError(str(error)) from error

    def training_arguments(self) -> MultiTaskTrainingArguments:
        """Return the training arguments: the run's defaults, what the config says, and ``output_dir``.

        Raises:
            ValueError: If a field is unknown, or its value is of another type.
        """
        allowed = [item.name for item in dataclasses.fields(MultiTaskTrainingArguments) if item.init]
        for key in self.training:
            if key not in allowed:
                raise ValueError(unknown_name("key in training", key, allowed))
        if "output_dir" in self.training:
            raise ValueError("training.output_dir is the run's output_dir; give it there.")
        defaults = dict(TRAINING_DEFAULTS)
        if self.data.validation is None:
            defaults |= {"eval_strategy": "no", "load_best_model_at_end": False}
        values = {**defaults, **self.training, "output_dir": self.output_dir}
        parser = HfArgumentParser(MultiTaskTrainingArguments, exit_on_error=False)
        try:
            (arguments,) = parser.parse_args_into_dataclasses(_as_options(values))
        except ArgumentError as error:
            raise ValueError(
                f"training.{str(error).removeprefix('argument --').split('/')[0]}: {error.message}"
            ) from error
        return arguments


def _check_keys(config: type, values: Mapping[str, Any], what: str) -> None:
    allowed = [item.name for item in dataclasses.fields(config)]
    for key in values:
        if key not in allowed:
            raise ValueError(unknown_name(what, key, allowed))


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such config file.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: expected YAML. {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8. {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping of keys, found {type(values).__name__}.")
    return values


def _resolve_paths(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make the data files, a file of stages and an encoder folder relative to the config's folder."""
    data = values.get("data")
    if isinstance(data, dict) and data.get("name") is None:
        for split in SPLITS:
            if isinstance(data.get(split), str):
                data[split] = str(folder / data[split])
    encoder = values.get("encoder")
    if isinstance(encoder, str) and (folder / encoder).is_dir():
        values["encoder"] = str(folder / encoder)
    freeze = values.get("freeze")
    if isinstance(freeze, str) and freeze.endswith(SCHEDULE_SUFFIXES):
        values["freeze"] = str(folder / freeze)
    return values


def _set(values: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a value by its dotted name."""
    *parents, last = dotted.split(".")
    for parent in parents:
        inner = values.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise ValueError(f"--{dotted}: {parent!r} is not a mapping, found {inner!r:.80}.")
        values = inner
    values[last] = value


def _as_options(values: Mapping[str, Any]) -> list[str]:
    """Write values as the options that `HfArgumentParser` reads, which converts and checks their types."""
    options = []
    for key, value in values.items():
        if value is None:
            continue
        if isinstance(value, list):
            options.extend([f"--{key}", *map(str, value)])
        else:
            text = json.dumps(value) if isinstance(value, dict) else str(value)
            options.append(f"--{key}={text}")
    return options
