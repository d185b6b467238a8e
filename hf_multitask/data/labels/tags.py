"""Tags of rows, converted from their scheme to IOB2."""

from ...models.tags_iob2 import OUTSIDE
from ...models.tags_schemes import TAG_SCHEMES, SchemeRecognizer, first_invalid_tag, tag_forms, to_iob2_checked
from ...models.tasks import TaskConfig
from ...models.text_inputs import TOKENS_COLUMN
from ..readers.reading_options import log_guess
from ..readers.rows import Rows
from .outside_tag import find_outside


class SchemeScan:
    """Infers the tag scheme of a column from its rows.

    Args:
        column: Column of the tags.
    """

    def __init__(self, column: str) -> None:
        self.column = column
        self._recognizer = SchemeRecognizer()
        self._first_not_iob2: str | None = None

    @property
    def counts(self) -> dict[str, int]:
        """All tags that occur, with their counts."""
        return self._recognizer.counts

    def add(self, rows: Rows) -> None:
        """Add rows.

        Raises:
            ValueError: If a value is not a tag of any scheme. The message names the row.
        """
        for i, row in enumerate(rows.rows):
            tags = row.get(self.column)
            if tags is None:
                continue
            try:
                self._recognizer.add(tags)
            except ValueError as error:
                raise ValueError(f"{rows.place(i)}: column {self.column!r}: {error}") from error
            word = first_invalid_tag(tags, "IOB2") if self._first_not_iob2 is None else None
            if word is not None:
                self._first_not_iob2 = rows.place(i, word)

    def recognize_outside(self) -> str | None:
        """Return the tag that stands for ``O`` instead of it, if there is one; it is ``O`` from then on."""
        outside = find_outside(self.counts)
        if outside is not None:
            log_guess(
                f"column {self.column!r}: the tag {outside!r} is read as {OUTSIDE!r}, outside of all entities "
                f"(`outside_tag: {outside!r}`)."
            )
            self._recognizer = self._recognizer.with_outside(outside)
        return outside

    def scheme(self) -> str:
        """Return the scheme.

        Raises:
            ValueError: If the tags fit no scheme. The message names the location of the first tag that is not IOB2.
        """
        try:
            return self._recognizer.scheme()
        except ValueError as error:
            raise ValueError(
                f"{self._first_not_iob2}: column {self.column!r}: {error} Give it as the task's tag_scheme."
            ) from error


def read_tags(task: TaskConfig, rows: Rows, scheme: str, outside: str | None = None) -> int:
    """Convert the tags of a token task to IOB2, in place.

    Args:
        task: The token task.
        rows: The rows.
        scheme: Scheme of the tags.
        outside: Tag that stands for ``O``, if there is one.

    Returns:
        Number of rows whose tags break the rule of their scheme. They are read as by conlleval.

    Raises:
        ValueError: If a tag is not a tag of the scheme, or breaks its rule and the task has ``strict_tags``. The
            message names file, line, word and tag.
    """
    column = str(task.column)
    broken_rows = 0
    for i, row in enumerate(rows.rows):
        tags = row.get(column)
        if tags is None:
            continue
        if outside is not None:
            tags = [OUTSIDE if tag == outside else tag for tag in tags]
        word = first_invalid_tag(tags, scheme)
        if word is not None:
            raise ValueError(
                f"{_place(rows, i, word, column)}: {tags[word]!r} (word {word}, {row[TOKENS_COLUMN][word]!r}) is not "
                f"a tag of {scheme}; expected {tag_forms(scheme)}. Allowed as tag_scheme: {', '.join(TAG_SCHEMES)}."
            )
        row[column], broken = to_iob2_checked(tags, scheme)
        if broken is not None:
            broken_rows += 1
            if task.strict_tags:
                raise ValueError(
                    f"{_place(rows, i, broken.word, column)}: {broken.tag!r} (word {broken.word}, "
                    f"{row[TOKENS_COLUMN][broken.word]!r}) breaks the rule of {scheme}; expected {broken.expected!r}."
                )
    return broken_rows


def _place(rows: Rows, i: int, word: int, column: str) -> str:
    return f"{rows.place(i, word)}: column {column!r}"
