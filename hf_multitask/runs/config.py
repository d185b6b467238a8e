"""Config of a run, read from YAML, with overrides of any field."""

import dataclasses
import json
from argparse import ArgumentError
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from transformers import HfArgumentParser, PreTrainedTokenizerBase

from ..data import SPLITS, DataConfig, Sampling
from ..freezing.presets import SCHEDULE_SUFFIXES
from ..models import TaskConfig
from ..models.encoder_loading import TokenizerConfig, load_tokenizer
from ..models.encoder_pooling import find_pooling
from ..models.field_types import check_fields, checked_mapping, describe_value
from ..models.messages import unknown_name_message
from ..models.type_aliases import JsonObject
from ..runtime.dataclass_yaml import build, check_keys, check_required, from_mapping
from ..runtime.extras import check_packages
from ..runtime.plain_values import read_yaml_mapping
from ..training.arguments import MultiTaskTrainingArguments
from ..training.contrastive import ContrastiveConfig, contrasted_tasks
from ..training.settings import EFFORTS, STANDARD
from .distillation import DistillConfig, resolve_distill_paths
from .lora import LoraSettings

# Defaults of a run where they differ from those of TrainingArguments.
TRAINING_DEFAULTS: JsonObject = {
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 2,
    "load_best_model_at_end": True,
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 64,
    "logging_steps": 25,
    "report_to": "none",
}

# A stream has no epochs, so a tenth of the run takes the place of an epoch.
STREAMING_DEFAULTS: JsonObject = {
    "eval_strategy": "steps",
    "eval_steps": 0.1,
    "save_strategy": "steps",
    "save_steps": 0.1,
}


# Arguments of which "no" is a value, which YAML 1.1 reads as false.
STRATEGIES = ("eval_strategy", "save_strategy", "logging_strategy")


