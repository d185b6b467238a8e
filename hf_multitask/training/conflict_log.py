"""What a training has logged about the conflict between its tasks, read back and put into a sentence."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from ..models.layer_groups import layer_ranges
from ..runtime.training_history import LogEntry
from .task_gradients import ALL

# Two tasks pull apart in a group if the mean of their cosines there is below this.
PULLS_APART = -0.1
# A task with more than this share in the norm of the gradients leaves little to the others.
DOMINATES = 0.8


@dataclass(frozen=True)
class PairConflict:
    """Cosines between the gradients of two tasks over a training.

    Args:
        tasks: The tasks.
        steps: Optimizer steps at which they were compared.
        cosines: Cosine at each of the steps by group; None where the group did not train.
    """

    tasks: tuple[str, str]
    steps: Sequence[int]
    cosines: dict[str, list[float | None]]

    def means(self) -> dict[str, float]:
        """Return the mean cosine by group, over the steps at which it trained."""
        known = {group: [value for value in values if value is not None] for group, values in self.cosines.items()}
        return {group: statistics.fmean(values) for group, values in known.items() if values}


def conflict_name(one: str, other: str, group: str) -> str:
    """Return the name of a cosine in the log."""
    return f"conflict_{one}_{other}_{group}"


def share_name(task: str, group: str) -> str:
    """Return the name of the share of a task in the log."""
    return f"gradient_share_{task}_{group}"


def format_cosine(value: float) -> str:
    """Return a cosine with its sign and two digits."""
    return f"{round(value, 2) + 0.0:+.2f}"  # adding 0 turns -0.0 into 0.0


def read_conflict(tasks: Sequence[str], history: Sequence[LogEntry]) -> list[PairConflict]:
    """Read the cosines of a training.

    Args:
        tasks: Names of the tasks, in the order of the model.
        history: ``trainer.state.log_history``.

    Returns:
        The pairs of tasks that were compared.
    """
    pairs = []
    for one, other in combinations(tasks, 2):
        prefix = conflict_name(one, other, "")
        entries = [entry for entry in history if conflict_name(one, other, ALL) in entry]
        names = dict.fromkeys(name for entry in entries for name in entry if name.startswith(prefix))
        if entries:
            cosines = {name.removeprefix(prefix): [entry.get(name) for entry in entries] for name in names}
            pairs.append(PairConflict((one, other), [entry["step"] for entry in entries], cosines))
    return pairs


def mean_shares(tasks: Sequence[str], history: Sequence[LogEntry]) -> dict[str, float]:
    """Return the mean share of each task in the norm of the gradients on all shared weights.

    Args:
        tasks: Names of the tasks.
        history: ``trainer.state.log_history``.
    """
    shares = {name: [entry[key] for entry in history if (key := share_name(name, ALL)) in entry] for name in tasks}
    return {name: statistics.fmean(values) for name, values in shares.items() if values}


def lowest_cosine(tasks: Sequence[str], history: Sequence[LogEntry]) -> float | None:
    """Return the lowest of the mean cosines of two tasks on all shared weights; None if none were compared."""
    return min((pair.means()[ALL] for pair in read_conflict(tasks, history)), default=None)


def summarize_conflict(tasks: Sequence[str], history: Sequence[LogEntry]) -> str | None:
    """Say in a sentence whether tasks pulled apart, where, and what to try.

    Args:
        tasks: Names of the tasks, in the order of the model.
        history: ``trainer.state.log_history``.

    Returns:
        The sentence; None if no tasks were compared.
    """
    pairs = [(pair, pair.means()) for pair in read_conflict(tasks, history)]
    if not pairs:
        return None
    by_group = [(mean, pair, group) for pair, means in pairs for group, mean in means.items() if group != ALL]
    if not by_group:
        return None
    lowest, pair, group = min(by_group, key=lambda mean: mean[0])
    names = " and ".join(pair.tasks)
    count = sum(value is not None for value in pair.cosines[group])
    found = f"{format_cosine(lowest)} in {group}, the mean of {count} comparison{'s' if count > 1 else ''}"
    if lowest < PULLS_APART:
        apart = [name for name, mean in pair.means().items() if name != ALL and mean < PULLS_APART]
        return (
            f"The tasks {names} pulled apart in {', '.join(layer_ranges(apart))}: the cosine of their gradients was "
            f"{found}. Train each by itself to see what sharing costs, give one private_layers, or try "
            "loss_balancing: {torchjd: UPGrad}."
        )
    shares = mean_shares(tasks, history)
    largest = max(shares, key=lambda name: shares[name], default=None)
    sentence = f"The tasks did not pull apart: the lowest cosine, of {names}, was {found}."
    if largest is not None and shares[largest] > DOMINATES:
        sentence += (
            f" But {largest} made {shares[largest]:.0%} of the gradients: try loss_balancing: equal_norm, or a lower "
            "loss_weight of it."
        )
    return sentence
