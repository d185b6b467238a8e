"""Frozen means frozen and unfrozen means training, for random schedules, models and ways to train."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TrainerCallback

from hf_multitask import MultiTaskModel
from hf_multitask.freezing import FreezeSchedule, FreezeStage
from tests.tiny import ARCHITECTURES
from tests.trainers import make_trainer

HEADS = ["head.intent", "head.slots"]
LAYERS = ["embeddings", "encoder.0", "encoder.1", "encoder.2"]
OPTIMIZERS = [
    {"optim": "adamw_torch_fused"},
    {"optim": "adamw_torch"},
    {"optim": "sgd", "optim_args": "momentum=0.9"},
    {"optim": "adafactor"},
]


class Watch(TrainerCallback):
    """Keeps the weights of the groups at each step, and checks gradients and modes of frozen groups."""

    def __init__(self, schedule, groups, model):
        self.groups, self.model = groups, model
        self.trained = [stage.trained(groups) for stage in schedule.stages for _ in range(stage.steps)]
        self.starts = [step == 0 for stage in schedule.stages for step in range(stage.steps)]
        self.weights = [self._weights()]

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        frozen = {
            id(weight)
            for group in self.groups
            for weight in group.parameters.values()
            if group.name not in self.trained[state.global_step]
        }
        for name, weight in self.model.named_parameters():
            assert weight.requires_grad == (id(weight) not in frozen), name
            assert weight.grad is None or id(weight) not in frozen, name
        for name, module in self.model.named_modules():
            weights = {id(weight) in frozen for weight in module.parameters()}
            if weights and name:
                assert module.training == (False in weights), name

    def on_step_end(self, args, state, control, **kwargs):
        self.weights.append(self._weights())

    def check(self):
        assert len(self.weights) == len(self.trained) + 1
        for step, trained in enumerate(self.trained):
            before, after = self.weights[step : step + 2]
            for name in before:
                is_equal = all(torch.equal(old, new) for old, new in zip(before[name], after[name], strict=True))
                if name not in trained:
                    assert is_equal, f"{name} is frozen in step {step + 1} and has moved"
                elif self.starts[step]:
                    assert not is_equal, f"{name} is unfrozen before step {step + 1} and has not moved"

    def _weights(self):
        return {group.name: [weight.detach().clone() for weight in group.parameters.values()] for group in self.groups}


@st.composite
def runs(draw):
    architecture = draw(st.sampled_from(sorted(ARCHITECTURES)))
    layers = ["encoder"] if architecture == "albert" else LAYERS
    if architecture == "modernbert":
        layers = [*LAYERS, "encoder.norm"]
    groups = st.lists(st.sampled_from([*layers, *HEADS]), min_size=1, max_size=len(layers) + 1, unique=True)
    schedule = FreezeSchedule(
        [
            FreezeStage(str(i), train=draw(groups), steps=draw(st.integers(1, 2)))
            for i in range(draw(st.integers(2, 4)))
        ]
    )
    arguments = {
        "gradient_accumulation_steps": draw(st.integers(1, 4)),
        "max_grad_norm": draw(st.sampled_from([0.0, 1.0])),
        "weight_decay": draw(st.sampled_from([0.0, 0.1])),
        # In transformers these have no activation checkpointing.
        "activation_checkpointing": architecture not in ("albert", "mpnet") and draw(st.booleans()),
        "bf16": draw(st.booleans()),
        **draw(st.sampled_from(OPTIMIZERS)),
    }
    return architecture, schedule, arguments


@pytest.mark.slow
@given(run=runs())
@settings(max_examples=40)
def test_frozen_means_frozen_and_unfrozen_means_training(run, encoders, data, tokenizer, tmp_path):
    architecture, schedule, arguments = run
    model = MultiTaskModel.from_encoder(encoders[architecture], data.tasks)
    watch = Watch(schedule, model.layer_groups(), model)
    trainer = make_trainer(
        model,
        data,
        tokenizer,
        tmp_path,
        schedule,
        {"callbacks": [watch]},
        per_device_train_batch_size=2,
        max_steps=len(watch.trained),
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        use_cpu=True,
        **arguments,
    )
    trainer.train()
    watch.check()
    assert all(weight.requires_grad for weight in model.parameters())