@dataclass
class RunConfig:
    """Config of a training run.

    Args:
        encoder: Hub name or folder of the encoder, or of a multi-task model to continue from: tasks that it already
            has keep their heads and labels, the others get new heads.
        tasks: The tasks.
        data: The dataset, or several datasets whose rows are mixed.
        freeze: Freeze schedule: a preset such as ``"three-stage"``, a file of stages, the groups that do not train, or
            a mapping with ``stages`` or ``preset``; see `freezing.build_schedule`.
        pooling: Pooling of the token states, such as ``"mean"`` or ``"cls"``; see `encoder_pooling.pool`. Defaults to
            the encoder's own pooling.
        effort: Training time that a better score is worth: ``"quick"``, ``"standard"`` or ``"thorough"``. Decides on
            the settings that are left out; see `choose_settings`.
        tokenizer: Settings that replace those of the encoder's tokenizer.
        attn_implementation: Attention implementation of the encoder, such as ``"sdpa"`` or ``"flash_attention_2"``.
            Defaults to the encoder's own choice.
        sampling: Shares of the datasets in training.
        distill: Teacher of the run and its unlabeled rows.
        contrastive: Contrastive warm-up of the encoder before the training. None without it.
        lora: LoRA adapters that train instead of the encoder's own weights. None without them.
        calibrate: Whether to fit a temperature for the scores of each task on validation after the training; see
            `MultiTaskTrainer.calibrate`. Labels do not change by it.
        training: Fields of `MultiTaskTrainingArguments`. Those that are left out and that matter for the scores are
            chosen from the data.
        output_dir: Folder of the model and its checkpoints, relative to the current folder: what a config names to be
            read is relative to the config, what a run writes is not.
    """

    encoder: str
    tasks: list[TaskConfig]
    data: DataConfig | list[DataConfig]
    output_dir: str
    freeze: str | list[str] | JsonObject = "none"
    effort: str = STANDARD
    pooling: str | None = None
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    attn_implementation: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    distill: DistillConfig | None = None
    contrastive: ContrastiveConfig | None = None
    lora: LoraSettings | None = None
    calibrate: bool = True
    training: JsonObject = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values."""
        check_fields(self)
        if not self.output_dir.strip():
            raise ValueError("output_dir is empty; expected a folder.")
        if self.pooling is not None:
            self.pooling = find_pooling(self.pooling)
        if self.effort not in EFFORTS:
            raise ValueError(unknown_name_message("effort", self.effort, EFFORTS))
        if not self.tasks:
            raise ValueError("tasks is empty; expected at least one task.")
        if not self.data_configs:
            raise ValueError("data is empty; expected at least one dataset.")
        for i, config in enumerate(self.data_configs):
            if config.train is None:
                name = "data" if isinstance(self.data, DataConfig) else f"data.{i}"
                raise ValueError(f"{name}.train is missing; expected a file or the name of a split.")
        if self.contrastive is not None:
            contrasted_tasks(self.tasks, self.contrastive.tasks)
        arguments = self.training_arguments()
        if arguments.max_steps <= 0 and any(config.streams_train for config in self.data_configs):
            raise ValueError("training.max_steps is missing: with data.streaming a run has no other end.")
        if self.distill is not None:
            self.distill.check_run(self.tasks, self.data_configs)
        if self.lora is not None:
            check_packages("lora", "lora")

    @property
    def data_configs(self) -> list[DataConfig]:
        """The datasets, also if there is only one."""
        return [self.data] if isinstance(self.data, DataConfig) else self.data

    @classmethod
    def from_file(cls, path: str | Path, overrides: Mapping[str, object] | None = None) -> "RunConfig":
        """Read a config.

        Args:
            path: YAML file. Paths in it (data files, a file of stages, an encoder folder) are relative to its folder.
            overrides: Values by dotted name that replace values of the file, such as
                ``{"training.num_train_epochs": 1}``. Paths among them are relative to the working directory.

        Returns:
            The config.

        Raises:
            FileNotFoundError: If the file does not exist.
            ValueError: If the file is not YAML, or a key or value is not allowed. The message names the file and the
                closest key.
        """
        path = Path(path)
        values = _resolve_paths(read_yaml_mapping(path, "config file"), path.parent)
        for name, value in (overrides or {}).items():
            _override(values, name, value)
        try:
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunConfig":
        """Build a config from a mapping, as a YAML file contains it.

        Args:
            values: Field names and values.

        Returns:
            The config.

        Raises:
            ValueError: If a key is unknown or missing, or a value has the wrong type.
        """
        check_keys(cls, values)
        check_required(cls, values)
        data = values["data"]
        if not isinstance(data, (Mapping, list)) or not all(isinstance(item, Mapping) for item in _as_list(data)):
            raise ValueError(
                f"data must be a mapping such as {{train: train.jsonl}}, or a list of them, found "
                f"{describe_value(data)}."
            )
        for item in _as_list(data):
            check_keys(DataConfig, item, "key in data")
        sampling = values.get("sampling", {})
        if not isinstance(sampling, Mapping):
            raise ValueError(
                f"sampling must be a mapping such as {{strategy: uniform}}, found {describe_value(sampling)}."
            )
        check_keys(Sampling, sampling, "key in sampling")
        contrastive = values.get("contrastive")
        tasks = values["tasks"]
        if not isinstance(tasks, list) or not all(isinstance(task, Mapping) for task in tasks):
            raise ValueError(
                f"tasks must be a list of mappings such as {{name: …, type: …}}, found {describe_value(tasks)}."
            )
        parsed: JsonObject = {
            "data": build(DataConfig, data, "data.")
            if isinstance(data, Mapping)
            else [build(DataConfig, item, f"data[{i}].") for i, item in enumerate(data)],
            "sampling": build(Sampling, sampling, "sampling."),
            "contrastive": None
            if contrastive is None
            else from_mapping(ContrastiveConfig, contrastive, "contrastive"),
            "tasks": [TaskConfig.from_dict(dict(task)) for task in tasks],
        }
        if values.get("tokenizer") is not None:
            parsed["tokenizer"] = from_mapping(TokenizerConfig, values["tokenizer"], "tokenizer")
        if values.get("distill") is not None:
            parsed["distill"] = from_mapping(DistillConfig, values["distill"], "distill")
        if values.get("lora") is not None:
            parsed["lora"] = from_mapping(LoraSettings, values["lora"], "lora")
        if values.get("freeze") is False:
            parsed["freeze"] = "none"  # `freeze: no` in YAML 1.1
        return build(cls, {**values, **parsed})

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer of the encoder with the settings of the config.

        Raises:
            ValueError: If it cannot be loaded or used; see `load_tokenizer`.
        """
        return load_tokenizer(self.encoder, self.tokenizer.pad_token, self.tokenizer.padding_side)

    def training_arguments(self, chosen: Mapping[str, object] = MappingProxyType({})) -> MultiTaskTrainingArguments:
        """Build the training arguments: the defaults of a run, the config's ``training``, and ``output_dir``.

        Building them resets accelerate's state, which belongs to the process, to that of these arguments.

        Args:
            chosen: Fields that are chosen from the data. They replace defaults, but not the config's ``training``.

        Raises:
            ValueError: If a field is unknown, or its value has the wrong type.
        """
        allowed = [item.name for item in dataclasses.fields(MultiTaskTrainingArguments) if item.init]
        for key in self.training:
            if key not in allowed:
                raise ValueError(unknown_name_message("key in training", key, allowed))
        if "output_dir" in self.training:
            raise ValueError("training.output_dir is the run's output_dir; give it there.")
        given = {key: "no" if key in STRATEGIES and value is False else value for key, value in self.training.items()}
        given = {key: value for key, value in given.items() if value is not None}
        checked_mapping(MultiTaskTrainingArguments, given, "training.")
        defaults = dict(TRAINING_DEFAULTS)
        if any(config.streams_train for config in self.data_configs):
            defaults |= STREAMING_DEFAULTS
        if not any(config.has_validation for config in self.data_configs):
            defaults |= {"eval_strategy": "no", "load_best_model_at_end": False}
        values = {**defaults, **chosen, **given, "output_dir": self.output_dir}
        # The annotation of transformers is a NewType that no dataclass has.
        parser = HfArgumentParser(MultiTaskTrainingArguments, exit_on_error=False)  # type: ignore[arg-type]
        # An option takes no empty list, and report_to no list at all.
        lists = {key: value for key, value in values.items() if isinstance(value, list)}
        try:
            parsed = parser.parse_args(_as_options({key: value for key, value in values.items() if key not in lists}))
        except ArgumentError as error:
            raise ValueError(
                f"training.{str(error).removeprefix('argument --').split('/')[0]}: {error.message}"
            ) from error
        return MultiTaskTrainingArguments(**(vars(parsed) | lists))


