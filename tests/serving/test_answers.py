"""Passes of like lengths, faults of one request, and offsets in UTF-16 code units."""

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch

from hf_multitask.serving.answers import EmbedKind, ModelAnswers, PredictKind, divide_by_length
from hf_multitask.serving.batch_queue import Job
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
