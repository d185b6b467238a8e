"""Windows of a long text: which of them counts for a subword that several hold."""

from collections.abc import Sequence


def flat_subwords(windows: Sequence[Sequence[int | None]], overlap: int) -> list[int | None]:
    """Return the word of each subword of all windows, written one behind the other, each subword once.

    A subword counts in the window where it has most context: where the nearer of the window's two ends is farthest
    away. An end that is the text's own is no border.

    Args:
        windows: By window, the word of each position, None for special tokens.
        overlap: Subwords that a window shares with the one before.

    Returns:
        The word of each position in all windows together, None for special tokens and where another window counts.
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
