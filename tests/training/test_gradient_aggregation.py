"""Aggregated gradients in a training: of whole batches, on the shared weights only, resumed, and what is refused."""

import re

import pytest
import torch
from accelerate.utils import DistributedType
from peft import LoraConfig
from torchjd.aggregation import MGDA, AlignedMTL
from transformers import TrainerCallback

from hf_multitask import DataConfig, MultiTaskModel, TaskConfig, prepare_datasets
from hf_multitask.training.gradient_aggregation import check_aggregation
from hf_multitask.training.loss_balancing import STATE_NAME
from tests.tiny import ROWS
from tests.trainers import make_trainer, without_dropout

STEPS = {"max_steps": 6, "logging_steps": 1, "learning_rate": 1e-3}
WHOLE_BATCH = {"max_steps": 1, "per_device_train_batch_size": 22, "max_grad_norm": 0.0}


class GradientRecorder(TrainerCallback):
    """Keeps the gradients of each optimizer step."""

    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        gradients = {name: weight.grad for name, weight in model.named_parameters()}
        self.steps.append({name: None if grad is None else grad.clone() for name, grad in gradients.items()})


def build(encoder, data, tokenizer, folder, method, schedule=None, peft_config=None, tasks=None, **arguments):
    torch.manual_seed(0)
    model = without_dropout(MultiTaskModel.from_encoder(encoder, tasks or data.tasks, peft_config=peft_config))
    given = {"callbacks": [GradientRecorder()]}
    if method is not None:
        arguments["loss_balancing"] = method
    return make_trainer(model, data, tokenizer, folder, schedule, given, **{**STEPS, **arguments})


def recorded(trainer):
    (recorder,) = (each for each in trainer.callback_handler.callbacks if isinstance(each, GradientRecorder))
    return recorder.steps


def task_gradients(trainer):
    """Return the gradients of each task's loss of all training rows, by task and weight."""
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(len(trainer.train_dataset))])
    weights = dict(trainer.model.named_parameters())
    trainer.model.train()
    losses = trainer.model(**batch, return_dict=True).losses
    found = {}
    for task in trainer.tasks:
        loss = task.loss_weight * losses[task.name]
        parts = torch.autograd.grad(loss, list(weights.values()), retain_graph=True, allow_unused=True)
        found[task.name] = dict(zip(weights, parts, strict=True))
    return found


@pytest.mark.parametrize("aggregator", [AlignedMTL, MGDA])
def test_shared_weights_get_what_torchjd_makes_of_the_gradients(encoder, tokenizer, data, tmp_path, aggregator):
    weighted = [TaskConfig(**{**task.to_dict(), "loss_weight": 1.0 + i}) for i, task in enumerate(data.tasks)]
    method = {"torchjd": aggregator.__name__}
    trainer = build(encoder, data, tokenizer, tmp_path, method, tasks=weighted, **WHOLE_BATCH)
    by_task = task_gradients(trainer)
    trainer.train()
    (step,) = recorded(trainer)
    shared = [name for name in step if name.startswith("encoder.")]
    rows = torch.stack([torch.cat([by_task[task.name][name].flatten() for name in shared]) for task in trainer.tasks])
    expected = aggregator()(rows)
    assert torch.allclose(torch.cat([step[name].flatten() for name in shared]), expected, rtol=1e-4, atol=1e-7)
    assert not torch.allclose(expected, rows.sum(0), rtol=1e-2), "the case shows no difference"
    for task in trainer.tasks:
        of_head = [name for name in step if name.startswith(f"heads.{task.name}.")]
        assert of_head
        assert all(torch.allclose(step[name], by_task[task.name][name], rtol=1e-4, atol=1e-7) for name in of_head)


TRAININGS = {
    "plain": {},
    "accumulation": {"gradient_accumulation_steps": 2},
    "stages": {"schedule": {"stages": [{"train": "heads", "steps": 2}, {"train": ["encoder.1", "heads"]}]}},
    "cached layers": {
        "schedule": {"stages": [{"train": ["encoder.1", "heads"]}]},
        "store_frozen": "always",
        "train_sampling_strategy": "sequential",
    },
    "protected head": {
        "schedule": {
            "stages": [{"train": "all", "steps": 2}, {"train": ["encoder", "head.slots"]}],
            "protect": {"intent": {"distill": 5.0}},
        },
    },
    "activation checkpointing": {"activation_checkpointing": True},
    "lora": {"peft_config": LoraConfig(r=4)},
    "bf16": {"bf16": True, "use_cpu": True},
}


