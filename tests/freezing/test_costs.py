"""A frozen group costs only its forward pass: no backward pass, recomputation, optimizer state or update."""

from collections import Counter, defaultdict

import pytest
import torch
from transformers import TrainerCallback

from hf_multitask import MultiTaskModel
from hf_multitask.models.encoder_layers import find_layers
from tests.tiny import ARCHITECTURES
from tests.trainers import make_trainer

# ALBERT's layers are one module, run several times.
WITH_LAYERS = [name for name in ARCHITECTURES if name != "albert"]
# MPNet has no activation checkpointing in transformers.
WITH_CHECKPOINTING = [name for name in WITH_LAYERS if name != "mpnet"]
SCHEDULE = {
    "stages": [
        {"train": "heads", "steps": 2},
        {"train": ["encoder[2:]", "heads"], "steps": 2},
        {"train": ["encoder.1"], "steps": 2},
        {"train": ["head.slots"]},
    ]
}
# Lowest of the three layers with a gradient, by step; 3 if there is none.
LOWEST = [3, 3, 2, 2, 1, 1, 3, 3]
BATCHES_PER_STEP = 2


class Watch(TrainerCallback):
    """Records at each step how often each module ran, and whose outputs require a gradient."""

    def __init__(self, model):
        self.model = model
        self.outputs, self.runs, self.state, self.held = [], [], [], []
        self.is_in_step = False
        modules = {f"encoder.{i}": layer for i, layer in enumerate(find_layers(model.encoder))}
        for name, module in {"embeddings": model.encoder.embeddings, **modules}.items():
            module.register_forward_hook(lambda _, __, output, name=name: self._note_output(name, output))
            # Hooks of the layer itself do not run when it is recomputed.
            inside = next(
                child for child in module.modules() if isinstance(child, (torch.nn.Linear, torch.nn.Embedding))
            )
            inside.register_forward_pre_hook(lambda *_, name=name: self._note_run(name))

    def _note_output(self, name, output):
        if self.is_in_step:  # not while the order of the layers is probed or a drift is measured
            output = output[0] if isinstance(output, tuple) else output
            self.outputs[-1][name].append(output.requires_grad)

    def _note_run(self, name):
        if self.is_in_step:
            self.runs[-1][name] += 1

    def on_step_end(self, args, state, control, **kwargs):
        self.is_in_step = False

    def on_step_begin(self, args, state, control, **kwargs):
        self.is_in_step = True
        self.outputs.append(defaultdict(list))
        self.runs.append(Counter())
        self.held.append([name for name, weight in self.model.named_parameters() if weight.grad is not None])

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        # An optimizer skips weights without a gradient.
        for name, weight in self.model.named_parameters():
            assert (weight.grad is not None) == weight.requires_grad, name

    def on_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        names = {id(weight): name for name, weight in self.model.named_parameters()}
        self.state.append({names[id(weight)] for weight in optimizer.state})


@pytest.fixture
def watch_training(encoders, data, tokenizer, tmp_path):
    def train(architecture, schedule=SCHEDULE, **arguments):
        model = MultiTaskModel.from_encoder(encoders[architecture], data.tasks)
        watch = Watch(model)
        trainer = make_trainer(
            model,
            data,
            tokenizer,
            tmp_path,
            schedule,
            max_steps=len(LOWEST),
            gradient_accumulation_steps=BATCHES_PER_STEP,
            per_device_train_batch_size=1,
            weight_decay=0.1,
            store_frozen="never",
            **arguments,
        )
        trainer.add_callback(watch)  # after the trainer's own callback, which enters the stage
        trainer.train()
        return watch

    return train


@pytest.mark.parametrize("architecture", WITH_LAYERS)
def test_the_backward_pass_ends_at_the_lowest_layer_that_trains(architecture, watch_training):
    watch = watch_training(architecture)
    for lowest, outputs in zip(LOWEST, watch.outputs, strict=True):
        assert outputs["embeddings"] == [False] * BATCHES_PER_STEP
        for i in range(3):
            assert outputs[f"encoder.{i}"] == [i >= lowest] * BATCHES_PER_STEP


@pytest.mark.parametrize("architecture", WITH_CHECKPOINTING)
def test_frozen_layers_are_not_recomputed_with_activation_checkpointing(architecture, watch_training):
    watch = watch_training(architecture, activation_checkpointing=True)
    for lowest, runs in zip(LOWEST, watch.runs, strict=True):
        # Layers above a trained layer are not checkpointed either: the trained layer keeps its activations.
        again = {f"encoder.{i}": BATCHES_PER_STEP * (2 if i == lowest else 1) for i in range(3)}
        assert runs == {"embeddings": BATCHES_PER_STEP, **again}


def test_untrained_weights_have_no_optimizer_state_and_no_stage_inherits_a_gradient(watch_training):
    watch = watch_training("bert")
    assert watch.held == [[]] * len(LOWEST)
    for step, names in enumerate(watch.state):
        with_state = {group.name for group in watch.model.layer_groups() if names & set(group.parameters)}
        expected = {"head.intent", "head.slots"}
        expected |= {"encoder.2"} if step >= 2 else set()
        expected |= {"encoder.1"} if step >= 4 else set()
        assert with_state == expected


def test_trained_layers_are_recomputed(watch_training):
    watch = watch_training("bert", {"stages": [{"train": "all"}]}, activation_checkpointing=True)
    for outputs, runs in zip(watch.outputs, watch.runs, strict=True):
        assert outputs["embeddings"] == [True] * BATCHES_PER_STEP
        assert all(runs[f"encoder.{i}"] == 2 * BATCHES_PER_STEP for i in range(3))
