"""Loss, best sequences and probabilities of the CRF, against an enumeration of all label sequences."""

import itertools

import pytest
import torch

from hf_multitask import MultiTaskModel, TaskConfig, load_tokenizer
from hf_multitask.models.decoding import decode, tag_probabilities
from hf_multitask.models.heads_crf import CRF
from hf_multitask.models.losses import example_losses
from hf_multitask.models.tags_iob2 import allowed_transitions
from tests.tiny import SENTENCES

LABELS = ["O", "B-x", "I-x", "B-y", "I-y"]
CONSTRAINED = TaskConfig("ner", "token_classification", labels=LABELS, crf=True)
FREE = TaskConfig("ner", "token_classification", labels=LABELS, crf=True, constrained_decoding=False)
ALLOWED = allowed_transitions(tuple(LABELS))
LENGTHS = [4, 1, 3, 2, 4, 0, *[2, 3] * 6]
# From 0, as without special tokens. A word in the middle of a row, and one before its last, have no subword.
POSITIONS = torch.tensor([[i if i < n else -1 for i in range(4)] for n in LENGTHS])
POSITIONS[2, 1] = POSITIONS[4, 0] = POSITIONS[4, 2] = -1


@pytest.fixture
def crf():
    crf = CRF(len(LABELS))
    for weight in crf.parameters():
        torch.nn.init.normal_(weight, std=2.0)
    return crf


@pytest.fixture
def logits():
    return torch.randn(len(LENGTHS), 4, len(LABELS)) * 2


def score(crf, emissions, ids):
    total = crf.start[ids[0]] + crf.end[ids[-1]]
    total = total + sum(emissions[i, label] for i, label in enumerate(ids))
    return total + sum(crf.transitions[a, b] for a, b in itertools.pairwise(ids))


def sequences(length, positions=None, constrained=False):
    """Return all label sequences that decoding allows."""
    for ids in itertools.product(range(len(LABELS)), repeat=length):
        if constrained and not (ALLOWED[-1, ids[0]] and all(ALLOWED[a, b] for a, b in itertools.pairwise(ids))):
            continue
        if positions is None or all(label == 0 or positions[i] >= 0 for i, label in enumerate(ids)):
            yield ids


def log_sum(scores):
    return torch.stack(list(scores)).logsumexp(0)


def loss_by_hand(crf, logits, labels, positions):
    """Return the loss of a row by enumeration; words without a subword have no emission."""
    emissions = logits.masked_fill(positions.unsqueeze(-1) < 0, 0.0)
    length = max((i + 1 for i, place in enumerate(positions) if place >= 0), default=0)
    given = labels[:length].tolist()
    if all(label == -100 for label in given):
        return torch.zeros(())
    every = list(sequences(length))
    agree = [ids for ids in every if all(label in (-100, found) for label, found in zip(given, ids, strict=True))]
    return log_sum(score(crf, emissions, ids) for ids in every) - log_sum(score(crf, emissions, ids) for ids in agree)


LABEL_IDS = torch.tensor(
    [
        [1, 2, 0, 3],
        [3, -100, -100, -100],
        [-100, 1, 2, -100],  # the first is not labeled
        [-100, -100, -100, -100],
        [1, -100, 2, 0],  # the second is not labeled
        [-100, -100, -100, -100],
        *[[0, 3, -100, -100], [3, -100, 4, -100]] * 6,
    ]
)


def test_the_loss_is_that_of_all_sequences_one_by_one(crf, logits):
    found = example_losses(FREE, logits, LABEL_IDS, POSITIONS, crf)
    rows = zip(logits, LABEL_IDS, POSITIONS, strict=True)
    expected = torch.stack([loss_by_hand(crf, *row) for row in rows])
    assert torch.allclose(found, expected, atol=1e-5)
    assert found[3] == found[5] == 0
    assert (found > 0).sum() == len(LENGTHS) - 2