@pytest.mark.parametrize("options", TRAININGS.values(), ids=TRAININGS)
def test_the_sum_of_the_gradients_is_a_plain_training(encoder, tokenizer, data, tmp_path, options):
    plain, summed = (
        build(encoder, data, tokenizer, tmp_path / str(method), method, **options)
        for method in (None, {"torchjd": "Sum"})
    )
    plain.train()
    summed.train()
    tolerance = {"rtol": 0.05, "atol": 2e-3} if "bf16" in options else {"rtol": 1e-3, "atol": 1e-6}
    for step, expected in zip(recorded(summed), recorded(plain), strict=True):
        assert {name for name in step if step[name] is None} == {name for name in step if expected[name] is None}
        assert all(torch.allclose(step[name], expected[name], **tolerance) for name in step if step[name] is not None)
    losses = [[entry["loss"] for entry in each.state.log_history if "loss" in entry] for each in (plain, summed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2 if "bf16" in options else 1e-4)


def test_accumulation_aggregates_whole_batches(encoder, tokenizer, data, tmp_path):
    steps = []
    for batch, accumulation in ((8, 1), (2, 4)):
        options = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
        options |= {"train_sampling_strategy": "sequential", "max_steps": 2}
        trainer = build(encoder, data, tokenizer, tmp_path / str(batch), {"torchjd": "UPGrad"}, **options)
        trainer.train()
        steps.append(recorded(trainer)[0])
    assert all(torch.allclose(steps[0][name], steps[1][name], rtol=1e-3, atol=1e-6) for name in steps[0])


TWO_DATASETS = {
    "plain": {},
    "accumulation": {"gradient_accumulation_steps": 2},
    "cached layers": {"schedule": {"stages": [{"train": ["encoder.1", "heads"]}]}, "store_frozen": "always"},
    "packing": {"packing": True},
    "protected head": TRAININGS["protected head"],
}


class RowCounter:
    """Counts the rows of each pass of a model that trains."""

    def __init__(self, model):
        self.rows = []
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, model, args, kwargs):
        if model.training:
            self.rows.append(len(kwargs["input_ids"]))


@pytest.mark.parametrize("options", TWO_DATASETS.values(), ids=TWO_DATASETS)
def test_tasks_without_common_rows_pass_the_model_one_after_another(encoder, tokenizer, data, tmp_path, options):
    parts = [DataConfig(train=ROWS, tasks=[task.name]) for task in data.tasks]
    rows = prepare_datasets(parts, tokenizer, data.tasks)
    plain, summed = (
        build(encoder, rows, tokenizer, tmp_path / str(method), method, **options)
        for method in (None, {"torchjd": "Sum"})
    )
    whole, divided = RowCounter(plain.model), RowCounter(summed.model)
    plain.train()
    summed.train()
    for step, expected in zip(recorded(summed), recorded(plain), strict=True):
        assert {name for name in step if step[name] is None} == {name for name in step if expected[name] is None}
        given = [name for name in step if step[name] is not None]
        assert all(torch.allclose(step[name], expected[name], rtol=1e-3, atol=1e-6) for name in given)
    for entry, expected in zip(summed.state.log_history, plain.state.log_history, strict=True):
        names = [name for name in entry if name == "loss" or name.endswith(("_loss", "_rows"))]
        assert [entry[name] for name in names] == pytest.approx([expected[name] for name in names], rel=1e-4, abs=1e-6)
    assert sum(divided.rows) == sum(whole.rows)
    # A protected head, which this schedule has in the last four steps, has a loss in all rows.
    assert (divided.rows[-4:] == whole.rows[-4:]) == ("protect" in options.get("schedule", {}))


