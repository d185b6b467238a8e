"""Chunks dealt out among processes."""

import pytest

from hf_multitask.data.readers.chunked_file import Chunk
from hf_multitask.prediction.prepared_chunks import EndOfInput, prepared_chunks

CHUNKS = 7


class Prepare:
    """Stands for a preparer: a chunk is prepared by taking it as it is."""

    def __init__(self, fails=False):
        self.source = (Chunk(number, [], None) for number in range(CHUNKS))
        self.fails = fails

    def __call__(self, chunk):
        if self.fails and chunk.number == 2:
            raise ValueError("a.jsonl:9: a broken row")
        return chunk


@pytest.mark.parametrize(
    ("done", "processes", "shares"),
    [
        (set(), 1, [[0, 1, 2, 3, 4, 5, 6]]),
        (set(), 2, [[0, 2, 4, 6], [1, 3, 5]]),
        ({1, 4}, 2, [[0, 3, 6], [2, 5]]),
        ({0, 1, 2, 3, 4, 5}, 3, [[6], [], []]),
    ],
)
def test_what_is_missing_is_dealt_out_evenly(done, processes, shares):
    for process, expected in enumerate(shares):
        *chunks, end = prepared_chunks(Prepare(), done, process, processes, workers=0)
        assert [chunk.number for chunk in chunks] == expected
        assert end == EndOfInput(CHUNKS)


def test_a_broken_row_comes_after_the_chunks_before_it():
    items = prepared_chunks(Prepare(fails=True), set(), 0, 1, workers=0)
    assert [next(items).number, next(items).number] == [0, 1]
    with pytest.raises(ValueError, match=r"a\.jsonl:9: a broken row"):
        next(items)
