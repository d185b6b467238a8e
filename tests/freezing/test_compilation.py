"""Freezing in stages under torch.compile: unfrozen groups train, and each stage is compiled once."""

import copy
import shutil

import pytest
import torch
from torch._dynamo import config as dynamo_config
from torch._dynamo.utils import counters
from transformers import TrainerCallback

from hf_multitask import MultiTaskModel
from tests.freezing.test_callback import without_dropout
from tests.trainers import make_trainer

HEADS_THEN_ALL = {"stages": [{"train": "heads", "steps": 4}, {}]}
FOUR_STAGES = {
    "stages": [
        *({"train": groups, "steps": 1} for groups in (["head.slots"], ["heads"], ["heads", "encoder.0"])),
        {"train": "all"},
    ]
}


class Watch(TrainerCallback):
    """Records the weights and the number of graphs at each step."""

    def __init__(self, model):
        self.model, self.weights, self.graphs = model, [self._weights(model)], []

    def on_step_end(self, args, state, control, **kwargs):
        self.weights.append(self._weights(self.model))
        self.graphs.append(counters["stats"]["unique_graphs"])

    def _weights(self, model):
        return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@pytest.fixture
def train(encoders, data, tokenizer, tmp_path):
    """Return a function that trains with and without compiling and returns both records."""

    def train_both(schedule, backend="eager", **arguments):
        model = without_dropout(MultiTaskModel.from_encoder(encoders["bert"], data.tasks))
        # Each layer is traced in each stage.
        model.encoder.encoder.layer = model.encoder.encoder.layer[:2]
        model.encoder.config.num_hidden_layers = 2
        runs = []
        for compiled in ({}, {"torch_compile": True, "torch_compile_backend": backend}):
            torch._dynamo.reset()
            counters.clear()
            trained = copy.deepcopy(model)
            watch = Watch(trained)
            trainer = make_trainer(
                trained,
                data,
                tokenizer,
                tmp_path,
                schedule,
                {"callbacks": [watch]},
                learning_rate=1e-3,
                logging_steps=100,
                store_frozen="never",
                **{**compiled, **arguments},
            )
            trainer.train()
            watch.stages = [entry["step"] for entry in trainer.state.log_history if "freeze_stage" in entry]
            runs.append(watch)
        torch._dynamo.reset()
        return runs

    return train_both


def check(plain, compiled, stages):
    """Check that both ran the stages and moved the same weights to the same values, and the number of graphs."""
    assert plain.graphs[-1] == 0
    assert plain.stages == compiled.stages
    assert len(plain.stages) == stages
    for step, (expected, found) in enumerate(zip(plain.weights, compiled.weights, strict=True)):
        for name, weight in expected.items():
            assert torch.allclose(found[name], weight, atol=1e-5), f"{name} in step {step}"
    for start in compiled.stages:
        for run in (plain, compiled):
            before, after = run.weights[start : start + 2]
            run.moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert compiled.moved == plain.moved
        assert compiled.moved
    # Once per stage, and once more for another length and another number of rows; after that the shapes are dynamic.
    assert compiled.graphs[-1] <= stages + 2
    assert [compiled.graphs[start] for start in compiled.stages[1:]] == sorted(
        {compiled.graphs[start] for start in compiled.stages[1:]}
    ), "a stage was not compiled"
    assert not counters["graph_break"]


def test_more_stages_than_dynamo_keeps_graphs_are_all_compiled(train):
    with dynamo_config.patch(recompile_limit=2):
        plain, compiled = train(FOUR_STAGES, max_steps=5)
        assert dynamo_config.recompile_limit == 2
    check(plain, compiled, stages=4)


def test_batches_of_all_lengths_are_compiled_once(train):
    plain, compiled = train(HEADS_THEN_ALL, backend="aot_eager", num_train_epochs=2, eval_strategy="epoch")
    check(plain, compiled, stages=2)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.skipif(" " in torch.__file__, reason="inductor cannot link where torch's path has a space in it")
@pytest.mark.parametrize("schedule", [HEADS_THEN_ALL, "gradual", "three-stage"], ids=str)
def test_schedules_are_compiled_with_inductor(schedule, train):
    plain, compiled = train(schedule, backend="inductor", num_train_epochs=6)
    check(plain, compiled, stages=len(plain.stages))
