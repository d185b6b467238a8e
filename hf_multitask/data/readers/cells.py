"""Lists in the cells of tables: words, tags, classes and spans."""

import ast
import json
import re

# As numpy prints arrays: Python would join these strings.
_STRINGS_WITHOUT_COMMA = re.compile(r"""(['"])\s+(['"])""")


def is_list_cell(cell: str) -> bool:
    """Return whether a cell has the form of a list, ``[…]``."""
    return cell.startswith("[") and cell.rstrip().endswith("]")


def parse_list(cell: str) -> list[object]:
    """Parse a cell that contains a list, as JSON or as Python prints it.

    Args:
        cell: The cell, such as ``["a", "b"]``, ``['a', 'b']`` or ``[[0, 5, "PER"]]``.

    Returns:
        The list.

    Raises:
        ValueError: If the cell is not a list.
    """
    try:
        values = json.loads(cell)
    except (ValueError, RecursionError):  # also raised for very long numbers and deep nesting
        values = _parse_python(cell)
    if not isinstance(values, list):
        raise ValueError(f"expected a JSON list, found {cell!r:.80}.")
    return values


def split_cell(cell: str) -> list[object]:
    """Return the words or tags of a cell: a list, or strings that blanks separate.

    Raises:
        ValueError: If the cell has the form of a list but is not one.
    """
    return parse_list(cell) if is_list_cell(cell) else list(cell.split())


def _parse_python(cell: str) -> object:
    try:
        if _STRINGS_WITHOUT_COMMA.search(cell):
            raise ValueError("strings without a comma between them")
        return ast.literal_eval(cell)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"expected a JSON list, found {cell!r:.80}.") from error
