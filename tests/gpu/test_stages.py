"""Freezing in stages on a device: memory, optimizers, averages, protected heads, torch.compile, evaluation."""

import pytest
import torch
from torch._dynamo.utils import counters
from transformers import BertConfig, BertModel, TrainerCallback

from hf_multitask import MultiTaskModel, TaskConfig, prepare_datasets
from hf_multitask.freezing.distillation import Teacher
from tests.gpu.devices import NEEDS_COMPILER, NEEDS_CUDA, losses, train, weights
from tests.tiny import ROWS

pytestmark = pytest.mark.gpu

UP_AND_DOWN = {
    "stages": [
        {"train": "heads", "steps": 3},
        {"train": ["encoder[-2:]", "heads"], "steps": 3},
        {"train": "all", "steps": 3},
        {"train": "heads"},
    ]
}
MIB = 2**20


class Held(TrainerCallback):
    """Records, before gradients are reset, the bytes of gradients and optimizer state and the peak memory."""

    def __init__(self):
        self.steps = []

    def on_step_begin(self, args, state, control, **kwargs):
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def on_optimizer_step(self, args, state, control, model=None, optimizer=None, **kwargs):
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        values = [value for of_weight in optimizer.state.values() for value in of_weight.values()]
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        self.steps.append((size(gradients), size(value for value in values if torch.is_tensor(value)), peak))


