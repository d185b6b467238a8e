"""Scenarios by name, and how the run of each differs from the run of the config."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..models import TaskConfig
from ..models.messages import unknown_name_message
from ..models.type_aliases import JsonObject
from ..runtime.extras import check_packages, missing_packages

JOINT = "nothing-frozen"
LORA = "lora"
ONE_RATE = "one-rate"
BASELINE = "everything-frozen"
# Encoders of fewer layers have no blocks among the default scenarios.
NUM_BLOCKS = 3
_BLOCK = re.compile(r"encoder\[(\d*):(\d*)\]")


@dataclass(frozen=True)
class Scenario:
    """One way to train.

    Args:
        name: Name.
        about: Description, as a phrase.
        freeze: Freeze schedule as in a config: the name of a preset, or a mapping with its options.
        starts_from: Name of the scenario whose model it starts from. If None, it starts from the config's encoder.
        frozen_task: Task whose head is frozen throughout, if any.
        only_task: The only task of the model. If None, all tasks are trained.
        one_rate: Whether the heads train at the learning rate of the encoder instead of theirs.
        num_stages: Number of stages of equal length; their length in epochs is added to a ``freeze`` mapping.
        lora: Settings of LoRA adapters that differ from those of the config. None without adapters.
    """

    name: str
    about: str
    freeze: str | JsonObject
    starts_from: str | None = None
    frozen_task: str | None = None
    only_task: str | None = None
    one_rate: bool = False
    num_stages: int | None = None
    lora: JsonObject | None = None

    @property
    def folder_name(self) -> str:
        """The name without characters that a file system may forbid."""
        # The block encoder[:2] is not encoder-2: a start that is left out is written.
        return self.name.replace("[:", "-0:").replace("[", "-").replace("]", "").replace(":", "-")

    def freeze_for(self, steps_per_epoch: int, max_steps: int) -> str | JsonObject:
        """Return ``freeze`` for a run of a given length.

        Args:
            steps_per_epoch: Optimizer steps per epoch.
            max_steps: Optimizer steps of the run.
        """
        if self.num_stages is None or isinstance(self.freeze, str):
            return self.freeze
        # In whole steps, so that rounding does not make the stages longer than the run.
        steps = max(max_steps // self.num_stages, 1)
        return {**self.freeze, "epochs": steps / steps_per_epoch}


def list_scenarios(tasks: Sequence[TaskConfig], num_layers: int) -> dict[str, Scenario]:
    """Return the default scenarios of a study.

    Args:
        tasks: The tasks.
        num_layers: Number of encoder layers that can be frozen one by one; 0 if they cannot.

    Returns:
        The scenarios by name, the baseline first.
    """
    names = [task.name for task in tasks]
    scenarios = [
        Scenario(BASELINE, "nothing trains: the baseline", "all"),
        Scenario("encoder-frozen", "the heads train on a frozen encoder", "encoder"),
        Scenario(JOINT, "everything trains", "none"),
    ]
    for name in names if len(names) > 1 else []:
        rest = "the other head trains" if len(names) == 2 else "the other heads train"
        scenarios += [
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
    scenarios.append(Scenario("heads-then-all", "the heads for a third of the run, then everything", "heads-then-all"))
    if num_layers:
        scenarios += [
            Scenario("three-stage", "the heads, the upper third of the layers too, everything", "three-stage"),
            Scenario(
                "gradual",
                "one more layer from the top in equal steps, lower layers at lower rates",
                {"preset": "gradual"},
                num_stages=num_layers + 2,
            ),
            *(_top(k) for k in _powers_of_two(num_layers)),
            Scenario("progressive", "one more layer from the top whenever validation stops improving", "progressive"),
            Scenario("converged", "everything, without the layers that have stopped learning", "converged"),
            *_lower_blocks(num_layers),
        ]
    scenarios += [_with_one_rate(scenario) for scenario in scenarios if scenario.name in (JOINT, "heads-then-all")]
    for name in names if len(names) > 1 else []:
        scenarios.append(
            Scenario(alone_name(name), f"a model of {name} only, everything trains", "none", only_task=name)
        )
    return {scenario.name: scenario for scenario in scenarios}


def find_scenarios(names: Sequence[str] | None, tasks: Sequence[TaskConfig], num_layers: int) -> list[Scenario]:
    """Find scenarios by name.

    Args:
        names: Names from `list_scenarios`, ``top:<k>`` for other numbers of layers, ``lora`` and ``lora:top:<k>`` for
            adapters in all or in the uppermost layers, ``encoder[<from>:<to>]`` for a block of layers, and any name of
            a scenario that trains followed by ``:one-rate``. If None, all of `list_scenarios`.
        tasks: The tasks.
        num_layers: See `list_scenarios`.

    Returns:
        The scenarios in the order of the names, followed by unnamed scenarios that they start from.

    Raises:
        ValueError: If a name is unknown or repeated. The message suggests the closest name and lists all.
        ImportError: If a scenario needs a package that is not installed.
    """
    listed = list_scenarios(tasks, num_layers)
    if names is None:
        return list(listed.values())
    if not names:
        raise ValueError("scenarios is empty; expected at least one name.")
    scenarios = [_find(name, listed, num_layers) for name in names]
    found = [scenario.name for scenario in scenarios]
    if repeated := sorted({name for name in found if found.count(name) > 1}):
        raise ValueError(f"scenarios: {', '.join(repeated)} is named more than once.")
    starts = dict.fromkeys(scenario.starts_from for scenario in scenarios if scenario.starts_from is not None)
    return scenarios + [listed[name] for name in starts if name not in names]


def find_racers(names: Sequence[str] | None, tasks: Sequence[TaskConfig], num_layers: int) -> list[Scenario]:
    """Find the scenarios of a race: those that train all tasks and start from the config's encoder.

    Args:
        names: See `find_scenarios`. If None, all such scenarios of `list_scenarios`, and ``lora`` if PEFT is there.
        tasks: The tasks.
        num_layers: See `list_scenarios`.

    Raises:
        ValueError: If a name is unknown or repeated, or names another kind of scenario, or there is a single name.
    """
    if names is None:
        listed = list_scenarios(tasks, num_layers).values()
        adapters = [] if missing_packages(LORA) else [_lora_everywhere()]
        return [scenario for scenario in listed if _is_racer(scenario) and scenario.name != BASELINE] + adapters
    scenarios = find_scenarios(names, tasks, num_layers)
    if others := [scenario.name for scenario in scenarios if not _is_racer(scenario)]:
        raise ValueError(
            f"scenarios: a race compares ways to train all tasks from the encoder, and {', '.join(others)} is none: "
            "leave it out, or run a study without race."
        )
    if len(scenarios) < 2:
        raise ValueError(f"scenarios: a race needs at least two, found {', '.join(names)}.")
    return scenarios


def _is_racer(scenario: Scenario) -> bool:
    return scenario.starts_from is None and scenario.only_task is None


def alone_name(task: str) -> str:
    """Return the name of the scenario that trains a task by itself."""
    return f"{task}-alone"


def with_alone(names: Sequence[str] | None, tasks: Sequence[TaskConfig]) -> list[str]:
    """Add the scenarios that train each task by itself.

    Args:
        names: Names of scenarios. If None, everything trains together.
        tasks: The tasks.

    Returns:
        The names, and those of the scenarios that are not among them.

    Raises:
        ValueError: If there is a single task.
    """
    if len(tasks) < 2:
        raise ValueError("alone compares a model of all tasks with models of one: expected two tasks, found one.")
    return list(dict.fromkeys([*([JOINT] if names is None else names), *(alone_name(task.name) for task in tasks)]))


def _find(name: str, listed: dict[str, Scenario], num_layers: int) -> Scenario:
    if name in listed:
        return listed[name]
    base, colon, suffix = name.rpartition(":")
    if colon and suffix == ONE_RATE and base != BASELINE:
        try:
            return _with_one_rate(_find(base, listed, num_layers))
        except ValueError:
            pass  # the message below names the scenario as it was given
    if name == LORA:
        return _lora_everywhere()
    if (block := _BLOCK.fullmatch(name)) is not None:
        start, stop = int(block[1] or 0), int(block[2] or num_layers)
        if start < stop <= num_layers:
            return _block(start, stop)
    if base in ("top", f"{LORA}:top") and suffix.isdigit() and 1 <= int(suffix) <= num_layers:
        return _top(int(suffix)) if base == "top" else _lora_top(int(suffix))
    layers = ""
    if num_layers:
        layers = (
            f" top:<k> and lora:top:<k> go from top:1 to top:{num_layers}; encoder[<from>:<to>] goes from 0 to "
            f"{num_layers}."
        )
    raise ValueError(
        f"{unknown_name_message('scenario', name, [*listed, LORA])}{layers} Each scenario that trains can be followed "
        f"by ':{ONE_RATE}'."
    )


def _top(k: int) -> Scenario:
    layers = "uppermost layer" if k == 1 else f"{k} uppermost layers"
    return Scenario(f"top:{k}", f"the heads and the {layers} train", f"top:{k}")


def _block(start: int, stop: int) -> Scenario:
    name = f"encoder[{start or ''}:{stop}]"
    layers = f"layer {start}" if stop - start == 1 else f"layers {start} to {stop - 1}"
    return Scenario(name, f"the heads and {layers} of the encoder train", {"stages": [{"train": ["heads", name]}]})


def _lower_blocks(num_layers: int) -> list[Scenario]:
    """Return blocks of equal length below the uppermost, which ``top:<k>`` trains."""
    length = num_layers // NUM_BLOCKS
    return [_block(i * length, (i + 1) * length) for i in range(NUM_BLOCKS - 1)] if length else []


def _lora_top(k: int) -> Scenario:
    layers = "uppermost layer" if k == 1 else f"{k} uppermost layers"
    scenario = _lora(f"adapters in the {layers} and the heads train", {"layers": f"encoder[-{k}:]"})
    return replace(scenario, name=f"{LORA}:top:{k}")


def _lora_everywhere() -> Scenario:
    return _lora("adapters in every layer and the heads train", {})


def _lora(about: str, settings: JsonObject) -> Scenario:
    check_packages(LORA, f"the scenario {LORA!r}")
    return Scenario(LORA, about, "none", lora=settings)


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
