"""Which states of the frozen layers are worth keeping: a pure decision."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ...runtime.byte_sizes import format_bytes

ALWAYS, AUTO, NEVER = "always", "auto", "never"
STORE_FROZEN = (AUTO, ALWAYS, NEVER)


@dataclass(frozen=True)
class FreeSpace:
    """What there is room for.

    Args:
        disk: Bytes that may be written.
        memory: Bytes that reads can be kept in.
    """

    disk: int
    memory: int


@dataclass(frozen=True)
class CachePlan:
    """What is to be stored.

    Args:
        entering: The groups whose entering states are stored, in the order in which the run needs them.
        reason: Why, in words.
    """

    entering: tuple[str, ...]
    reason: str


def usable_states(stages: Sequence[tuple[str, float]], depths: Mapping[str, int]) -> dict[str, float]:
    """Find the states that the run will read and that are already what they will be then.

    What enters a group stays the same until something below it trains. So those of a later stage are known now if no
    stage in front of it trains anything lower.

    Args:
        stages: The stages from now on: the group that frozen states enter, and the passes over the rows.
        depths: Layers below each group that states can enter.

    Returns:
        Passes by group, in the order in which the run needs them.
    """
    usable: dict[str, float] = {}
    lowest: int | None = None
    for entering, passes in stages:
        if entering not in depths:
            break  # the lowest weights train
        if lowest is None or depths[entering] <= lowest:
            lowest = depths[entering]
            usable[entering] = usable.get(entering, 0.0) + passes
    return usable


def plan_store(
    mode: str,
    stages: Sequence[tuple[str, float]],
    depths: Mapping[str, int],
    found: Collection[str],
    bytes_each: int,
    room: FreeSpace,
) -> CachePlan:
    """Decide which states are stored.

    With ``"auto"``, those that save more than computing them costs, both counted in passes through a layer, and that
    fit; with ``"always"`` those that fit on the disk.

    Args:
        mode: ``"auto"`` or ``"always"``.
        stages: See `usable_states`.
        depths: See `usable_states`.
        found: The groups whose entering states are stored already.
        bytes_each: Bytes of the states that enter one group.
        room: What there is room for.

    Returns:
        The plan; without groups where nothing is to be computed.
    """
    usable = usable_states(stages, depths)
    wanted = {entering: passes for entering, passes in usable.items() if entering not in found}
    if not wanted:
        return CachePlan((), "they are there already" if usable else "the lowest layers train")
    saved = sum(passes * depths[entering] for entering, passes in wanted.items())
    cost = max(depths[entering] for entering in wanted)
    if mode == AUTO and saved <= cost:
        return CachePlan((), f"it saves {saved:.3g} passes through a layer and costs {cost}")
    if mode == AUTO and bytes_each > room.memory:
        return CachePlan(
            (), f"each takes {format_bytes(bytes_each)} and {format_bytes(room.memory)} of memory are free"
        )
    fitting = tuple(wanted)[: room.disk // max(bytes_each, 1)]
    if not fitting:
        return CachePlan((), f"each takes {format_bytes(bytes_each)} and there is room for {format_bytes(room.disk)}")
    return CachePlan(fitting, f"saves {saved:.3g} passes through a layer, costs {cost}")
