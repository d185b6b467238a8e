"""What a study compares: scenarios by name, and how each one's run differs from the config's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..models import TaskConfig
from ..models.messages import unknown_name_message

JOINT = "nothing-frozen"
ONE_RATE = "one-rate"


@dataclass(frozen=True)
class Scenario:
    """One way to train.

    Args:
        name: Its name.
        about: What it does, in words.
        freeze: What trains when, as a config's ``freeze`` has it.
        starts_from: Name of the scenario whose model it starts from; the config's encoder where None.
        frozen_task: The task whose head is frozen throughout.
        only_task: The task that trains alone; all where None.
        one_rate: Whether the heads train at the encoder's learning rate instead of their own.
        num_stages: Stages of equal length that the run is divided into, where ``freeze`` leaves that open.
    """

    name: str
    about: str
    freeze: Any
    starts_from: str | None = None
    frozen_task: str | None = None
    only_task: str | None = None
    one_rate: bool = False
    num_stages: int | None = None

    @property
    def folder_name(self) -> str:
        """The name as a part of a path: no system forbids it there."""
        return self.name.replace(":", "-")

    def freeze_for(self, steps_per_epoch: int, max_steps: int) -> Any:
        """Return ``freeze`` for a run of some length.

        Args:
            steps_per_epoch: Optimizer steps of an epoch.
            max_steps: Optimizer steps of the run.
        """
        if self.num_stages is None:
            return self.freeze
        # In whole steps, so that rounding does not make the stages longer than the run.
        steps = max(max_steps // self.num_stages, 1)
        return {**self.freeze, "epochs": steps / steps_per_epoch}


def list_scenarios(tasks: Sequence[TaskConfig], num_layers: int) -> dict[str, Scenario]:
    """List the scenarios that a study has where none are named.

    Args:
        tasks: The tasks.
        num_layers: The encoder's layers that can be frozen one by one; 0 where they cannot.

    Returns:
        The scenarios by name, the baseline first.
    """
    names = [task.name for task in tasks]
    found = [
        Scenario("everything-frozen", "nothing trains: the baseline", "all"),
        Scenario("encoder-frozen", "the heads train on a frozen encoder", "encoder"),
        Scenario(JOINT, "everything trains", "none"),
    ]
    for name in names if len(names) > 1 else []:
        rest = "the other head trains" if len(names) == 2 else "the other heads train"
        found += [
            Scenario(
                f"{name}-head-frozen-safe",
                f"after joint training {rest}; encoder and head of {name} are frozen",
                f"encoder+head:{name}",
                starts_from=JOINT,
                frozen_task=name,
            ),
            Scenario(
                f"{name}-head-frozen-risky",
                f"after joint training {rest} with the encoder; the head of {name} is frozen over it",
                f"head:{name}",
                starts_from=JOINT,
                frozen_task=name,
            ),
        ]
    found.append(Scenario("heads-then-all", "the heads for a third of the run, then everything", "heads-then-all"))
    if num_layers:
        found += [
            Scenario("three-stage", "the heads, the upper third of the layers too, everything", "three-stage"),
            Scenario(
                "gradual",
                "one more layer from the top in equal steps, lower layers at lower rates",
                {"preset": "gradual"},
                num_stages=num_layers + 2,
            ),
            *(_top(k) for k in _powers_of_two(num_layers)),
            Scenario("progressive", "one more layer from the top whenever validation stops improving", "progressive"),
        ]
    found += [_with_one_rate(scenario) for scenario in found if scenario.name in (JOINT, "heads-then-all")]
    for name in names if len(names) > 1 else []:
        found.append(Scenario(f"{name}-alone", f"a model of {name} alone, everything trains", "none", only_task=name))
    return {scenario.name: scenario for scenario in found}


def find_scenarios(names: Sequence[str] | None, tasks: Sequence[TaskConfig], num_layers: int) -> list[Scenario]:
    """Find scenarios by name.

    Args:
        names: Names of `list_scenarios`, further ``top:<k>``, and any that trains followed by ``:one-rate``; all of
            `list_scenarios` where None.
        tasks: The tasks.
        num_layers: See `list_scenarios`.

    Returns:
        The scenarios in the order of the names; behind them what they start from, where it is not named.

    Raises:
        ValueError: If there is no such scenario, or one is named twice. The message names the closest, and all.
    """
    listed = list_scenarios(tasks, num_layers)
    if names is None:
        return list(listed.values())
    if not names:
        raise ValueError("scenarios is empty; expected at least one name.")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"scenarios: {', '.join(twice)} is named more than once.")
    found = [_find(name, listed, num_layers) for name in names]
    started_from = dict.fromkeys(scenario.starts_from for scenario in found if scenario.starts_from is not None)
    return found + [listed[name] for name in started_from if name not in names]


def _find(name: str, listed: dict[str, Scenario], num_layers: int) -> Scenario:
    if name in listed:
        return listed[name]
    base, colon, suffix = name.rpartition(":")
    if colon and suffix == ONE_RATE and base != "everything-frozen":
        try:
            return _with_one_rate(_find(base, listed, num_layers))
        except ValueError:
            pass  # the message is to have the name that was given
    if colon and base == "top" and suffix.isdigit() and 1 <= int(suffix) <= num_layers:
        return _top(int(suffix))
    layers = f" top:<k> goes from top:1 to top:{num_layers}." if num_layers else ""
    raise ValueError(
        f"{unknown_name_message('scenario', name, listed)}{layers} Each that trains can be followed by ':{ONE_RATE}'."
    )


def _top(k: int) -> Scenario:
    layers = "uppermost layer" if k == 1 else f"{k} uppermost layers"
    return Scenario(f"top:{k}", f"the heads and the {layers} train", f"top:{k}")


def _powers_of_two(limit: int) -> list[int]:
    """Return the powers of two below a limit."""
    return [2**i for i in range(math.ceil(math.log2(limit)))]


def _with_one_rate(scenario: Scenario) -> Scenario:
    return replace(
        scenario,
        name=f"{scenario.name}:{ONE_RATE}",
        about=f"{scenario.about}; heads at the encoder's learning rate",
        one_rate=True,
    )
