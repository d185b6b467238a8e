"""What is recommended, and the config file of it."""

import os
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import SPLITS, DataConfig
from ..freezing import FreezeSchedule
from ..models.encoder_loading import find_model
from ..runs.config import RunConfig
from ..runtime.dataclass_yaml import changed_fields, to_yaml
from .cost_model import Machine
from .data_facts import DataFacts
from .domain_distance import Closeness
from .rules import Finding

LINE_LENGTH = 115


@dataclass(frozen=True)
class Recommendation:
    """A schedule, an encoder and rates, and why.

    Args:
        encoder: The encoder that is recommended.
        encoder_is_here: Whether it is on this machine.
        preset: The schedule's name, as ``freeze`` takes it.
        schedule: The stages that it stands for with the config's encoder.
        epochs: Length of the run.
        learning_rate: Peak learning rate of the encoder.
        head_learning_rate: Peak learning rate of the heads.
        minutes: About how long the run takes on this machine.
        reasons: What decided, with its evidence and source.
        conflicts: Where rules pulled apart, and which of them went first and why.
        facts: The data.
        closeness: How close the texts are to general ones.
        machine: The compute at hand.
        config: The config of the run, ready to train. Its encoder is the recommended one, but where that is not on
            this machine and the hub is switched off: then it is the one that was asked with.
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
        """Return the config file, with the reasons as comments.

        Args:
            folder: Where the file will be: paths in it are relative to that.

        Raises:
            ValueError: If the data are no files, names or rows, which a file can hold.
        """
        values = to_yaml(_config_values(self.config, Path(folder)))
        comments = [f"{reason.rule}: {reason.advice}. {reason.evidence}. {reason.reason}." for reason in self.reasons]
        comments += [f"Rules pull apart: {conflict}" for conflict in self.conflicts]
        lines = [
            line
            for comment in comments
            for line in textwrap.wrap(comment, LINE_LENGTH, initial_indent="# - ", subsequent_indent="#   ")
        ]
        return "\n".join(["# Recommended, because:", *lines, values])

    def save(self, path: str | Path) -> None:
        """Write the config file, which ``hf-multitask train`` and ``plan`` take.

        Args:
            path: YAML file to write.

        Raises:
            ValueError: See `to_yaml`.
        """
        path = Path(path)
        path.write_text(self.to_yaml(path.parent), encoding="utf-8")


def _config_values(config: RunConfig, folder: Path) -> dict[str, Any]:
    """Return what differs from the defaults of a config, with paths relative to a folder."""
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


def _data_values(data: DataConfig, folder: Path) -> dict[str, Any]:
    values = changed_fields(data)
    for split in SPLITS:
        source = values.get(split)
        if isinstance(source, (str, Path)) and data.name is None:
            values[split] = _relative(source, folder)
        elif source is not None and not isinstance(source, (str, list, tuple)):
            raise ValueError(
                f"data.{split}: expected a file, a split's name or a list of rows to write a config with, found "
                f"{type(source).__name__}."
            )
    return values


def _relative(path: str | Path, folder: Path) -> str:
    return os.path.relpath(Path(path).expanduser().resolve(), folder.resolve())
