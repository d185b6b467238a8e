"""Plan of an activation cache: a pure decision about which states are worth storing."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ...runtime.byte_sizes import format_bytes

ALWAYS, AUTO, NEVER = "always", "auto", "never"
STORE_FROZEN = (AUTO, ALWAYS, NEVER)


@dataclass(frozen=True)
class FreeSpace:
    """Free disk and memory.

    Args:
        disk: Number of bytes that may be written.
        memory: Number of bytes in which reads can be buffered.
    """

    disk: int
    memory: int


@dataclass(frozen=True)
class CachePlan:
    """States to store.

    Args:
        entering: Groups whose entering states are stored, in the order in which the run needs them. Empty if nothing
            is computed.
        reason: Reason of the decision, for the log.
    """

    entering: tuple[str, ...]
    reason: str


def usable_states(stages: Sequence[tuple[str, float]], depths: Mapping[str, int]) -> dict[str, float]:
    """Find the states that a later stage will read and that are already final.

    The states that enter a group stay the same until something below the group trains. So the states of a later stage
    are final now if no earlier stage trains a lower layer.

    Args:
        stages: For each stage from now on, the group that frozen states enter and the number of passes over the rows.
        depths: Number of layers below each group that states can enter.

    Returns:
        Number of passes by group, in the order in which the run needs them.
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
    stored: Collection[str],
    bytes_each: int,
    free: FreeSpace,
) -> CachePlan:
    """Decide which states to store.

    ``"auto"`` stores states that fit on the disk and in memory and that save more than they cost, both counted in
    passes through a layer. ``"always"`` stores all states that fit on the disk.

    Args:
        mode: ``"auto"`` or ``"always"``.
        stages: See `usable_states`.
        depths: See `usable_states`.
        stored: Groups whose entering states are already stored.
        bytes_each: Size of the states that enter one group.
        free: Free disk and memory.

    Returns:
        The plan.
    """
    usable = usable_states(stages, depths)
    wanted = {entering: passes for entering, passes in usable.items() if entering not in stored}
    if not wanted:
        return CachePlan((), "they are already stored" if usable else "the lowest layers train")
    saved = sum(passes * depths[entering] for entering, passes in wanted.items())
    cost = max(depths[entering] for entering in wanted)
    if mode == AUTO and saved <= cost:
        return CachePlan((), f"it saves {saved:.3g} passes through a layer and costs {cost}")
    if mode == AUTO and bytes_each > free.memory:
        return CachePlan(
            (), f"each takes {format_bytes(bytes_each)} and {format_bytes(free.memory)} of memory are free"
        )
    fitting = tuple(wanted)[: free.disk // max(bytes_each, 1)]
    if not fitting:
        return CachePlan((), f"each takes {format_bytes(bytes_each)} and there is space for {format_bytes(free.disk)}")
    return CachePlan(fitting, f"saves {saved:.3g} passes through a layer, costs {cost}")
