"""The limit of a batch: the fastest of those that fit into memory."""

from types import SimpleNamespace

import pytest
import torch

from hf_multitask.data.readers.chunked_file import CHUNK_ROWS
from hf_multitask.prediction import batch_size
from hf_multitask.prediction.batch_size import BatchLimit, find_limit, limit_rows, predict_chunk

ROW_TOKENS = 64
ROWS = [{"length": ROW_TOKENS}] * 1000
OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB."


class Device:
    """Stands for a predictor on a device whose speed, in tokens per second, depends on the tokens of a batch."""

    align = SimpleNamespace(max_length=128)
    device = "cuda"

    def __init__(self, speed):
        self.speed, self.seconds, self.batches, self.rows = speed, 0.0, [], 0

    def predict_prepared(self, inputs, rows, max_rows, max_tokens):
        self.batches.append(max_tokens)
        self.rows = len(rows)
        self.seconds += sum(row["length"] for row in rows) / self.speed(max_tokens)
        return list(inputs)


def fails_above(limit, message=OUT_OF_MEMORY):
    def speed(tokens):
        if tokens > limit:
            raise torch.OutOfMemoryError(message) if message == OUT_OF_MEMORY else RuntimeError(message)
        return tokens

    return speed


@pytest.fixture
def find(monkeypatch):
    def find(speed, rows=ROWS):
        device = Device(speed)
        monkeypatch.setattr(batch_size.time, "perf_counter", lambda: device.seconds)
        return find_limit(device, rows, rows), device

    return find


@pytest.mark.parametrize(
    ("speeds", "tokens"),
    [
        # The last of these is less than a twentieth faster, which is not worth twice the memory.
        ({1024: 100, 2048: 150, 4096: 200, 8192: 209, 16384: 1000}, 4096),
        ({1024: 100, 2048: 106, 4096: 112, 8192: 100}, 4096),
        ({1024: 100, 2048: 50, 4096: 1000}, 1024),
    ],
)
def test_a_limit_is_doubled_while_that_is_a_twentieth_faster(speeds, tokens, find):
    limit, _ = find(speeds.__getitem__)
    assert limit == BatchLimit(CHUNK_ROWS, tokens)


def test_the_first_pass_of_a_device_is_not_measured(find):
    speeds = [1.0, *range(200, 1000, 100)]
    limit, device = find(lambda tokens: speeds.pop(0) if tokens <= 4096 else 1.0)
    assert device.batches == [1024, 1024, 2048, 4096, 8192]
    assert limit.tokens == 4096


def test_the_limit_fits_into_memory(find):
    limit, _ = find(fails_above(8192))
    assert limit.tokens == 8192


def test_no_limit_is_above_the_largest(find):
    limit, device = find(lambda tokens: tokens)
    assert limit.tokens == max(device.batches) == 2**19


def test_memory_that_fills_after_the_first_pass_halves_the_smallest_limit(find):
    passes = iter([100])

    def speed(tokens):
        return next(passes, None) or fails_above(0)(tokens)

    limit, device = find(speed)
    assert (limit.tokens, device.batches) == (512, [1024, 1024])


def test_another_error_is_raised(find):
    with pytest.raises(RuntimeError, match="an illegal instruction"):
        find(fails_above(2048, "an illegal instruction"))


@pytest.mark.parametrize(("count", "measured"), [(511, False), (512, True)])
def test_few_texts_are_not_worth_measuring(count, measured, find):
    limit, device = find(lambda tokens: 100.0, ROWS[:count])
    assert bool(device.batches) is measured
    assert (limit == limit_rows(32, 128)) is not measured


def test_texts_that_are_longer_than_a_limit_are_measured_one_by_one(find):
    limit, device = find({1024: 100, 2048: 90}.__getitem__, [{"length": 8000}] * 5)
    assert (limit.tokens, device.rows) == (1024, 1)


def test_a_limit_of_rows_counts_each_window_as_a_row():
    assert limit_rows(8, 128) == BatchLimit(8, 1024)
    assert limit_rows(8, None) == BatchLimit(8, None)


def test_a_limit_is_halved_down_to_one():
    assert BatchLimit(5, 100).halved() == BatchLimit(2, 50)
    assert BatchLimit(1, 1).halved() == BatchLimit(1, 1)
    assert BatchLimit(4, None).halved() == BatchLimit(2, None)


def test_a_chunk_is_predicted_in_the_largest_batches_that_fit():
    device = Device(fails_above(300))
    predictions, limit = predict_chunk(device, ROWS, ROWS, BatchLimit(8, 1024))
    assert (len(predictions), limit) == (1000, BatchLimit(2, 256))
    assert device.batches == [1024, 512, 256]


def test_a_text_that_does_not_fit_alone_is_an_error():
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        predict_chunk(Device(fails_above(10)), ROWS, ROWS, BatchLimit(8, 1024))
    with pytest.raises(RuntimeError, match="an illegal instruction"):
        predict_chunk(Device(fails_above(10, "an illegal instruction")), ROWS, ROWS, BatchLimit(8, 1024))
