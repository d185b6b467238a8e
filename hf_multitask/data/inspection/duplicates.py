"""Rows that occur twice, in a split or in two, found by a few bytes a row."""

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

_NO_LABEL = 0


@dataclass
class Duplicates:
    """Rows whose words stand elsewhere too.

    Args:
        rows: Their number.
        other_labels: Of these, the rows that have another label for a task than a row with the same words.
    """

    rows: int = 0
    other_labels: int = 0


class RowKeys:
    """What rows are compared by: 8 bytes for the words of a row and 8 for its label of each task.

    Two rows that differ are taken for equal with a probability of 2 ** -64; among ten million rows that is some pair
    with a probability of 3e-6.

    Args:
        tasks: Names of the tasks.
    """

    def __init__(self, tasks: Iterable[str]) -> None:
        self._words = array("Q")
        self._labels = {task: array("Q") for task in tasks}

    def add(self, words: Sequence[str], labels: Mapping[str, Any]) -> None:
        """Take a row.

        Args:
            words: Its words, or its text alone.
            labels: By task its label, as JSON can hold it; None or missing where it has none.
        """
        self._words.append(_key(" ".join(words)))
        for task, keys in self._labels.items():
            label = labels.get(task)
            keys.append(_NO_LABEL if label is None else _key(json.dumps(label)))

    def repeated(self) -> Duplicates:
        """Count the rows whose words stand in an earlier row."""
        words = _joined([self._words])
        later = np.ones(len(words), dtype=bool)
        later[np.unique(words, return_index=True)[1]] = False
        return Duplicates(int(later.sum()), int((later & self._contradicted_by([self])).sum()))

    def also_in(self, others: "Sequence[RowKeys]") -> Duplicates:
        """Count the rows whose words stand in other rows.

        Args:
            others: The other rows, with the same tasks.
        """
        found = np.isin(_joined([self._words]), _joined([other._words for other in others]))
        return Duplicates(int(found.sum()), int((found & self._contradicted_by(others)).sum()))

    def _contradicted_by(self, others: "Sequence[RowKeys]") -> np.ndarray:
        """Tell for each row whether others have the same words with another label."""
        own_words = _joined([self._words])
        contradicted = np.zeros(len(own_words), dtype=bool)
        for task in self._labels:
            labels = _joined([other._labels[task] for other in others])
            words = _joined([other._words for other in others])[labels != _NO_LABEL]
            labels = labels[labels != _NO_LABEL]
            if not len(words):
                continue
            # All labels of the same words are equal to a row's own if the least and the greatest are.
            unique, groups = np.unique(words, return_inverse=True)
            least, greatest = np.full(len(unique), np.iinfo(np.uint64).max), np.zeros(len(unique), dtype=np.uint64)
            np.minimum.at(least, groups, labels)
            np.maximum.at(greatest, groups, labels)
            group = np.searchsorted(unique, own_words).clip(max=len(unique) - 1)
            own = _joined([self._labels[task]])
            comparable = (unique[group] == own_words) & (own != _NO_LABEL)
            contradicted |= comparable & ((least[group] != own) | (greatest[group] != own))
        return contradicted


def _key(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") or 1


def _joined(keys: "Sequence[array[int]]") -> np.ndarray:
    return np.concatenate([np.frombuffer(part, dtype=np.uint64) for part in keys])
