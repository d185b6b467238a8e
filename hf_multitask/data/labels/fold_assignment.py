"""Assignment of rows to folds of equal size, stratified by the labels of all tasks."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field

# Label that every row has: rows without any other label are spread over the folds too.
_ANY = 0


def assign_folds(
    labels: Sequence[Collection[str]], num_folds: int, seed: int, groups: Sequence[Hashable] | None = None
) -> list[int]:
    """Assign rows to folds so that each fold has its share of every label.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, On the Stratification of Multi-Label Data,
    algorithm 1) of groups instead of rows: the label with the fewest unassigned groups is next, and each of its groups
    goes to the fold that has the least of this label, then of the group's other labels. A fold that is full takes no
    more. At the end, groups are swapped until a label that occurs in at least ``num_folds`` groups is in every fold,
    as far as swaps of two groups can achieve it. Rows with one label always achieve it.

    Args:
        labels: Labels of each row; with several tasks as ``"<task>:<label>"``. A row may have none.
        num_folds: Number of folds.
        seed: Seed of the choice among equal groups. The same seed and rows give the same folds.
        groups: Group of each row. Rows of one group are in one fold. Defaults to a group for each row.

    Returns:
        The fold of each row, from 0. Without groups, the sizes of two folds differ by at most one row; with groups, by
        at most the rows of the largest group.

    Raises:
        ValueError: If there are fewer groups than folds.
    """
    units = _make_units(labels, list(range(len(labels))) if groups is None else groups)
    if len(units) < num_folds:
        of = "rows" if groups is None else "groups"
        raise ValueError(f"folds: expected at most as many folds as {of}, found {num_folds} folds and {len(units)}.")
    assignment = _Assignment(units, num_folds)
    order = list(range(len(units)))
    random.Random(seed).shuffle(order)  # noqa: S311 (no secret)
    for label, number in _rarest_first(units, order):
        assignment.place(number, assignment.best_fold(number, label))
    assignment.spread_missing_labels(order)
    folds = [0] * len(labels)
    for unit, fold in zip(units, assignment.fold_of, strict=True):
        for row in unit.rows:
            folds[row] = fold
    return folds


@dataclass
class _Unit:
    """Rows that stay together, with the number of rows of each label; the labels are numbered from 1, after `_ANY`."""

    rows: list[int] = field(default_factory=list)
    counts: Counter[int] = field(default_factory=Counter)

    @property
    def size(self) -> int:
        return len(self.rows)


class _Assignment:
    """Folds of units while they are assigned."""

    def __init__(self, units: Sequence[_Unit], num_folds: int) -> None:
        self.units = units
        self.fold_of = [-1] * len(units)
        self.sizes = [0] * num_folds
        self.counts: list[Counter[int]] = [Counter() for _ in range(num_folds)]
        # Number of units by label, in each fold and in all.
        self.units_with: list[Counter[int]] = [Counter() for _ in range(num_folds)]
        self.totals = Counter(label for unit in units for label in unit.counts)
        self.largest = max(unit.size for unit in units)
        self.share, self.remainder = divmod(sum(unit.size for unit in units), num_folds)

    def place(self, number: int, fold: int) -> None:
        """Put a unit into a fold, out of the one that it was in."""
        unit = self.units[number]
        for target, sign in ((self.fold_of[number], -1), (fold, 1)):
            if target >= 0:
                self.sizes[target] += sign * unit.size
                for label, count in unit.counts.items():
                    self.counts[target][label] += sign * count
                    self.units_with[target][label] += sign
        self.fold_of[number] = fold

    def best_fold(self, number: int, label: int) -> int:
        """Return the fold with room that has the least of a label, then of the unit's other labels, then of rows."""
        unit = self.units[number]

        def content(fold: int) -> tuple[int, float, int]:
            others = math.fsum(
                count * self.counts[fold][other] / self.totals[other] for other, count in unit.counts.items()
            )
            return self.counts[fold][label], others, self.sizes[fold]

        return min((fold for fold in range(len(self.sizes)) if self._has_room(fold, unit.size)), key=content)

    def _has_room(self, fold: int, size: int) -> bool:
        if self.largest > 1:
            # If this holds at every step, no two folds ever differ by more than the largest group.
            return self.sizes[fold] + size <= min(self.sizes) + self.largest
        larger = sum(other > self.share for other in self.sizes)
        return self.sizes[fold] < self.share or (self.sizes[fold] == self.share and larger < self.remainder)

    def spread_missing_labels(self, order: Sequence[int]) -> None:
        """Swap units until each label with enough of them is in every fold, or no swap helps."""
        for label, total in sorted(self.totals.items(), key=lambda item: (item[1], item[0])):
            for fold in range(len(self.sizes)) if total >= len(self.sizes) else []:
                if not self.units_with[fold][label]:
                    self._bring(label, fold, order)

    def _bring(self, label: int, fold: int, order: Sequence[int]) -> None:
        """Swap a unit with a label against one of a fold that lacks it, if no other label is missing then."""
        givers = [unit for unit in order if label in self.units[unit].counts]
        takers = [unit for unit in order if self.fold_of[unit] == fold]
        for giver in givers:
            source = self.fold_of[giver]
            if self.units_with[source][label] < 2:
                continue
            for taker in takers:
                if self._can_swap(giver, taker):
                    self.place(giver, fold)
                    self.place(taker, source)
                    return

    def _can_swap(self, one: int, other: int) -> bool:
        sizes = list(self.sizes)
        for unit, partner in ((one, other), (other, one)):
            sizes[self.fold_of[unit]] += self.units[partner].size - self.units[unit].size
        if max(sizes) - min(sizes) > max(self.largest, max(self.sizes) - min(self.sizes)):
            return False
        return self._can_leave(one, other) and self._can_leave(other, one)

    def _can_leave(self, unit: int, partner: int) -> bool:
        """Return whether a fold keeps every label of a unit that leaves it for a partner."""
        left = self.units_with[self.fold_of[unit]]
        return all(
            left[label] > 1 or label in self.units[partner].counts or self.totals[label] < len(self.sizes)
            for label in self.units[unit].counts
        )


def _make_units(labels: Sequence[Collection[str]], groups: Sequence[Hashable]) -> list[_Unit]:
    """Collect the rows of each group. Labels are numbered by name, as the order of a set differs between processes."""
    ids = {name: i for i, name in enumerate(sorted({name for row in labels for name in row}), start=_ANY + 1)}
    units: defaultdict[Hashable, _Unit] = defaultdict(_Unit)
    for row, (names, group) in enumerate(zip(labels, groups, strict=True)):
        units[group].rows.append(row)
        units[group].counts.update([_ANY, *sorted({ids[name] for name in names})])
    return list(units.values())


def _rarest_first(units: Sequence[_Unit], order: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield each unit once, with the label that it is assigned by.

    Of the labels with unassigned units, the next one is always the label with the fewest; of its units, the largest.
    """
    units_of: defaultdict[int, list[int]] = defaultdict(list)
    for unit in sorted(order, key=lambda number: -units[number].size):
        for label in units[unit].counts:
            units_of[label].append(unit)
    left = {label: len(members) for label, members in units_of.items()}
    assigned: set[int] = set()
    while left:
        label = min(left, key=lambda name: (left[name], -name))
        for unit in units_of[label]:
            if unit not in assigned:
                yield label, unit
                assigned.add(unit)
                for other in units[unit].counts:
                    left[other] -= 1
        left = {name: count for name, count in left.items() if count}