@pytest.mark.parametrize("streaming", [False, True], ids=["mixed", "streamed"])
def test_steps_of_several_datasets(encoder, tokenizer, data, tmp_path, streaming):
    parts = [DataConfig(train=ROWS, tasks=[task.name], streaming=streaming) for task in data.tasks]
    mixed = prepare_datasets(parts, tokenizer, data.tasks)
    trainer = build(encoder, mixed, tokenizer, tmp_path, {"torchjd": "UPGrad"})
    trainer.train()
    assert len(recorded(trainer)) == 6


def test_a_step_with_one_task_is_a_plain_step(encoder, tokenizer, data, tmp_path):
    # The first batches have the labels of one task.
    given = [{**row, "intent": None if i < 8 else row["intent"]} for i, row in enumerate(ROWS)]
    rows = prepare_datasets({"train": given}, tokenizer, data.tasks)
    options = {"max_steps": 2, "train_sampling_strategy": "sequential"}
    runs = [
        build(encoder, rows, tokenizer, tmp_path / str(method), method, **options)
        for method in (None, {"torchjd": "UPGrad"})
    ]
    for run in runs:
        run.train()
    plain, aggregated = (run.model.state_dict() for run in runs)
    assert all(torch.equal(plain[name], aggregated[name]) for name in plain)


@pytest.mark.parametrize("name", ["UPGrad", "Random"])
def test_a_run_is_resumed(encoder, tokenizer, data, tmp_path, name):
    saving = {"save_strategy": "steps", "save_steps": 4}
    whole = build(encoder, data, tokenizer, tmp_path / "whole", {"torchjd": name}, **saving)
    whole.train()
    resumed = build(encoder, data, tokenizer, tmp_path / "resumed", {"torchjd": name}, **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    pairs = zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_the_random_numbers_of_the_training_stay(encoder, tokenizer, data, tmp_path):
    states = []
    for method in (None, {"torchjd": "Random"}):
        build(encoder, data, tokenizer, tmp_path / str(method), method).train()
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


@pytest.mark.parametrize(("before", "now"), [({"torchjd": "PCGrad"}, "none"), ("dwa", {"torchjd": "PCGrad"})])
def test_another_method_is_not_resumed(encoder, tokenizer, data, tmp_path, before, now):
    saving = {"save_strategy": "steps", "save_steps": 2, "max_steps": 2}
    build(encoder, data, tokenizer, tmp_path / "first", before, **saving).train()
    checkpoint = tmp_path / "first" / "checkpoint-2"
    assert (checkpoint / STATE_NAME).exists()
    with pytest.raises(ValueError, match=r"was written with .*; resume with loss_balancing"):
        build(encoder, data, tokenizer, tmp_path / "second", now).train(resume_from_checkpoint=str(checkpoint))


def test_a_loss_that_is_not_finite_is_met_as_usual(encoder, tokenizer, data, tmp_path):
    trainer = build(encoder, data, tokenizer, tmp_path, {"torchjd": "UPGrad"})
    with torch.no_grad():
        trainer.model.heads["intent"].classifier.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        trainer.train()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"torch_compile": True}, "leave torch_compile out"),
        (
            {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": True}},
            "leave use_reentrant=True out",
        ),
    ],
)
def test_refused(encoder, tokenizer, data, tmp_path, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build(encoder, data, tokenizer, tmp_path, {"torchjd": "UPGrad"}, **options)


@pytest.mark.parametrize(
    ("kind", "precision", "message"),
    [
        (DistributedType.FSDP, "no", "does not work under FSDP; leave it out"),
        (DistributedType.NO, "fp16", "does not work with the gradient scaler of fp16; leave fp16 out, or take bf16"),
    ],
)
def test_refused_in_a_trainer_that_a_cpu_cannot_build(kind, precision, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_aggregation(kind, precision, use_reentrant=False, is_compiled=False)
    check_aggregation(DistributedType.MULTI_CPU, "bf16", use_reentrant=False, is_compiled=False)


def test_one_task_has_nothing_to_aggregate(encoder, tokenizer, data, tmp_path):
    rows = prepare_datasets({"train": ROWS}, tokenizer, data.tasks[:1])
    with pytest.raises(
        ValueError, match=re.escape("{torchjd: UPGrad} aggregates the gradients of tasks: expected two")
    ):
        build(encoder, rows, tokenizer, tmp_path, {"torchjd": "UPGrad"})
