"""Decoding: valid tag sequences, and the best of them."""

import itertools

import pytest
import torch

from hf_multitask import TaskConfig
from hf_multitask.models.decoding import decode, tag_probabilities, transition_scores
from hf_multitask.models.heads_crf import viterbi
from hf_multitask.models.tags_iob2 import TagSpan, allowed_transitions, tag_spans

LABELS = ["O", "B-x", "I-x", "B-y", "I-y"]
TASK = TaskConfig("ner", "token_classification", labels=LABELS)


def is_valid(tags):
    return all(
        not tag.startswith("I-") or (i > 0 and tags[i - 1] in (f"B-{tag[2:]}", tag)) for i, tag in enumerate(tags)
    )


def test_transitions_are_those_of_iob2():
    allowed = allowed_transitions(tuple(LABELS))
    for i, before in enumerate(["O", "B-x", "I-x", "B-y", "I-y"]):
        for j, tag in enumerate(LABELS):
            assert allowed[i, j] == is_valid(["B-x" if before == "I-x" else "B-y", before, tag][before[0] != "I" :])
    assert allowed[-1].tolist() == [True, True, False, True, False]


@pytest.mark.parametrize("length", [1, 2, 4])
def test_viterbi_finds_the_best_valid_sequence(length):
    emissions = torch.randn(20, length, len(LABELS)) * 3
    scores = transition_scores(TASK, None, emissions.device)
    found = viterbi(emissions, scores, torch.full((20,), length))
    for row, ids in zip(emissions, found, strict=True):
        valid = [
            candidate
            for candidate in itertools.product(range(len(LABELS)), repeat=length)
            if is_valid([LABELS[i] for i in candidate])
        ]
        best = max(valid, key=lambda candidate: sum(row[t, i].item() for t, i in enumerate(candidate)))
        assert tuple(ids.tolist()) == best


def test_unconstrained_decoding_gives_sequences_that_constrained_decoding_never_does():
    logits = torch.randn(50, 6, len(LABELS)) * 3
    free = TaskConfig("ner", "token_classification", labels=LABELS, constrained_decoding=False)
    assert not all(is_valid([LABELS[i] for i in row]) for row in decode(free, logits).tolist())
    assert all(is_valid([LABELS[i] for i in row]) for row in decode(TASK, logits).tolist())


@pytest.mark.parametrize("constrained", [True, False])
def test_a_word_without_a_subword_is_outside(constrained):
    task = TaskConfig("ner", "token_classification", labels=LABELS, constrained_decoding=constrained)
    logits = torch.full((1, 3, len(LABELS)), -5.0)
    logits[..., 1] = 5.0
    assert decode(task, logits, torch.tensor([[4, -1, 6]])).tolist() == [[1, 0, 1]]


def test_only_a_word_without_a_subword_is_certain():
    logits = torch.randn(1, 3, len(LABELS))
    ids = torch.tensor([[1, 0, 2]])
    # The first word of a row without special tokens is at position 0.
    found = tag_probabilities(TASK, logits, ids, torch.tensor([[0, -1, 1]]))
    expected = logits.softmax(-1)
    assert torch.allclose(found, torch.tensor([[expected[0, 0, 1], 1.0, expected[0, 2, 2]]]))


@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_rows_whose_best_tags_are_valid_need_no_search(scale):
    logits = torch.randn(200, 7, len(LABELS)) * 3
    logits[..., 2] -= scale * 5  # I- is rare enough that some rows are valid already
    logits[..., 4] -= scale * 5
    words = torch.randint(1, 8, (200,))
    positions = torch.arange(7).where(torch.arange(7) < words.unsqueeze(1), torch.tensor(-1))
    scores = transition_scores(TASK, None, logits.device)
    searched = viterbi(logits.log_softmax(-1), scores, words)
    expected = searched.masked_fill(positions < 0, 0)
    assert torch.equal(decode(TASK, logits, positions), expected)


def test_padding_changes_no_prediction():
    logits = torch.randn(8, 5, len(LABELS)) * 3
    alone = decode(TASK, logits, torch.arange(5).expand(8, 5))
    padded = torch.cat([logits, torch.randn(8, 3, len(LABELS)) * 9], dim=1)
    positions = torch.cat([torch.arange(5), torch.tensor([-1, -1, -1])]).expand(8, 8)
    assert torch.equal(decode(TASK, padded, positions)[:, :5], alone)


@pytest.mark.parametrize("length", [2, 7])
def test_without_positions_each_row_has_all_words(length):
    logits = torch.randn(50, length, len(LABELS)) * 3
    assert torch.equal(decode(TASK, logits), decode(TASK, logits, torch.arange(length).expand(50, length)))


def test_no_words_no_tags():
    assert decode(TASK, torch.zeros(2, 0, len(LABELS)), torch.zeros(2, 0, dtype=torch.long)).shape == (2, 0)


def test_sequence_tasks_are_reduced_to_what_they_predict():
    logits = torch.tensor([[0.1, 2.0], [-1.0, -2.0]])
    single = TaskConfig("a", "sequence_classification", labels=["x", "y"])
    several = TaskConfig("a", "sequence_classification", labels=["x", "y"], problem_type="multi_label_classification")
    number = TaskConfig("a", "sequence_classification", problem_type="regression")
    assert decode(single, logits).tolist() == [1, 0]
    assert decode(several, logits).tolist() == [[1, 1], [0, 0]]
    assert torch.equal(decode(number, logits[:, :1]), logits[:, :1])


def test_spans_of_tags():
    tags = ["B-x", "I-x", "O", "B-x", "B-x", "I-y", "I-y", "O", "I-x"]
    assert tag_spans(tags) == [
        TagSpan("x", 0, 2),
        TagSpan("x", 3, 4),
        TagSpan("x", 4, 5),
        TagSpan("y", 5, 7),
        TagSpan("x", 8, 9),
    ]


def test_spans_are_those_of_seqeval():
    get_entities = pytest.importorskip("seqeval.metrics.sequence_labeling").get_entities
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        tags = [LABELS[i] for i in torch.randint(len(LABELS), (7,), generator=generator).tolist()]
        expected = [TagSpan(kind, start, end + 1) for kind, start, end in get_entities(tags)]
        assert tag_spans(tags) == expected
