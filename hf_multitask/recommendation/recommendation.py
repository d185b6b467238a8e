"""Recommendation, and its config file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..freezing import FreezeSchedule
from ..probing import LayerProbe
from ..runs.config import RunConfig
from ..runs.config_file import config_to_yaml
from .cost_model import Machine
from .current_encoders import CurrentEncoder
from .data_facts import DataFacts
from .domain_distance import Closeness
from .rules import Finding


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
        alternatives: Current encoders of about the same size, which no run of ours has compared.
        facts: Facts about the data.
        closeness: Distance of the texts to general text.
        machine: Available compute.
        probe: Probe of the config's encoder with these rows; None if none was asked for.
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
    alternatives: Sequence[CurrentEncoder]
    facts: DataFacts
    closeness: Closeness
    machine: Machine
    probe: LayerProbe | None
    config: RunConfig

    def basis_of(self, reason: Finding) -> str:
        """Return whether a reason is measured on these rows or general, in words; nothing without a probe."""
        if self.probe is None:
            return ""
        return "measured on these rows" if reason.is_measured else "general"

    def to_yaml(self, folder: str | Path = ".") -> str:
        """Return the config as YAML, with the reasons as comments.

        Args:
            folder: Folder of the file. Paths in it are relative to this folder.

        Raises:
            ValueError: If the data is not given as files, names or lists of rows, which a file can contain.
        """
        comments = [
            f"{_tag(self.basis_of(reason))}{reason.rule}: {reason.advice}. {reason.evidence}. {reason.reason}."
            for reason in self.reasons
        ]
        comments += [f"Two rules disagree: {conflict}" for conflict in self.conflicts]
        return config_to_yaml(self.config, folder, "Recommended, because:", comments)

    def save(self, path: str | Path) -> None:
        """Write the config file, for ``hf-multitask train`` and ``hf-multitask plan``.

        Args:
            path: YAML file to write.

        Raises:
            ValueError: See `to_yaml`.
        """
        path = Path(path)
        path.write_text(self.to_yaml(path.parent), encoding="utf-8")


def _tag(basis: str) -> str:
    return f"({basis}) " if basis else ""
