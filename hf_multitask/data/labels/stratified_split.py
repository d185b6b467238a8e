"""Stratified split of training rows into train and validation."""

import math
import random
from collections.abc import Collection, Sequence
from heapq import heapify, heappop, heappush


def split_validation(labels: Sequence[Collection[str]], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Split rows into train and validation so that each label has its share in both.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, On the Stratification of Multi-Label Data,
    algorithm 1) into two splits: the label with the fewest remaining rows is next, and gets the rows that validation
    still lacks. If their number is not an integer, it is rounded so that validation as a whole is closest to its
    share: many rare labels together then get their share too. A row stays in train if one of its labels would have no
    row there otherwise. So each label has a row in train, and a label with a single row is only there.

    Args:
        labels: Labels of each row; with several tasks as ``"<task>:<label>"``. A row may have none.
        share: Share of the rows that go to validation, in (0, 1).
        seed: Seed of the choice among the rows of a label. The same seed and rows give the same split.

    Returns:
        The indices of the train rows and of the validation rows, in ascending order.

    Raises:
        ValueError: If ``share`` is not in (0, 1), or train or validation would be empty.
    """
    if not isinstance(share, (int, float)) or not 0 < share < 1:
        raise ValueError(f"share of validation must be a number in (0, 1), found {share!r}.")
    ids = _label_ids(labels)
    order = list(range(len(labels)))
    random.Random(seed).shuffle(order)  # noqa: S311 (no secret)
    rows_of: list[list[int]] = [[] for _ in range(max(map(max, ids), default=0) + 1)]
    for row in order:
        for label in ids[row]:
            rows_of[label].append(row)
    left = [len(rows) for rows in rows_of]
    in_validation = [0] * len(rows_of)
    is_validation: dict[int, bool] = {}
    num_validation = 0
    # The queue contains a label once for each past number of remaining rows. The current number comes first.
    queue = [(count, label) for label, count in enumerate(left)]
    heapify(queue)
    while queue:
        count, label = heappop(queue)
        if count == 0 or count != left[label]:
            continue
        rows = [row for row in rows_of[label] if row not in is_validation]
        own = share * len(rows_of[label]) - in_validation[label]
        overall = share * (len(is_validation) + len(rows)) - num_validation
        wanted = min(max(round(overall), math.floor(own)), math.ceil(own))
        for row in rows:
            train_has_others = all(in_validation[other] + 1 < len(rows_of[other]) for other in ids[row])
            is_validation[row] = wanted > 0 and train_has_others
            wanted -= is_validation[row]
            num_validation += is_validation[row]
            for other in ids[row]:
                left[other] -= 1
                heappush(queue, (left[other], other))
                in_validation[other] += is_validation[row]
    train, validation = (
        [row for row in range(len(labels)) if is_validation[row] == chosen] for chosen in (False, True)
    )
    if not train or not validation:
        raise ValueError(
            f"share of validation {share!r}: {len(labels)} rows leave {len(train)} for train and {len(validation)} "
            "for validation, expected at least one each. Each label keeps a row in train."
        )
    return train, validation


def _label_ids(labels: Sequence[Collection[str]]) -> list[set[int]]:
    """Number the labels by name, and add a label to every row, so that rows without a label get their share too.

    The order of a set of strings differs between processes, the order of a set of numbers does not.
    """
    ids = {name: i for i, name in enumerate(sorted({name for row in labels for name in row}))}
    return [{len(ids), *(ids[name] for name in row)} for row in labels]
