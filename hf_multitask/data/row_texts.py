"""Texts of prepared rows, for reports."""

from collections.abc import Sequence

import pyarrow as pa

from ..models.text_inputs import TEXT_COLUMN, TEXT_PAIR_COLUMN, TOKENS_COLUMN, TextInput, read_input
from ..models.text_words import join_words
from ..models.type_aliases import Row

_SCHEMA = pa.schema({TEXT_COLUMN: pa.string(), TEXT_PAIR_COLUMN: pa.string(), TOKENS_COLUMN: pa.list_(pa.string())})


class RowTexts:
    """Texts and words of the rows of a split, in little more memory than their characters take."""

    def __init__(self) -> None:
        self._table = _SCHEMA.empty_table()

    def add(self, rows: Sequence[Row]) -> None:
        """Append checked rows."""
        columns = {name: [row.get(name) for row in rows] for name in _SCHEMA.names}
        self._table = pa.concat_tables([self._table, pa.table(columns, schema=_SCHEMA)])

    @property
    def table(self) -> pa.Table:
        """The columns ``text``, ``text_pair`` and ``tokens``; a row has a text, words, or both."""
        return self._table

    def take(self, chosen: Sequence[int]) -> "RowTexts":
        """Return the texts of some of the rows."""
        texts = RowTexts()
        texts._table = self._table.take(pa.array(chosen, type=pa.int64()))
        return texts

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._table.num_rows

    def __getitem__(self, number: int) -> TextInput:
        """Return the text of a row, with its words and their positions."""
        (row,) = self._table.slice(number, 1).to_pylist()
        try:
            return read_input(row, f"row {number}", split=False)
        except ValueError:
            # The model is trained on the words, and the text of the row may be a different one.
            return TextInput(*join_words(row[TOKENS_COLUMN]), row[TEXT_PAIR_COLUMN])
