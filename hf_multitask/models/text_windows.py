"""Windows of a long row: what each of them holds, and which counts for a subword that several hold."""

from collections.abc import Sequence
from typing import Any, NamedTuple

FIRST, SECOND = 0, 1


class CutRow(NamedTuple):
    """A row that is longer than the longest length.

    Args:
        windows: By window, which positions of the row it has.
        overlap: Subwords of the first text that a window shares with the one before.
        truncated: Whether no window has some of the row's positions.
    """

    windows: list[list[int]]
    overlap: int
    truncated: bool

    def join(self, values: Sequence[Any]) -> list[Any]:
        """Return the values of all windows, written one behind the other.

        Args:
            values: One for each position of the row.
        """
        return [values[i] for window in self.windows for i in window]


def cut_row(sequence_ids: Sequence[int | None], max_length: int, overlap: int, truncate: bool = False) -> CutRow:
    """Cut a row into windows; each has a part of the first text, all of the second, and the special tokens.

    Where both texts are long, the second is cut off at what the strategy ``longest_first`` of tokenizers leaves of it,
    which is half of the room.

    Args:
        sequence_ids: The text of each position, 0 or 1; None for special tokens.
        max_length: Longest window, less than the row.
        overlap: Subwords of the first text that a window shares with the one before; fewer where it has less room.
        truncate: Keep the first window alone.

    Returns:
        The windows.

    Raises:
        ValueError: If there is no room for two texts.
    """
    first, second = ([i for i, text in enumerate(sequence_ids) if text == which] for which in (FIRST, SECOND))
    special = [i for i, text in enumerate(sequence_ids) if text is None]
    room = max_length - len(special)
    if second and room < 2:
        raise ValueError(f"max_length={max_length} leaves no room for two texts beside {len(special)} special tokens.")
    half = (room + (len(second) >= len(first))) // 2
    kept = second[: max(room - len(first), half)]
    room -= len(kept)
    overlap = min(overlap, room - 1)
    starts = range(0, 1 if truncate else max(len(first) - overlap, 1), room - overlap)
    windows = [sorted([*special, *first[start : start + room], *kept]) for start in starts]
    return CutRow(windows, overlap, truncate or len(kept) < len(second))


def flat_subwords(windows: Sequence[Sequence[int | None]], overlap: int) -> list[int | None]:
    """Return the word of each subword of all windows, written one behind the other, each subword once.

    A subword counts in the window where it has most context: where the nearer of the window's two ends is farthest
    away. An end that is the text's own is no border.

    Args:
        windows: By window, the word of each position; None for special tokens and a second text.
        overlap: Subwords that a window shares with the one before.

    Returns:
        The word of each position in all windows together; None where it is None in its window, and where another
        window counts.
    """
    flat = [word for window in windows for word in window]
    best: dict[int, tuple[float, int]] = {}  # by a subword's place in the text: its context, its place in `flat`
    offset, first = 0, 0
    for number, window in enumerate(windows):
        content = [i for i, word in enumerate(window) if word is not None]
        for place, i in enumerate(content):
            before = place if number > 0 else float("inf")
            behind = len(content) - 1 - place if number < len(windows) - 1 else float("inf")
            context = min(before, behind)
            if first + place not in best or context > best[first + place][0]:
                best[first + place] = (context, offset + i)
        first += len(content) - overlap
        offset += len(window)
    kept = {i for _, i in best.values()}
    return [word if i in kept else None for i, word in enumerate(flat)]