def test_a_label_without_a_subword_behind_the_last_changes_nothing(crf, logits):
    rows = [1, 3, 5]
    labels = LABEL_IDS[rows].masked_fill(POSITIONS[rows] < 0, 4)
    found = example_losses(FREE, logits[rows], labels, POSITIONS[rows], crf)
    assert torch.allclose(found, example_losses(FREE, logits, LABEL_IDS, POSITIONS, crf)[rows])
    assert found[2] == 0  # no words


def test_without_positions_a_row_ends_with_its_last_label(crf, logits):
    labels = LABEL_IDS[[0, 1]]
    found = example_losses(FREE, logits[:2], labels, None, crf)
    expected = [loss_by_hand(crf, *row) for row in zip(logits[:2], labels, POSITIONS[:2], strict=True)]
    assert torch.allclose(found, torch.stack(expected), atol=1e-5)


def test_gradients_are_those_of_all_sequences_and_none_is_nan(crf, logits):
    logits.requires_grad_()
    weights = [logits, *crf.parameters()]
    found = torch.autograd.grad(example_losses(FREE, logits, LABEL_IDS, POSITIONS, crf).sum(), weights)
    rows = zip(logits, LABEL_IDS, POSITIONS, strict=True)
    expected = torch.autograd.grad(sum(loss_by_hand(crf, *row) for row in rows), weights)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("labels", [LABEL_IDS[1:2, :1], LABEL_IDS[3:4]], ids=["one word", "no label"])
def test_every_weight_has_a_gradient_whatever_the_batch(labels, crf):
    """DDP waits for the gradient of each weight."""
    logits = torch.randn(*labels.shape, len(LABELS), requires_grad=True)
    example_losses(FREE, logits, labels, None, crf).sum().backward()
    for weight in (logits, *crf.parameters()):
        assert weight.grad is not None
        assert weight.grad.isfinite().all()


def test_new_scores_are_those_of_single_words():
    logits, labels = torch.randn(3, 4, len(LABELS)), torch.randint(0, len(LABELS), (3, 4))
    alone = TaskConfig("ner", "token_classification", labels=LABELS)
    found = example_losses(FREE, logits, labels, None, CRF(len(LABELS)))
    assert torch.allclose(found, example_losses(alone, logits, labels), atol=1e-5)


def test_the_loss_is_float32_in_bfloat16_and_under_autocast(crf, logits):
    expected = example_losses(FREE, logits.bfloat16().float(), LABEL_IDS, POSITIONS, crf)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(example_losses(FREE, logits.bfloat16(), LABEL_IDS, POSITIONS, crf), expected)
    halved = CRF(len(LABELS)).bfloat16()
    halved.load_state_dict(crf.state_dict())
    found = example_losses(FREE, logits, LABEL_IDS, POSITIONS, halved)
    assert found.dtype == torch.float32
    crf.load_state_dict(halved.state_dict())
    assert torch.equal(found, example_losses(FREE, logits, LABEL_IDS, POSITIONS, crf))


def test_the_loss_of_a_long_row_is_exact():
    crf, logits = CRF(len(LABELS)), torch.randn(1, 5000, len(LABELS)) * 10 + 100
    labels = logits.argmax(-1)
    labels[:, ::7] = 0
    found = example_losses(FREE, logits, labels, None, crf)
    expected = torch.nn.functional.cross_entropy(logits[0].double(), labels[0], reduction="sum")
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("task", [CONSTRAINED, FREE], ids=["constrained", "free"])
def test_decoding_finds_the_best_of_all_sequences(task, crf, logits):
    found = decode(task, logits, POSITIONS, crf)
    for row, positions, ids in zip(logits, POSITIONS, found.tolist(), strict=True):
        length = max((i + 1 for i, place in enumerate(positions) if place >= 0), default=0)
        emissions = row.log_softmax(-1).masked_fill(positions.unsqueeze(-1) < 0, 0.0)
        candidates = list(sequences(length, positions, task.constrained_decoding)) if length else [()]
        best = max(candidates, key=lambda ids: score(crf, emissions, ids).item()) if length else ()
        assert tuple(ids) == best + (0,) * (4 - length)


