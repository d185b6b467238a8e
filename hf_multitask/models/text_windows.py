"""Windows of a long row, and the window that counts for a subword in several windows."""

from collections.abc import Sequence
from typing import Any, NamedTuple

FIRST, SECOND = 0, 1


class CutRow(NamedTuple):
    """Windows of a row that is longer than the maximum length.

    Args:
        windows: Positions of the row that each window contains.
        overlap: Number of subwords of the first text that a window shares with the window before.
        truncated: Whether some positions of the row are in no window.
    """

    windows: list[list[int]]
    overlap: int
    truncated: bool

    def join(self, values: Sequence[Any]) -> list[Any]:
        """Return the concatenated values of all windows.

        Args:
            values: One value per position of the row.
        """
        return [values[i] for window in self.windows for i in window]


def cut_row(sequence_ids: Sequence[int | None], max_length: int, overlap: int, truncate: bool = False) -> CutRow:
    """Cut a row into windows; each contains a part of the first text, the whole second text and the special tokens.

    If both texts are long, the second is truncated as in the strategy ``longest_first`` of tokenizers, to half of the
    room.

    Args:
        sequence_ids: Text of each position, 0 or 1; None for special tokens.
        max_length: Maximum length of a window, shorter than the row.
        overlap: Number of subwords of the first text that a window shares with the window before, or fewer if there is
            less room.
        truncate: Whether to keep only the first window.

    Returns:
        The windows.

    Raises:
        ValueError: If there is no room for two texts.
    """
    first, second = ([i for i, text in enumerate(sequence_ids) if text == which] for which in (FIRST, SECOND))
    special = [i for i, text in enumerate(sequence_ids) if text is None]
    room = max_length - len(special)
    if second and room < 2:
        raise ValueError(
            f"max_length={max_length} leaves no room for two texts besides {len(special)} special tokens."
        )
    half = (room + (len(second) >= len(first))) // 2
    kept = second[: max(room - len(first), half)]
    room -= len(kept)
    overlap = min(overlap, room - 1)
    starts = range(0, 1 if truncate else max(len(first) - overlap, 1), room - overlap)
    windows = [sorted([*special, *first[start : start + room], *kept]) for start in starts]
    return CutRow(windows, overlap, truncate or len(kept) < len(second))


def flat_subwords(windows: Sequence[Sequence[int | None]], overlap: int) -> list[int | None]:
    """Return the word of each position in the concatenated windows, with each subword counted once.

    A subword counts in the window where it has most context, that is, where the nearer end of the window is farthest
    away. The start and end of the text do not limit the context.

    Args:
        windows: Word of each position, by window; None for special tokens and a second text.
        overlap: Number of subwords that a window shares with the window before.

    Returns:
        Word of each position in all windows together; None if it is None in its window or counts in another window.
    """
    flat = [word for window in windows for word in window]
    best: dict[int, tuple[float, int]] = {}  # context and index in `flat`, by the subword's index in the text
    offset, first = 0, 0
    for number, window in enumerate(windows):
        content = [i for i, word in enumerate(window) if word is not None]
        for index, i in enumerate(content):
            before = index if number > 0 else float("inf")
            after = len(content) - 1 - index if number < len(windows) - 1 else float("inf")
            context = min(before, after)
            if first + index not in best or context > best[first + index][0]:
                best[first + index] = (context, offset + i)
        first += len(content) - overlap
        offset += len(window)
    kept = {i for _, i in best.values()}
    return [word if i in kept else None for i, word in enumerate(flat)]
