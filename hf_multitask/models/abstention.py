"""Abstention of a text task: a statistic of its logits or states, and the threshold below which it is out of scope."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import MappingProxyType

import torch

from .field_types import check_fields
from .messages import unknown_name_message
from .type_aliases import JsonObject

ENERGY = "energy"
# Each is larger for texts in scope. Neither depends on the temperature of the task, so calibration changes no answer.
LOGIT_METHODS: MappingProxyType[str, Callable[[torch.Tensor], torch.Tensor]] = MappingProxyType(
    {
        # Liu et al. 2020: the negative free energy.
        ENERGY: lambda logits: logits.float().logsumexp(-1),
        # Hendrycks and Gimpel 2017.
        "max_softmax": lambda logits: logits.float().softmax(-1).amax(-1),
    }
)
# Statistics of pooled states, which need training texts: `heads_scope`.
MAHALANOBIS, NEAREST = STATE_METHODS = ("mahalanobis", "knn")
METHODS = (*LOGIT_METHODS, *STATE_METHODS)


@dataclass(frozen=True)
class Abstention:
    """How a text task abstains.

    Args:
        method: Statistic of the logits: ``"energy"`` or ``"max_softmax"``; or of the pooled states:
            ``"mahalanobis"`` or ``"knn"``.
        false_rejections: Share of the texts in scope of validation that are rejected, in (0, 1). It is not used if
            validation has rows marked as out of scope.
        threshold: Value of the statistic below which a text is rejected. Fitted on validation; without it, none is.
        scale: Standard deviation of the statistic on validation, for the score of being in scope.
        neighbors: For ``knn``, which nearest training text the distance is of.
        stored: For ``knn``, number of training texts that are stored; set when they are.

    Raises:
        ValueError: If a value is not allowed.
    """

    method: str = ENERGY
    false_rejections: float = 0.04
    threshold: float | None = None
    scale: float = 1.0
    neighbors: int = 1
    stored: int = 0

    def __post_init__(self) -> None:
        check_fields(self, "abstain.")
        if self.method not in METHODS:
            raise ValueError(f"abstain: {unknown_name_message('method', self.method, METHODS)}")
        if not 0 < self.false_rejections < 1:
            raise ValueError(
                f"abstain: false_rejections must be a number between 0 and 1, found {self.false_rejections!r}."
            )
        if self.scale <= 0:
            raise ValueError(f"abstain: scale must be a number above 0, found {self.scale!r}.")
        for name, least in (("neighbors", 1), ("stored", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"abstain: {name} must be at least {least}, found {getattr(self, name)}.")

    @classmethod
    def from_dict(cls, values: JsonObject) -> "Abstention":
        """Build an abstention from a mapping, such as ``abstain`` of a config.

        Raises:
            ValueError: If a key is unknown or a value is not allowed.
        """
        for key in values:
            if key not in cls.__dataclass_fields__:
                raise ValueError(f"abstain: {unknown_name_message('key', key, cls.__dataclass_fields__)}")
        return cls(**values)

    def to_dict(self) -> JsonObject:
        """Return the fields as a mapping that can be written as JSON and YAML."""
        return asdict(self)

    @property
    def reads_states(self) -> bool:
        """Whether the statistic is of pooled states, which a model computes with its logits."""
        return self.method in STATE_METHODS

    def statistic(self, logits: torch.Tensor, of_states: torch.Tensor | None = None) -> torch.Tensor:
        """Return how much texts look as if they were in scope (batch,).

        Args:
            logits: Logits of the task (batch, num_labels).
            of_states: Statistic of the pooled states (batch,), for a method that reads them.

        Raises:
            ValueError: If it is missing.
        """
        if not self.reads_states:
            return LOGIT_METHODS[self.method](logits)
        if of_states is None:
            raise ValueError(f"abstain: the method {self.method!r} needs the statistic that the model computes.")
        return of_states.float()

    def rejects(self, statistic: torch.Tensor) -> torch.Tensor:
        """Return whether texts are out of scope (batch,).

        Args:
            statistic: What `statistic` returns (batch,).
        """
        return torch.zeros_like(statistic, dtype=torch.bool) if self.threshold is None else statistic < self.threshold

    def in_scope(self, statistic: torch.Tensor) -> torch.Tensor:
        """Return scores of being in scope (batch,): from 0.5 if a text is accepted; 1 without a threshold.

        They order texts as the statistic does. They are no probabilities: nothing says how many texts are out of
        scope.

        Args:
            statistic: What `statistic` returns (batch,).
        """
        if self.threshold is None:
            return torch.ones_like(statistic)
        return ((statistic - self.threshold) / self.scale).sigmoid()