@pytest.mark.parametrize("task", [CONSTRAINED, FREE], ids=["constrained", "free"])
def test_the_probability_of_a_tag_is_its_share_in_all_sequences(task, crf, logits):
    ids = torch.randint(0, len(LABELS), POSITIONS.shape)
    found = tag_probabilities(task, logits, ids, POSITIONS, crf)
    for row, positions, tags, probabilities in zip(logits, POSITIONS, ids, found, strict=True):
        length = max((i + 1 for i, place in enumerate(positions) if place >= 0), default=0)
        emissions = row.log_softmax(-1).masked_fill(positions.unsqueeze(-1) < 0, 0.0)
        candidates = list(sequences(length, positions, task.constrained_decoding)) if length else []
        weights = [score(crf, emissions, candidate).exp() for candidate in candidates]
        for i in range(4):
            with_tag = [
                weight for weight, ids in zip(weights, candidates, strict=True) if ids[i : i + 1] == (tags[i],)
            ]
            expected = sum(with_tag) / sum(weights) if positions[i] >= 0 else 1.0
            assert probabilities[i].item() == pytest.approx(torch.as_tensor(expected).item(), abs=1e-5)


def test_padding_changes_nothing(crf, logits):
    wide = torch.cat([logits, torch.randn(len(logits), 3, len(LABELS)) * 9], dim=1)
    none = torch.full((len(logits), 3), -1)
    positions, labels = torch.cat([POSITIONS, none], 1), torch.cat([LABEL_IDS, none * 100], 1)
    ids = decode(CONSTRAINED, logits, POSITIONS, crf)
    wide_ids = decode(CONSTRAINED, wide, positions, crf)
    assert torch.equal(wide_ids[:, :4], ids)
    found, expected = (
        tag_probabilities(CONSTRAINED, wide, wide_ids, positions, crf)[:, :4],
        tag_probabilities(CONSTRAINED, logits, ids, POSITIONS, crf),
    )
    assert torch.allclose(found, expected, atol=1e-6)
    found = example_losses(FREE, wide, labels, positions, crf)
    assert torch.allclose(found, example_losses(FREE, logits, LABEL_IDS, POSITIONS, crf), atol=1e-6)


def test_a_crf_that_is_not_given_is_asked_for(logits):
    for use in (
        lambda: decode(CONSTRAINED, logits, POSITIONS),
        lambda: tag_probabilities(CONSTRAINED, logits, LABEL_IDS, POSITIONS),
        lambda: example_losses(CONSTRAINED, logits, LABEL_IDS, POSITIONS),
    ):
        with pytest.raises(ValueError, match=r"task 'ner' .* CRF; give it: model.crfs\['ner'\]"):
            use()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_is_decoded_alike_when_it_is_saved_and_loaded(dtype, encoder, tmp_path):
    model = MultiTaskModel.from_encoder(encoder, [CONSTRAINED], dtype=dtype).eval()
    assert all(not weight.any() for weight in model.crfs["ner"].parameters())
    batch = load_tokenizer(encoder)(SENTENCES[:3], padding=True, return_tensors="pt")
    for weight in model.crfs["ner"].parameters():
        torch.nn.init.normal_(weight, std=2.0)
    model.save_pretrained(tmp_path)
    loaded = MultiTaskModel.from_pretrained(tmp_path, dtype=dtype)
    positions = torch.tensor([[1, 2, 3, 4], [2, -1, 3, -1], [1, -1, -1, -1]])
    results = []
    for one in (model, loaded):
        logits = one(**batch, tag_positions=positions).logits["ner"]
        ids = decode(CONSTRAINED, logits, positions, one.crfs["ner"])
        results.append((ids, tag_probabilities(CONSTRAINED, logits, ids, positions, one.crfs["ner"])))
    for found, expected in zip(*results, strict=True):
        assert torch.equal(found, expected)


def test_rows_of_a_batch_do_not_change_each_others_losses(crf, logits):
    together = example_losses(FREE, logits, LABEL_IDS, POSITIONS, crf)
    alone = [
        example_losses(FREE, logits[i : i + 1], LABEL_IDS[i : i + 1], POSITIONS[i : i + 1], crf)
        for i in range(len(LENGTHS))
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-6, atol=1e-6)
