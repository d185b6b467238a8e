"""Passes of like lengths, faults of one request, and offsets in UTF-16 code units."""

import asyncio

import pytest

from hf_multitask.serving.answers import PASS_TOKENS, EmbedKind, ModelAnswers, PredictKind, divide_by_length
from hf_multitask.serving.batch_queue import Job
from hf_multitask.serving.offsets import to_utf16

ALL = PredictKind((), False)


def job(*texts, kind=ALL):
    return Job(kind, texts, 1, asyncio.new_event_loop().create_future())


@pytest.fixture(scope="module")
def answers(served_pipeline):
    return ModelAnswers(served_pipeline, 8)


def test_passes_have_like_lengths_and_every_text():
    lengths = [3, 200, 4, 5, 190, 6, 3, 3]
    passes = divide_by_length(lengths, 32)
    assert sorted(i for indices in passes for i in indices) == list(range(8))
    assert passes[0] == [1, 4]
    for indices in passes:
        assert sum(lengths[indices[0]] - lengths[i] for i in indices) <= PASS_TOKENS
    assert max(map(len, divide_by_length([3] * 100, 32))) == 32
    assert list(map(len, divide_by_length([3] * 32, 32, threads=2))) == [16, 16]
    assert divide_by_length([], 32) == []


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
