"""Recommendation, and its config file."""

import os
import textwrap
from dataclasses import dataclass
from pathlib import Path

from ..data import SPLITS, DataConfig
from ..freezing import FreezeSchedule
from ..models.encoder_loading import find_model
from ..models.type_aliases import JsonObject
from ..runs.config import RunConfig
from ..runtime.dataclass_yaml import changed_fields, to_yaml
from .cost_model import Machine
from .data_facts import DataFacts
from .domain_distance import Closeness
from .rules import Finding

LINE_LENGTH = 115


@dataclass(frozen=True)
class Recommendation:
    """Recommended freeze schedule, encoder and learning rates, with reasons.

    Args:
        encoder: Recommended encoder.
        encoder_is_here: Whether the encoder is on this machine.
        preset: Name of the schedule, a value of ``freeze``.
        schedule: Stages of the schedule for the config's encoder.
        epochs: Number of epochs.
        learning_rate: Peak learning rate of the encoder.
        head_learning_rate: Peak learning rate of the heads.
        minutes: Estimated duration of the run on this machine.
        reasons: Findings that decided, with evidence and source.
        conflicts: Descriptions of the rules that disagreed, and of why one took precedence.
        facts: Facts about the data.
        closeness: Distance of the texts to general text.
        machine: Available compute.
        config: Config of the run, ready to train. Its encoder is the recommended one, unless that is not on this
            machine and the hub is offline; then it keeps the encoder of the config that was given.
    """

    encoder: str
    encoder_is_here: bool
    preset: str
    schedule: FreezeSchedule
    epochs: float
    learning_rate: float
    head_learning_rate: float
    minutes: float
    reasons: list[Finding]
    conflicts: list[str]
    facts: DataFacts
    closeness: Closeness
    machine: Machine
    config: RunConfig

    def to_yaml(self, folder: str | Path = ".") -> str:
        """Return the config as YAML, with the reasons as comments.

        Args:
            folder: Folder of the file. Paths in it are relative to this folder.

        Raises:
            ValueError: If the data is not given as files, names or lists of rows, which a file can contain.
        """
        values = to_yaml(_config_values(self.config, Path(folder)))
        comments = [f"{reason.rule}: {reason.advice}. {reason.evidence}. {reason.reason}." for reason in self.reasons]
        comments += [f"Rules disagree: {conflict}" for conflict in self.conflicts]
        lines = [
            line
            for comment in comments
            for line in textwrap.wrap(comment, LINE_LENGTH, initial_indent="# - ", subsequent_indent="#   ")
        ]
        return "\n".join(["# Recommended, because:", *lines, values])

    def save(self, path: str | Path) -> None:
        """Write the config file, for ``hf-multitask train`` and ``hf-multitask plan``.

        Args:
            path: YAML file to write.

        Raises:
            ValueError: See `to_yaml`.
        """
        path = Path(path)
        path.write_text(self.to_yaml(path.parent), encoding="utf-8")


def _config_values(config: RunConfig, folder: Path) -> JsonObject:
    """Return the values of a config that differ from their defaults, with paths relative to a folder."""
    data = [_data_values(item, folder) for item in config.data_configs]
    encoder = config.encoder
    if find_model(encoder) == str(Path(encoder).expanduser()) and Path(encoder).expanduser().is_dir():
        encoder = _relative(encoder, folder)
    # The schedule is in the file even if it is the default, and the folder comes last.
    changed = {"freeze": config.freeze, **changed_fields(config)}
    first = {
        "encoder": encoder,
        "tasks": changed["tasks"],
        "data": data[0] if isinstance(config.data, DataConfig) else data,
        "freeze": changed["freeze"],
    }
    others = {key: value for key, value in changed.items() if key not in first and key != "output_dir"}
    return {**first, **others, "output_dir": config.output_dir}


def _data_values(data: DataConfig, folder: Path) -> JsonObject:
    values = changed_fields(data)
    for split in SPLITS:
        source = values.get(split)
        if isinstance(source, (str, Path)) and data.name is None:
            values[split] = _relative(source, folder)
        elif source is not None and not isinstance(source, (str, list, tuple)):
            raise ValueError(
                f"data.{split}: expected a file, the name of a split or a list of rows, as a config file can contain, "
                f"found {type(source).__name__}."
            )
    return values


def _relative(path: str | Path, folder: Path) -> str:
    return os.path.relpath(Path(path).expanduser().resolve(), folder.resolve())
