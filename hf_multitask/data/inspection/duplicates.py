"""Rows that occur more than once, within a split or in two splits, found with a few bytes per row."""

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

_NO_LABEL = 0


@dataclass
class Duplicates:
    """Number of rows whose words occur in another row too.

    Args:
        rows: Number of rows.
        other_labels: Number of these rows that have a different label for a task than a row with the same words.
    """

    rows: int = 0
    other_labels: int = 0


class RowKeys:
    """Digests that rows are compared by: 8 bytes for the words of a row and 8 for its label of each task.

    Two different rows have equal digests with a probability of 2 ** -64. Among ten million rows, the probability of
    any such pair is 3e-6.

    Args:
        tasks: Names of the tasks.
    """

    def __init__(self, tasks: Iterable[str]) -> None:
        self._words = array("Q")
        self._labels = {task: array("Q") for task in tasks}

    def add(self, words: Sequence[str], labels: Mapping[str, object]) -> None:
        """Add a row.

        Args:
            words: Words of the row, or its text as one word.
            labels: Labels of the row by task, JSON serializable; None or missing if it has none.
        """
        self._words.append(_key(" ".join(words)))
        for task, keys in self._labels.items():
            label = labels.get(task)
            keys.append(_NO_LABEL if label is None else _key(json.dumps(label)))

    def repeated(self) -> Duplicates:
        """Count the rows with the same words as an earlier row."""
        words = _joined([self._words])
        later = np.ones(len(words), dtype=bool)
        later[np.unique(words, return_index=True)[1]] = False
        return Duplicates(int(later.sum()), int((later & self._contradicted_by([self])).sum()))

    def also_in(self, others: "Sequence[RowKeys]") -> Duplicates:
        """Count the rows with the same words as one of the other rows.

        Args:
            others: The other rows, with the same tasks.
        """
        shared = np.isin(_joined([self._words]), _joined([other._words for other in others]))
        return Duplicates(int(shared.sum()), int((shared & self._contradicted_by(others)).sum()))

    def _contradicted_by(self, others: "Sequence[RowKeys]") -> np.ndarray:
        """Return for each row whether another row has the same words and a different label, ``(num_rows,)``."""
        own_words = _joined([self._words])
        contradicted = np.zeros(len(own_words), dtype=bool)
        for task in self._labels:
            labels = _joined([other._labels[task] for other in others])
            words = _joined([other._words for other in others])[labels != _NO_LABEL]
            labels = labels[labels != _NO_LABEL]
            if not len(words):
                continue
            # All labels of the same words equal a row's own label if their minimum and maximum do.
            unique, groups = np.unique(words, return_inverse=True)
            minimum, maximum = np.full(len(unique), np.iinfo(np.uint64).max), np.zeros(len(unique), dtype=np.uint64)
            np.minimum.at(minimum, groups, labels)
            np.maximum.at(maximum, groups, labels)
            group = np.searchsorted(unique, own_words).clip(max=len(unique) - 1)
            own = _joined([self._labels[task]])
            comparable = (unique[group] == own_words) & (own != _NO_LABEL)
            contradicted |= comparable & ((minimum[group] != own) | (maximum[group] != own))
        return contradicted


def _key(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") or 1


def _joined(keys: "Sequence[array[int]]") -> np.ndarray:
    return np.concatenate([np.frombuffer(part, dtype=np.uint64) for part in keys])
