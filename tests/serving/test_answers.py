"""Passes of like lengths, faults of one request, and offsets in UTF-16 code units."""

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch

from hf_multitask.serving.answers import EmbedKind, ModelAnswers, PredictKind, divide_by_length
from hf_multitask.serving.batch_queue import BatchQueue, Job
from hf_multitask.serving.offsets import to_utf16
from tests.comparison import approximately
from tests.tiny import SENTENCES

ALL = PredictKind((), False)


def job(*texts, kind=ALL):
    return Job(kind, texts, 1, asyncio.new_event_loop().create_future())


@pytest.fixture(scope="module")
def answers(served_pipeline):
    return ModelAnswers(served_pipeline, 8)


def test_passes_have_like_lengths_and_every_text():
    lengths = [3, 200, 4, 5, 190, 6, 3, 3]
    passes = divide_by_length(lengths, 32, 40)
    assert sorted(i for indices in passes for i in indices) == list(range(8))
    assert passes == [[1, 4], [5, 3, 2, 0, 6, 7]]
    assert list(map(len, divide_by_length([3] * 100, 32, 40))) == [4, 32, 32, 32]
    assert divide_by_length([], 32, 40) == []


def test_short_texts_that_share_rows_are_one_pass():
    lengths = [40, 3] * 8
    assert list(map(len, divide_by_length(lengths, 32, 40))) == [8, 8]
    assert list(map(len, divide_by_length(lengths, 32, 40, packed_tokens=48))) == [16]
    assert list(map(len, divide_by_length([300, *lengths], 32, 40, packed_tokens=48))) == [1, 16]


def test_texts_are_packed(answers):
    rows = []
    hook = answers.pipeline.model.encoder.embeddings.register_forward_hook(
        lambda module, inputs, output: rows.append(output.shape[0])
    )
    texts = [SENTENCES[0], "jazz", "rain", "play", "book", "rome", "soon", "now"]
    (found,) = answers([job(*texts)])
    assert len(rows) == 1
    assert rows[0] < len(texts)
    assert found == [approximately(answers([job(text)])[0][0]) for text in texts]
    hook.remove()


def test_passes_cost_least():
    rng = random.Random(0)
    for _ in range(20):
        lengths = [rng.randrange(1, 30) for _ in range(8)]
        ordered, found = sorted(lengths, reverse=True), divide_by_length(lengths, 5, 9)
        assert max(map(len, found)) <= 5
        cost = sum(9 + len(indices) * lengths[indices[0]] for indices in found)
        cuts = [[0, *(i for i in range(1, 8) if number >> (i - 1) & 1), 8] for number in range(2**7)]
        costs = [
            sum(9 + (end - start) * ordered[start] for start, end in pairwise(places))
            for places in cuts
            if max(end - start for start, end in pairwise(places)) <= 5
        ]
        assert cost == min(costs)


def test_batches_at_the_same_time_are_those_one_after_the_other(served_pipeline):
    answers = ModelAnswers(served_pipeline, 8)
    batches = [[job(text, text + " jazz")] for text in SENTENCES]
    expected = [answers(batch)[0] for batch in batches]
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            found = list(pool.map(lambda batch: answers(batch)[0], batches))
            assert found == approximately(expected, rel=1e-4, abs=1e-5)
    assert torch.get_num_threads() == threads


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_torch_computes_on_one_thread_and_a_lone_text_has_the_threads_of_all_workers(served_pipeline, two_threads):
    """A second thread would have OpenMP threads of its own; with more of them than cores, passes wait asleep."""
    answers = ModelAnswers(served_pipeline, 8, workers=2)
    queue = BatchQueue(answers, 8, 0.0, 100, threads=answers.batches_at_once)
    passes = []

    def record(module, args, kwargs):
        passes.append((threading.get_ident(), len(kwargs["input_ids"]), torch.get_num_threads()))

    async def ask():
        def put(*texts):
            result = asyncio.get_running_loop().create_future()
            queue.put(Job(ALL, texts, 1, result))
            return result

        queue.start()
        await asyncio.gather(*(put("play", "rain in rome") for _ in range(8)))
        for _ in range(4):
            await put("play")
        await asyncio.to_thread(queue.close)

    handle = served_pipeline.model.register_forward_pre_hook(record, with_kwargs=True)
    asyncio.run(ask())
    handle.remove()
    assert len({thread for thread, _, _ in passes}) == 1
    assert {(texts == 1, threads) for _, texts, threads in passes} == {(True, 4), (False, 2)}


def test_each_job_gets_its_own_answers(answers, served_pipeline):
    found = answers([job("play"), job(" "), job("rain", "play jazz")])
    assert isinstance(found[1], ValueError)
    assert found[0][0].keys() == served_pipeline("play").keys()
    assert [len(texts) for texts in (found[0], found[2])] == [1, 2]


def test_a_fault_in_one_request_is_its_own(answers, monkeypatch):
    read = answers.pipeline.preprocess

    def fail(text, place):
        if text == "broken":
            raise RuntimeError("a fault")
        return read(text, place)

    monkeypatch.setattr(answers.pipeline, "preprocess", fail)
    first, second, third = answers([job("play"), job("broken"), job("rain")])
    assert isinstance(second, RuntimeError)
    assert len(first) == len(third) == 1


def test_wrong_options_and_prompts_are_refused(answers):
    (found,) = answers([job("play", kind=PredictKind((("tasks", ("other",)),), False))])
    assert isinstance(found, ValueError)
    (found,) = answers([job("play", kind=EmbedKind("query"))])
    assert isinstance(found, ValueError)


def test_utf16_offsets():
    text = "🎷 e\u0301 𝕏y"
    entities = [{"label": "x", "start": start, "end": end} for start, end in ((0, 1), (2, 4), (5, 7))]
    found = to_utf16({"slots": {"entities": entities, "words": []}, "intent": {"label": "a"}}, text)
    assert [(entity["start"], entity["end"]) for entity in found["slots"]["entities"]] == [(0, 2), (3, 5), (6, 9)]
    assert found["intent"] == {"label": "a"}
    assert entities[0]["end"] == 1