def _resolve_paths(values: JsonObject, folder: Path) -> JsonObject:
    """Resolve the data files, a file of stages and an encoder folder against the config's folder, in place."""
    for data in _as_list(values.get("data")):
        if isinstance(data, dict) and data.get("name") is None:
            for split in SPLITS:
                if isinstance(data.get(split), str):
                    data[split] = str(folder / data[split])
            outside = data.get("out_of_scope")
            if isinstance(outside, str):
                data["out_of_scope"] = str(folder / outside)
            elif isinstance(outside, dict):
                files = {split: str(folder / file) for split, file in outside.items() if isinstance(file, str)}
                data["out_of_scope"] = outside | files
    encoder = values.get("encoder")
    if isinstance(encoder, str) and (folder / encoder).is_dir():
        values["encoder"] = str(folder / encoder)
    resolve_distill_paths(values.get("distill"), folder)
    freeze = values.get("freeze")
    if isinstance(freeze, str) and freeze.endswith(SCHEDULE_SUFFIXES):
        values["freeze"] = str(folder / freeze)
    return values


def _as_list(value: Any) -> list[Any]:
    """Return a list as it is, and any other value in a list."""
    return value if isinstance(value, list) else [value]


def _override(values: JsonObject, dotted: str, value: object) -> None:
    """Set a value by its dotted name, in place."""
    *parents, last = dotted.split(".")
    for parent in parents:
        inner = values.setdefault(parent, {})
        if isinstance(inner, list):
            raise ValueError(f"--{dotted}: {parent!r} is a list; give the whole list: --{parent} '[{{…}}, {{…}}]'.")
        if not isinstance(inner, dict):
            raise ValueError(f"--{dotted}: {parent!r} is not a mapping, found {describe_value(inner)}.")
        values = inner
    values[last] = value


def _as_options(values: Mapping[str, object]) -> list[str]:
    """Return values as command-line options: `HfArgumentParser` checks and converts types only of those."""
    options = []
    for key, value in values.items():
        if value is not None:
            text = json.dumps(value) if isinstance(value, dict) else str(value)
            options.append(f"--{key}={text}")
    return options
