"""Pooling of token states to one vector per text."""

import pytest
import torch

from hf_multitask.models.encoder_pooling import POOLING_MODES, pool

MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])


def expected_of(states):
    """Return the vectors of the states of one text by mode."""
    weights = torch.arange(1.0, len(states) + 1).unsqueeze(-1)
    return {
        "mean": states.mean(0),
        "cls": states[0],
        "max": states.max(0).values,
        "lasttoken": states[-1],
        "mean_sqrt_len_tokens": states.sum(0) / len(states) ** 0.5,
        "weightedmean": (states * weights).sum(0) / weights.sum(),
    }


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("mode", POOLING_MODES)
def test_padding_does_not_change_the_vector(mode, side):
    mask = MASK if side == "right" else MASK.flip(1)
    states = torch.randn(2, 5, 4) - 3
    pooled = pool(states, mask, mode)
    for i in range(2):
        assert torch.allclose(pooled[i], expected_of(states[i][mask[i].bool()])[mode])
    assert torch.allclose(pooled[1], pool(states, None, mode)[1])


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("mode", [mode for mode in POOLING_MODES if mode != "weightedmean"])
def test_a_prompt_is_left_out(mode, side):
    mask = MASK if side == "right" else MASK.flip(1)
    states = torch.randn(2, 5, 4) - 3
    pooled = pool(states, mask, mode, prompt_length=2)
    for i in range(2):
        assert torch.allclose(pooled[i], expected_of(states[i][mask[i].bool()][2:])[mode])


def test_the_first_state_is_read_unchanged():
    states = torch.randn(2, 5, 4, requires_grad=True)
    assert torch.equal(pool(states, MASK, "cls"), states[:, 0])