def size(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def train_wide(device, data, tokenizer, folder, **arguments):
    """Train a model whose weights need far more memory than its activations, and return its plan and records."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=400, hidden_size=256, num_hidden_layers=6, num_attention_heads=4, intermediate_size=1024
    )
    BertModel(config).save_pretrained(folder / "encoder")
    held = Held()
    trainer = train(
        device,
        folder / "encoder",
        data,
        tokenizer,
        folder,
        UP_AND_DOWN,
        given={"callbacks": [held]},
        max_steps=12,
        store_frozen="never",
        **arguments,
    )
    return trainer.plan(), held.steps, trainer


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "adamw_torch", "sgd"])
def test_gradients_and_optimizer_state_are_those_of_the_plan(optim, device, data, tokenizer, tmp_path):
    plans, steps, _ = train_wide(device, data, tokenizer, tmp_path, optim=optim)
    assert len(plans) == 4
    for i, plan in enumerate(plans):
        gradients, state, _ = steps[3 * i + 2]
        assert gradients == plan.gradient_bytes, plan.name
        assert state == plan.optimizer_bytes, plan.name


@NEEDS_CUDA
def test_the_peak_memory_of_the_device_rises_and_falls_as_planned(data, tokenizer, tmp_path):
    plans, steps, trainer = train_wide("cuda", data, tokenizer, tmp_path)
    planned = [plan.gradient_bytes + plan.optimizer_bytes for plan in plans]
    # The last step of each stage: the first one creates the optimizer's state, after the peak of the step before.
    peaks = [steps[3 * i + 2][2] for i in range(4)]
    assert planned[0] < planned[3] < planned[2]
    for i in range(1, 4):
        expected, found = planned[i] - planned[0], peaks[i] - peaks[0]
        # Activations, of more layers the deeper the backward pass goes, and blocks of 512 bytes.
        assert abs(found - expected) < 0.1 * abs(expected) + 3 * MIB, (plans[i].name, found / MIB, expected / MIB)
    recorded = trainer.state.stateful_callbacks["freeze_schedule"]["stages"]
    for plan, peak in zip(plans, peaks, strict=True):
        assert recorded[plan.name]["peak_memory_bytes"] >= peak


def test_a_run_on_the_cpu_has_the_memory_of_the_process(encoder, data, tokenizer, tmp_path):
    trainer = train("cpu", encoder, data, tokenizer, tmp_path, "heads-then-all")
    for record in trainer.state.stateful_callbacks["freeze_schedule"]["stages"].values():
        assert record["peak_memory_bytes"] > 50 * MIB  # torch itself takes more


@pytest.mark.parametrize("given", [{}, {"optim": "adamw_torch"}, {"optim": "sgd"}, {"optim": "adafactor"}], ids=str)
def test_optimizers_move_exactly_what_trains(given, device, encoder, data, tokenizer, tmp_path):
    start = None

    class Weights(TrainerCallback):
        def __init__(self):
            self.steps = []

        def on_step_end(self, args, state, control, model=None, **kwargs):
            self.steps.append({name: weight.detach().cpu().clone() for name, weight in model.named_parameters()})

    seen = Weights()
    trainer = train(
        device,
        encoder,
        data,
        tokenizer,
        tmp_path,
        {"stages": [{"train": "heads", "steps": 3}, {"train": "encoder", "steps": 3}, {"train": "all"}]},
        given={"callbacks": [seen]},
        max_steps=9,
        weight_decay=0.1,
        **given,
    )
    if not given:
        assert trainer.args.optim == "adamw_torch_fused"
        assert trainer.optimizer.param_groups[0]["fused"]
    start, *_ = seen.steps
    for first, last, trained in ((0, 2, "heads."), (3, 5, "encoder.")):
        before, after = seen.steps[first], seen.steps[last]
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved
        assert all(name.startswith(trained) for name in moved)
    assert any(
        not torch.equal(seen.steps[6][name], seen.steps[8][name]) for name in start if name.startswith("heads.")
    )


@pytest.mark.usefixtures("deterministic")
def test_averages_stay_on_the_device_and_are_saved(device, encoder, data, tokenizer, tmp_path):
    arguments = {"ema_decay": 0.5, "max_steps": 12, "save_strategy": "steps", "save_steps": 4}
    whole = train(device, encoder, data, tokenizer, tmp_path, UP_AND_DOWN, **arguments)
    saved = MultiTaskModel.from_pretrained(tmp_path / "checkpoint-12")
    found = weights(whole)
    for name, weight in saved.named_parameters():
        assert torch.equal(weight, found[name])
    again = train(device, encoder, data, tokenizer, tmp_path, UP_AND_DOWN, str(tmp_path / "checkpoint-4"), **arguments)
    for name, weight in weights(again).items():
        assert torch.allclose(weight, found[name], atol=1e-6)


@pytest.mark.parametrize("given", [{}, {"bf16": True}], ids=str)
def test_a_protected_head_is_distilled_and_its_drift_measured(given, device, encoder, data, tokenizer, tmp_path):
    schedule = {
        "stages": [{"train": "heads", "steps": 2}, {"freeze": "head.intent"}],
        "protect": {"intent": {"distill": 1.0}},
    }
    trainer = train(device, encoder, data, tokenizer, tmp_path, schedule, eval_strategy="steps", eval_steps=4, **given)
    logs = trainer.state.log_history
    distances = [entry["intent_distill_loss"] for entry in logs if "intent_distill_loss" in entry]
    assert len(distances) == 6
    # The teacher computes as the model does: at first they are equal, but for the update of the step before.
    assert abs(distances[0]) < 1e-5
    assert distances[-1] > distances[0]
    drifts = [entry["eval_drift_pooled"] for entry in logs if "eval_drift_pooled" in entry]
    assert 0 < drifts[0] < drifts[-1]


def test_the_teacher_of_a_protected_head_computes_in_the_precision_of_the_run(
    device, encoder, data, tokenizer, tmp_path, monkeypatch
):
    found = set()
    load = Teacher.load

    def watch(teacher, weights):
        layer = teacher.model.encoder.encoder.layer[0].attention.self.query
        layer.register_forward_hook(lambda _, __, output: found.add(output.dtype))
        load(teacher, weights)

    monkeypatch.setattr(Teacher, "load", watch)
    schedule = {"stages": [{"freeze": "head.intent"}], "protect": {"intent": {"distill": 1.0}}}
    train(device, encoder, data, tokenizer, tmp_path, schedule, bf16=True, max_steps=2)
    assert found == {torch.bfloat16}


def test_evaluation_and_prediction_on_a_device(device, encoder, data, tokenizer, tmp_path):
    runs = []
    for place in ("cpu", device):
        trainer = train(place, encoder, data, tokenizer, tmp_path / place, per_device_eval_batch_size=3)
        runs.append((trainer.evaluate(), trainer.predict(data["test"])))
    (expected, predicted), (found, again) = runs
    for name in expected:
        if "runtime" not in name and "per_second" not in name and "preparation_time" not in name:
            assert found[name] == pytest.approx(expected[name], abs=2e-3), name
    assert again.predictions["slots"]["ids"].shape == predicted.predictions["slots"]["ids"].shape


def test_the_weights_of_the_best_step_are_restored(device, encoder, data, tokenizer, tmp_path):
    schedule = {
        "stages": [
            {"train": "heads", "until": {"metric": "loss", "patience": 1}, "restore_best": True},
            {"train": "all"},
        ]
    }
    trainer = train(
        device,
        encoder,
        data,
        tokenizer,
        tmp_path,
        schedule,
        eval_strategy="steps",
        eval_steps=1,
        learning_rate=0.3,
        head_learning_rate=3.0,
    )
    assert any("restored_step" in entry for entry in trainer.state.log_history)


# On a CPU, tests/freezing/test_compilation has the other combinations.
COMPILED = [
    ("eager", {"head": "lstm", "crf": True}, "cpu"),
    *(
        pytest.param(backend, slots, "cuda", marks=[NEEDS_CUDA, *([NEEDS_COMPILER] if backend == "inductor" else [])])
        for backend in ("aot_eager", "inductor")
        for slots in ({}, {"head": "lstm"}, {"crf": True})
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "slots", "device"), COMPILED, ids=str)
def test_stages_are_compiled(backend, slots, device, encoder, tokenizer, tmp_path):
    tasks = [TaskConfig("intent", "sequence_classification"), TaskConfig("slots", "token_classification", **slots)]
    data = prepare_datasets({"train": ROWS[:8]}, tokenizer, tasks)
    schedule = {"stages": [{"train": "heads", "steps": 2}, {"train": ["encoder", "head.intent"]}]}
    runs = []
    for given in ({}, {"torch_compile": True, "torch_compile_backend": backend}):
        torch._dynamo.reset()
        counters.clear()
        runs.append(losses(train(device, encoder, data, tokenizer, tmp_path, schedule, max_steps=4, **given)))
    assert counters["stats"]["unique_graphs"] >= 2
    torch._dynamo.reset()
    assert torch.allclose(runs[0], runs[1], atol=2e-3)
