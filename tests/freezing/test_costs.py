"""What is frozen costs nothing but its forward pass: no backward, no recomputation, no memory, no update."""

from collections import Counter, defaultdict

import pytest
import torch
from transformers import TrainerCallback

from hf_multitask import MultiTaskModel
from hf_multitask.models.layer_groups import find_layers
from tests.tiny import ARCHITECTURES
from tests.trainers import make_trainer

# ALBERT's layers are one module, run several times.
WITH_LAYERS = [name for name in ARCHITECTURES if name != "albert"]
# In transformers MPNet has no activation checkpointing.
WITH_CHECKPOINTING = [name for name in WITH_LAYERS if name != "mpnet"]
SCHEDULE = {
    "stages": [
        {"train": "heads", "steps": 2},
        {"train": ["encoder[2:]", "heads"], "steps": 2},
        {"train": ["encoder.1"], "steps": 2},
        {"train": ["head.slots"]},
    ]
}
# By step: the lowest layer through which a gradient runs, of three; 3 where none does.
LOWEST = [3, 3, 2, 2, 1, 1, 3, 3]
BATCHES_A_STEP = 2


class Watch(TrainerCallback):
    """Notes at each step which modules ran how often, and whose outputs need a gradient."""

    def __init__(self, model):
        self.model = model
        self.outputs, self.runs, self.state, self.held = [], [], [], []
        self.is_in_step = False
        modules = {f"encoder.{i}": layer for i, layer in enumerate(find_layers(model.encoder))}
        for name, module in {"embeddings": model.encoder.embeddings, **modules}.items():
            module.register_forward_hook(lambda _, __, output, name=name: self._note_output(name, output))
            # Hooks of a layer itself do not run when it is computed again.
            inside = next(
                child for child in module.modules() if isinstance(child, (torch.nn.Linear, torch.nn.Embedding))
            )
            inside.register_forward_pre_hook(lambda *_, name=name: self._note_run(name))

    def _note_output(self, name, output):
        if self.is_in_step:  # and not while the layers' order is found, a drift is measured
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
        # An optimizer passes over what has no gradient.
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
            gradient_accumulation_steps=BATCHES_A_STEP,
            per_device_train_batch_size=1,
            weight_decay=0.1,
            store_frozen="never",
            **arguments,
        )
        trainer.add_callback(watch)  # behind the trainer's own, which enters the stage
        trainer.train()
        return watch

    return train


@pytest.mark.parametrize("architecture", WITH_LAYERS)
def test_the_backward_pass_ends_at_the_lowest_layer_that_trains(architecture, watch_training):
    watch = watch_training(architecture)
    for lowest, outputs in zip(LOWEST, watch.outputs, strict=True):
        assert outputs["embeddings"] == [False] * BATCHES_A_STEP
        for i in range(3):
            assert outputs[f"encoder.{i}"] == [i >= lowest] * BATCHES_A_STEP


@pytest.mark.parametrize("architecture", WITH_CHECKPOINTING)
def test_frozen_layers_are_not_computed_again_where_activations_are_checkpointed(architecture, watch_training):
    watch = watch_training(architecture, activation_checkpointing=True)
    for lowest, runs in zip(LOWEST, watch.runs, strict=True):
        # Of what lies above a layer that trains, nothing is checkpointed either: it keeps its activations.
        again = {f"encoder.{i}": BATCHES_A_STEP * (2 if i == lowest else 1) for i in range(3)}
        assert runs == {"embeddings": BATCHES_A_STEP, **again}


def test_what_never_trained_has_no_optimizer_state_and_no_stage_inherits_a_gradient(watch_training):
    watch = watch_training("bert")
    assert watch.held == [[]] * len(LOWEST)
    for step, names in enumerate(watch.state):
        with_state = {group.name for group in watch.model.layer_groups() if names & set(group.parameters)}
        expected = {"head.intent", "head.slots"}
        expected |= {"encoder.2"} if step >= 2 else set()
        expected |= {"encoder.1"} if step >= 4 else set()
        assert with_state == expected


def test_layers_that_train_are_computed_again(watch_training):
    watch = watch_training("bert", {"stages": [{"train": "all"}]}, activation_checkpointing=True)
    for outputs, runs in zip(watch.outputs, watch.runs, strict=True):
        assert outputs["embeddings"] == [True] * BATCHES_A_STEP
        assert all(runs[f"encoder.{i}"] == 2 * BATCHES_A_STEP for i in range(3))
