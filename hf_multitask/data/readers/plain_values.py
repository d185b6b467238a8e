"""Rows of Python with the types that files have: lists for tuples and arrays, numbers for those of numpy."""

import math
from collections.abc import Mapping

import numpy as np

from ...models.type_aliases import Row

_PLAIN = {str, int, bool, type(None)}


def plain_row(row: Mapping[str, object]) -> Row:
    """Return a copy of a row with plain values.

    Args:
        row: The row. Its values may be tuples, and arrays and numbers of numpy; those of pandas that stand for a
            missing value become None.
    """
    return {name: value if type(value) in _PLAIN else _plain(value) for name, value in row.items()}


def _plain(value: object) -> object:
    if isinstance(value, (list, tuple)):
        # The items of a list are of one kind.
        if not value or (type(value[0]) in _PLAIN and type(value[-1]) in _PLAIN):
            return value if isinstance(value, list) else list(value)
        return [_plain(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return None if isinstance(value, float) and math.isnan(value) else value
