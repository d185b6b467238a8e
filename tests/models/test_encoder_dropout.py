"""Faster dropout on a CPU."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from hf_multitask import MultiTaskModel, TaskConfig
from hf_multitask.models.encoder_dropout import QuickDropout
from tests.tiny import ARCHITECTURES, save_tiny_encoder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_each_value_is_dropped_with_the_probability_and_the_mean_stays(p, dtype):
    torch.manual_seed(0)
    found = QuickDropout(p)(torch.ones(1001, 999, dtype=dtype))
    assert found.dtype == dtype
    assert (found == 0).float().mean().item() == pytest.approx(p, abs=2e-3)
    assert found.unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=1e-2)
    assert found.float().mean().item() == pytest.approx(1, abs=1e-2)
    # Neighbors come from one draw, and are as independent as any two values.
    for distance in (1, 2, 3, 4):
        dropped = (found == 0).flatten().float()
        both = (dropped[:-distance] * dropped[distance:]).mean().item()
        assert both == pytest.approx(p * p, abs=3e-3)


def test_gradients_pass_where_values_do():
    values = torch.rand(50, 7, requires_grad=True)
    found = QuickDropout(0.3)(values)
    found.sum().backward()
    assert torch.equal(values.grad == 0, found == 0)
    assert torch.allclose(values.grad * values, found)


def test_a_seed_determines_what_is_dropped_and_checkpointing_repeats_it():
    dropout, values = QuickDropout(0.4), torch.rand(20, 5, requires_grad=True)
    runs = []
    for function in (dropout, dropout, lambda given: checkpoint(dropout, given, use_reentrant=False)):
        torch.manual_seed(3)
        values.grad = None
        found = function(values)
        found.square().sum().backward()
        runs.append((found, values.grad))
    for found, gradient in runs[1:]:
        assert torch.equal(found, runs[0][0])
        assert torch.equal(gradient, runs[0][1])


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_nothing_and_everything_can_be_dropped(p):
    values = torch.rand(9)
    assert torch.equal(QuickDropout(p)(values), values * (1 - p))
    assert QuickDropout(0.5)(torch.rand(0, 3)).shape == (0, 3)


def test_nothing_is_dropped_in_eval_mode():
    values = torch.rand(9)
    assert torch.equal(QuickDropout(0.5).eval()(values), values)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_dropout_of_torch_is_left_in_a_model(architecture, tmp_path):
    source = save_tiny_encoder(architecture, tmp_path / "encoder")
    tasks = [
        TaskConfig("a", "sequence_classification", labels=["x", "y"]),
        TaskConfig("b", "token_classification", labels=["O", "B-x"], head="lstm"),
    ]
    model = MultiTaskModel.from_encoder(source, tasks)
    model.save_pretrained(tmp_path / "model")
    for one in (model, MultiTaskModel.from_pretrained(tmp_path / "model")):
        kinds = [type(module) for module in one.modules() if isinstance(module, nn.Dropout)]
        assert len(kinds) > 2
        assert set(kinds) == {QuickDropout}


def test_it_is_compiled_as_a_whole_and_drops_the_same():
    dropout = QuickDropout(0.3)
    compiled = torch.compile(dropout, backend="aot_eager", fullgraph=True, dynamic=True)
    for length in (5, 8, 13):
        values = torch.rand(3, length, 8)
        torch.manual_seed(length)
        expected = dropout(values)
        torch.manual_seed(length)
        assert torch.equal(compiled(values), expected)
    torch._dynamo.reset()
