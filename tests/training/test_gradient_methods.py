"""Gradient methods by name: what is read and refused, and cases computed by hand."""

import re

import pytest
import torch

from hf_multitask.runtime import extras
from hf_multitask.training.balancing_methods import read_balancing
from hf_multitask.training.gradient_methods import GradientMethod, gradient_method_names, project

# Two gradients with a cosine of -0.71.
CONFLICT = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
FREE = torch.tensor([[1.0, 0.0, 2.0], [0.5, 1.0, 0.0]])


def build(name, num_tasks=2, **options):
    return read_balancing({"torchjd": name, **options}).build(num_tasks)


class TestByHand:
    def test_upgrad_projects_each_gradient_on_what_hurts_none(self):
        # (1, 0) becomes (0.5, 0.5), and (-1, 1) becomes (0, 1); the mean.
        assert build("UPGrad")(CONFLICT).tolist() == pytest.approx([0.25, 0.75], abs=1e-3)

    def test_pcgrad_removes_from_each_what_is_against_the_other(self):
        assert build("PCGrad")(CONFLICT).tolist() == pytest.approx([0.5, 1.5])

    def test_dualproj_projects_the_mean(self):
        # The mean (0, 0.5) hurts none.
        assert build("DualProj")(CONFLICT).tolist() == pytest.approx([0.0, 0.5], abs=1e-3)
        assert build("DualProj")(torch.tensor([[1.0, 0.0], [-3.0, 1.0]])).tolist() == pytest.approx([0, 0.5], abs=5e-3)

    def test_cagrad_moves_the_mean_toward_the_task_that_it_helps_least(self):
        # The mean (0, 0.5) does not help the first task: half of the mean's length is added in its direction.
        assert build("CAGrad", c=0.5)(CONFLICT).tolist() == pytest.approx([0.25, 0.5], abs=1e-3)

    @pytest.mark.parametrize("size", [1.0, 1e-4, 1e4])
    def test_gradients_without_conflict_give_their_mean(self, size):
        assert torch.allclose(build("UPGrad")(size * FREE), size * FREE.mean(0))

    @pytest.mark.parametrize("size", [1e-4, 1e4])
    def test_upgrad_does_not_depend_on_the_size(self, size):
        assert torch.allclose(build("UPGrad")(size * CONFLICT) / size, build("UPGrad")(CONFLICT), rtol=1e-4)


@pytest.mark.parametrize("num_tasks", [2, 3, 6])
def test_projections_hurt_no_task(num_tasks):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(num_tasks, 40, generator=generator)
    products = rows @ rows.T
    weights = project(torch.eye(num_tasks), products)
    assert (weights >= torch.eye(num_tasks)).all()
    assert (weights @ products).min() > -0.05
    assert torch.equal(project(torch.eye(num_tasks)[0], products), weights[0])


def test_methods_that_a_config_can_name():
    names = gradient_method_names()
    assert {"UPGrad", "PCGrad", "MGDA", "CAGrad", "IMTLG", "AlignedMTL"} <= set(names)
    assert not {"GradVac", "NashMTL", "Constant", "WeightedAggregator"} & set(names)
    needed = {
        "CAGrad": {"c": 0.5},
        "FairGrad": {"alpha": 1.0},
        "Krum": {"n_byzantine": 0},
        "TrimmedMean": {"trim_number": 0},
    }
    assert all(isinstance(read_balancing({"torchjd": name, **needed.get(name, {})}), GradientMethod) for name in names)


def test_a_mapping_in_json():
    assert read_balancing('{"torchjd": "MGDA", "max_iters": 7}') == GradientMethod("MGDA", {"max_iters": 7})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"torchjd": "UPgrad"}, "loss_balancing: unknown aggregator of TorchJD 'UPgrad'. Did you mean 'UPGrad'?"),
        ({"torchjd": 3}, "loss_balancing: torchjd: aggregator: expected a name, found 3"),
        ({"torchjd": "GradVac"}, "GradVac has a state, which checkpoints would not have"),
        ({"torchjd": "CAGrad"}, "loss_balancing: {torchjd: CAGrad}: it needs the option 'c'"),
        ({"torchjd": "MGDA", "max_iter": 3}, "unknown option 'max_iter'. Did you mean 'max_iters'?"),
        ({"torchjd": "MGDA", "max_iters": [3]}, "max_iters: expected a number or a name, found"),
        ({"torchjd": "UPGrad", "pref_vector": 1}, "option 'pref_vector': it has no options"),
    ],
)
def test_refused(value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_balancing(value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "Krum", "n_byzantine": 1}, "{torchjd: Krum}: Parameter `gramian` should have at least 4 rows"),
        ({"name": "AlignedMTL", "scale_mode": "most"}, "{torchjd: AlignedMTL}: Invalid scale_mode='most'"),
    ],
)
def test_refused_for_the_tasks(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build(**options)


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, "torchjd", ("no_such_package",))
    with pytest.raises(ImportError, match=re.escape("pip install 'hf-multitask[torchjd]'")):
        read_balancing({"torchjd": "UPGrad"})
