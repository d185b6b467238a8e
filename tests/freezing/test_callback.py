"""Freezing in stages: with a plain Trainer on stock models, and with MultiTaskTrainer."""

import copy
import json
import time

import datasets
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
)

from hf_multitask.freezing import FreezeCallback, FreezeSchedule, FreezeStage, OnWorse, build_schedule, freeze
from hf_multitask.models.layer_groups import layer_groups
from tests.trainers import make_trainer as make_multitask_trainer
from tests.trainers import without_dropout

HEADS_THEN_ALL = {"stages": [{"name": "heads", "train": "heads", "steps": 2}, {"name": "all"}]}
FOUR_STAGES = {
    "stages": [
        {"name": "heads", "train": "heads", "steps": 1},
        {"name": "top", "train": ["encoder[-1:]", "heads"], "steps": 2},
        {"name": "bottom", "train": ["embeddings", "encoder.0"], "steps": 1},
        {"name": "all"},
    ]
}


@pytest.fixture(params=[BertForSequenceClassification, BertForTokenClassification])
def stock(request):
    config = BertConfig(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, vocab_size=20, num_labels=3
    )
    return request.param(config)


@pytest.fixture
def rows(stock):
    ids = torch.randint(0, 20, (16, 6)).tolist()
    of_words = isinstance(stock, BertForTokenClassification)
    return datasets.Dataset.from_list(
        [
            {"input_ids": row, "attention_mask": [1] * 6, "labels": [word % 3 for word in row] if of_words else i % 3}
            for i, row in enumerate(ids)
        ]
    )


def weights_of(groups):
    return {
        group.name: {name: weight.detach().clone() for name, weight in group.parameters.items()} for group in groups
    }


def moved(before, after):
    """Names of the groups with any weight that is not bit-equal."""
    return [
        name for name in before if not all(torch.equal(before[name][key], after[name][key]) for key in before[name])
    ]


class Watch(TrainerCallback):
    """Keeps the weights at each step."""

    def __init__(self):
        self.weights = {}

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.groups = layer_groups(model)
        self.weights[state.global_step] = weights_of(self.groups)

    def on_step_end(self, args, state, control, **kwargs):
        self.weights[state.global_step] = weights_of(self.groups)

    def moved(self, start, end):
        return moved(self.weights[start], self.weights[end])


def scores(*values):
    """A compute_metrics that returns these scores, one after the other."""
    left = list(values)
    return lambda _: {"score": left.pop(0)}


def make_trainer(model, rows, folder, callbacks, compute_metrics=None, **arguments):
    defaults = {
        "per_device_train_batch_size": 4,
        "max_steps": 6,
        "learning_rate": 1e-2,
        "weight_decay": 0.1,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    return Trainer(
        model=model,
        args=TrainingArguments(output_dir=str(folder), **{**defaults, **arguments}),
        train_dataset=rows,
        eval_dataset=rows,
        compute_metrics=compute_metrics,
        callbacks=callbacks,
    )


def transitions(trainer):
    return [entry for entry in trainer.state.log_history if "freeze_stage" in entry]


def test_a_plain_trainer_trains_exactly_the_groups_of_each_stage(stock, rows, tmp_path):
    watch = Watch()
    make_trainer(stock, rows, tmp_path, [FreezeCallback(FOUR_STAGES), watch]).train()
    groups = layer_groups(stock)
    stages = build_schedule(FOUR_STAGES, groups, 3).stages
    bounds = [0, 1, 3, 4, 6]
    for stage, start, end in zip(stages, bounds[:-1], bounds[1:], strict=True):
        assert watch.moved(start, start + 1) == stage.trained(groups)
        assert watch.moved(start, end) == stage.trained(groups)


def test_the_stages_that_are_left_are_known_at_each_step(stock, rows, tmp_path):
    freezing, left = FreezeCallback(FOUR_STAGES), {}

    class Left(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            left[state.global_step] = freezing.remaining_stages()

    assert freezing.remaining_stages() is None
    make_trainer(stock, rows, tmp_path, [freezing, Left()]).train()
    groups = layer_groups(stock)
    trained = [stage.trained(groups) for stage in build_schedule(FOUR_STAGES, groups, 3).stages]
    # In epochs of four steps.
    expected = {
        0: [0.25, 0.5, 0.25, 0.5],
        1: [0.5, 0.25, 0.5],
        2: [0.25, 0.25, 0.5],
        3: [0.25, 0.5],
        4: [0.5],
        5: [0.25],
    }
    for step, epochs in expected.items():
        assert [list(names) for names, _ in left[step]] == trained[-len(epochs) :]
        assert [length for _, length in left[step]] == epochs


class NaiveUnfreezing(TrainerCallback):
    """Unfreezes in a callback what was frozen before train(), a common mistake."""

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == 2:
            freeze(model, "none")


def test_the_naive_way_never_trains_what_it_unfreezes(stock, rows, tmp_path):
    watch = Watch()
    freeze(stock, "encoder")
    make_trainer(stock, rows, tmp_path, [NaiveUnfreezing(), watch]).train()
    assert all(weight.requires_grad for weight in stock.parameters())
    assert watch.moved(2, 6) == ["head.classifier"]


def test_the_model_is_trainable_as_before_after_training(stock, rows, tmp_path):
    stock.classifier.bias.requires_grad_(False)
    trainer = make_trainer(stock, rows, tmp_path, [FreezeCallback({"stages": [{"train": "encoder.1"}]})])
    flags = [weight.requires_grad for weight in stock.parameters()]
    trainer.train()
    assert [weight.requires_grad for weight in stock.parameters()] == flags
    stock.train()
    assert all(module.training for module in stock.modules())
    assert not any("train" in vars(module) for module in stock.modules())


def test_the_model_is_trainable_as_before_after_a_refused_training(stock, rows, tmp_path):
    schedule = {"stages": [{"train": "heads", "until": {"metric": "none"}}, {}]}
    trainer = make_trainer(stock, rows, tmp_path, [FreezeCallback(schedule)], eval_strategy="epoch")
    with pytest.raises(ValueError, match="unknown metric 'none'"):
        trainer.train()
    assert all(weight.requires_grad for weight in stock.parameters())
    assert not any("train" in vars(module) for module in stock.modules())
    assert trainer.args.eval_on_start is False


def test_a_second_training_goes_through_the_stages_again(stock, rows, tmp_path):
    watch = Watch()
    trainer = make_trainer(stock, rows, tmp_path, [FreezeCallback(HEADS_THEN_ALL), watch])
    for _ in range(2):
        trainer.train()
        assert watch.moved(0, 2) == ["head.classifier"]
        assert watch.moved(2, 3) == [group.name for group in watch.groups]
    assert [entry["step"] for entry in transitions(trainer)] == [0, 2]


def test_a_plain_trainer_goes_through_the_stages_on_streamed_rows(stock, rows, tmp_path):
    watch = Watch()
    make_trainer(stock, rows.to_iterable_dataset(), tmp_path, [FreezeCallback(HEADS_THEN_ALL), watch]).train()
    assert watch.moved(0, 2) == ["head.classifier"]
    assert watch.moved(2, 3) == [group.name for group in watch.groups]


def test_a_preset_takes_its_share_of_the_run_of_a_plain_trainer(stock, rows, tmp_path):
    trainer = make_trainer(stock, rows, tmp_path, [FreezeCallback("heads-then-all")])
    trainer.train()
    assert [entry["step"] for entry in transitions(trainer)] == [0, 2]


def test_transitions_are_in_the_log(stock, rows, tmp_path):
    trainer = make_trainer(stock, rows, tmp_path, [FreezeCallback(HEADS_THEN_ALL)])
    trainer.train()
    groups = layer_groups(stock)
    encoder = [group.name for group in groups if not group.is_head]
    heads, everything = transitions(trainer)
    assert heads == {
        "freeze_stage": "heads",
        "freeze_reason": "the run starts",
        "unfrozen_groups": [],
        "frozen_groups": encoder,
        "trainable_parameters": sum(weight.numel() for weight in stock.classifier.parameters()),
        "learning_rates": {"head.classifier": trainer.args.learning_rate},
        "epoch": 0,
        "step": 0,
    }
    assert everything["freeze_stage"] == "all"
    assert everything["freeze_reason"] == "stage 'heads' is at its bound"
    assert (everything["unfrozen_groups"], everything["frozen_groups"]) == (encoder, [])
    assert everything["trainable_parameters"] == stock.num_parameters()
    assert everything["learning_rates"] == {group.name: trainer.args.learning_rate for group in groups}
    assert (everything["step"], everything["epoch"]) == (2, 0.5)


def test_the_schedule_is_in_every_checkpoint_and_in_the_runs_folder(stock, rows, tmp_path):
    callbacks = [FreezeCallback(HEADS_THEN_ALL)]
    make_trainer(stock, rows, tmp_path, callbacks, save_strategy="steps", save_steps=2).train()
    schedule = build_schedule(HEADS_THEN_ALL, layer_groups(stock), 3)
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("freeze_schedule.json"))
    assert written == [
        *(f"checkpoint-{step}/freeze_schedule.json" for step in (2, 4, 6)),
        "freeze_schedule.json",
    ]
    for path in written:
        assert FreezeSchedule.from_file(tmp_path / path) == schedule


class Events(TrainerCallback):
    """Records evaluations and checkpoints in order."""

    def __init__(self):
        self.seen = []

    def on_evaluate(self, args, state, control, **kwargs):
        self.seen.append(("evaluation", state.global_step))

    def on_save(self, args, state, control, **kwargs):
        self.seen.append(("checkpoint", state.global_step))


def test_the_checkpoint_of_an_epoch_is_written_once_and_after_its_evaluation(stock, rows, tmp_path):
    events = Events()
    arguments = {"eval_strategy": "epoch", "save_strategy": "steps", "save_steps": 2, "max_steps": 8}
    make_trainer(stock, rows, tmp_path, [FreezeCallback(HEADS_THEN_ALL), events], **arguments).train()
    assert events.seen == [
        ("checkpoint", 2),
        ("evaluation", 4),
        ("checkpoint", 4),
        ("checkpoint", 6),
        ("evaluation", 8),
        ("checkpoint", 8),
    ]


class Wait(TrainerCallback):
    """Makes each step take at least 50 milliseconds."""

    def on_step_begin(self, args, state, control, **kwargs):
        time.sleep(0.05)


def test_the_time_of_a_stage_is_in_every_checkpoint(stock, rows, tmp_path):
    callbacks = [FreezeCallback(HEADS_THEN_ALL), Wait()]
    make_trainer(stock, rows, tmp_path, callbacks, save_strategy="steps", save_steps=2).train()
    for step, stage, least in ((2, "heads", 0.1), (4, "all", 0.1), (6, "all", 0.2)):
        state = json.loads((tmp_path / f"checkpoint-{step}" / "trainer_state.json").read_text())
        assert state["stateful_callbacks"]["freeze_schedule"]["stages"][stage]["seconds"] >= least


def test_the_results_of_each_stage_are_in_stages_json(stock, rows, tmp_path):
    trainer = make_trainer(
        stock,
        rows,
        tmp_path,
        [FreezeCallback(FOUR_STAGES)],
        scores(0.1, 0.9, 0.2, 0.5, 0.4, 0.3),
        eval_strategy="steps",
        eval_steps=1,
    )
    trainer.train()
    stages = json.loads((tmp_path / "stages.json").read_text())["stages"]
    assert [stage["name"] for stage in stages] == ["heads", "top", "bottom", "all"]
    assert [stage["start_step"] for stage in stages] == [0, 1, 3, 4]
    assert [stage["steps"] for stage in stages] == [1, 2, 1, 2]
    assert [stage["epochs"] for stage in stages] == [0.25, 0.5, 0.25, 0.5]
    assert [stage["best"]["score"] for stage in stages] == [0.1, 0.9, 0.5, 0.4]
    assert [stage["last"]["score"] for stage in stages] == [0.1, 0.2, 0.5, 0.3]
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert stages[1]["train_losses"]["loss"] == pytest.approx((losses[1] + losses[2]) / 2)
    sizes = {group.name: group.num_parameters for group in layer_groups(stock)}
    for stage in stages:
        assert stage["seconds"] > 0
        assert stage["peak_memory_bytes"] > 0
        assert stage["trainable_parameters"] == sum(sizes[name] for name in stage["trained_groups"])
    assert stages[-1]["trainable_share"] == 1.0
    assert stages[0]["trained_groups"] == ["head.classifier"]


def test_the_best_weights_of_a_stage_are_restored(stock, rows, tmp_path):
    watch = Watch()

    class Entered(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 4:
                self.weights = weights_of(watch.groups)
                self.moments = [weight in trainer.optimizer.state for weight in stock.classifier.parameters()]

    entered = Entered()
    schedule = {
        "stages": [
            {"name": "top", "train": ["encoder.1", "heads"], "steps": 4, "restore_best": True},
            {"name": "all"},
        ]
    }
    trainer = make_trainer(
        stock,
        rows,
        tmp_path,
        [FreezeCallback(schedule), watch, entered],
        scores(0.0, 0.2, 0.8, 0.5, 0.4, 0.9, 0.9),
        eval_strategy="steps",
        eval_steps=1,
        metric_for_best_model="score",
    )
    trainer.train()
    assert moved(watch.weights[2], entered.weights) == []
    assert set(moved(watch.weights[4], entered.weights)) == {"encoder.1", "head.classifier"}
    assert not any(entered.moments)
    assert transitions(trainer)[1]["restored_step"] == 2
    assert json.loads((tmp_path / "stages.json").read_text())["stages"][0]["restored_step"] == 2
    assert not (tmp_path / "_freezing").exists()


@pytest.mark.parametrize(("values", "stopped"), [((0.5, 0.6, 0.5), 2), ((0.5, 0.6, 0.7, 0.6), 3)])
def test_stop_stops(values, stopped, stock, rows, tmp_path):
    schedule = FreezeSchedule([FreezeStage("a", on_worse=[OnWorse("score", "stop")])])
    trainer = make_trainer(
        stock, rows, tmp_path, [FreezeCallback(schedule)], scores(*values), eval_strategy="steps", eval_steps=1
    )
    trainer.train()
    assert trainer.state.global_step == stopped
    assert transitions(trainer)[-1]["freeze_stage"] is None
    assert transitions(trainer)[-1]["freeze_reason"] == "score got worse"
    assert all(weight.requires_grad for weight in stock.parameters())


def test_a_head_whose_metric_gets_worse_is_frozen_again(stock, rows, tmp_path):
    watch = Watch()
    schedule = FreezeSchedule([FreezeStage("a", on_worse=[OnWorse("score", "refreeze", groups="heads")])])
    arguments = {"eval_strategy": "steps", "eval_steps": 2}
    trainer = make_trainer(
        stock, rows, tmp_path, [FreezeCallback(schedule), watch], scores(0.5, 0.4, 0.6, 0.7), **arguments
    )
    trainer.train()
    encoder = [group.name for group in watch.groups if not group.is_head]
    assert "head.classifier" in watch.moved(1, 2)
    assert watch.moved(2, 6) == encoder
    (stage,) = json.loads((tmp_path / "stages.json").read_text())["stages"]
    assert stage["changes"] == [{"step": 2, "reason": "score got worse: frozen again", "trained_groups": encoder}]


def test_evaluation_before_and_after_the_training_does_not_disturb(stock, rows, tmp_path):
    watch = Watch()
    trainer = make_trainer(stock, rows, tmp_path, [FreezeCallback(HEADS_THEN_ALL), watch])
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] != before
    assert watch.moved(0, 2) == ["head.classifier"]
    assert len(transitions(trainer)) == 2


@pytest.mark.parametrize(
    "arguments", [{"eval_strategy": "steps", "eval_steps": 1}, {"save_strategy": "steps", "save_steps": 1}]
)
def test_evaluations_and_checkpoints_at_every_step_change_no_weight(arguments, stock, rows, tmp_path):
    # An evaluation draws random numbers for the order of its rows, so dropout would differ after it.
    without_dropout(stock)
    results = []
    for i, given in enumerate(({}, arguments)):
        model = copy.deepcopy(stock)
        make_trainer(model, rows, tmp_path / str(i), [FreezeCallback(FOUR_STAGES)], **given).train()
        results.append(weights_of(layer_groups(model)))
    assert moved(*results) == []


# With MultiTaskTrainer: heads that are frozen over an encoder that trains.


class Probe(TrainerCallback):
    """Measures the drift at the beginning of each step."""

    def __init__(self):
        self.drift = {}

    def on_step_begin(self, args, state, control, **kwargs):
        self.drift[state.global_step] = self.trainer.freeze_callback.run.measure_drift()


def train_multitask(model, data, tokenizer, folder, schedule, **arguments):
    defaults = {
        "per_device_train_batch_size": 8,
        "max_steps": 4,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 1,
    }
    probe = Probe()
    probe.trainer = make_multitask_trainer(model, data, tokenizer, folder, schedule, **{**defaults, **arguments})
    probe.trainer.add_callback(probe)  # after the trainer's own callback, which enters the stage
    probe.trainer.train()
    return probe.trainer, probe


def steps_with(trainer, key):
    return [entry["step"] for entry in trainer.state.log_history if key in entry]


@pytest.fixture
def fit(model, data, tokenizer, tmp_path):
    def train(schedule, **arguments):
        trained = without_dropout(copy.deepcopy(model))
        return *train_multitask(trained, data, tokenizer, tmp_path, schedule, **arguments), trained

    return train


@pytest.mark.parametrize(
    ("stages", "measured"),
    [
        ([{}], []),
        ([{"train": "heads"}], []),
        ([{"train": "head.slots"}], []),
        ([{"freeze": "head.intent"}], [1, 2, 3, 4]),
        ([{"train": "encoder.0"}], [1, 2, 3, 4]),
        ([{"steps": 1}, {"steps": 2, "freeze": "heads", "train": "all"}, {}], [2, 3]),
    ],
    ids=str,
)
def test_drift_is_logged_if_a_head_is_frozen_over_a_training_encoder(stages, measured, fit):
    trainer, probe, _ = fit({"stages": stages})
    for kind in ("eval_drift_pooled", "eval_drift_tokens"):
        assert steps_with(trainer, kind) == measured
        logged = [entry[kind] for entry in trainer.state.log_history if kind in entry]
        assert all(value > 1e-6 for value in logged)
    if measured:
        assert probe.drift[measured[0] - 1] == pytest.approx({"drift_pooled": 0.0, "drift_tokens": 0.0}, abs=1e-6)


@pytest.mark.parametrize(("weight", "task"), [(2.0, "intent"), (0.5, "slots")])
def test_a_frozen_head_is_protected_by_its_own_outputs(weight, task, fit):
    freezing = {"stages": [{"steps": 1, "train": "heads"}, {"freeze": f"head.{task}"}]}
    name = f"{task}_distill_loss"
    trainer, _, _ = fit({**freezing, "protect": {task: {"distill": weight}}})
    logged = {entry["step"]: entry for entry in trainer.state.log_history if name in entry}
    assert sorted(logged) == [2, 3, 4]
    assert logged[2][name] == pytest.approx(0.0, abs=1e-5)
    assert logged[4][name] > 1e-4
    for entry in logged.values():
        total = entry["intent_loss"] + entry["slots_loss"] + weight * entry[name]
        assert entry["loss"] == pytest.approx(total, rel=1e-4)


def test_protection_keeps_the_outputs_of_the_frozen_task(fit, model, data):
    distances = {}
    batch = {"input_ids": torch.tensor([data["train"][0]["input_ids"]])}
    expected = model.eval()(**batch).logits["intent"].log_softmax(-1)
    for weight in (None, 20.0):
        protect = {} if weight is None else {"protect": {"intent": {"distill": weight}}}
        # The frozen task's own loss would pull its outputs too.
        schedule = {"stages": [{"freeze": "head.intent"}], **protect}
        _, _, trained = fit(schedule, max_steps=12, learning_rate=3e-3, eval_strategy="no")
        found = trained.eval()(**batch).logits["intent"].log_softmax(-1)
        distances[weight] = torch.nn.functional.kl_div(found, expected, log_target=True, reduction="sum").item()
    assert distances[20.0] < 0.5 * distances[None]


def test_accumulation_does_not_change_the_distillation(fit):
    schedule = {"stages": [{"freeze": "heads"}], "protect": {task: {"distill": 2.0} for task in ("intent", "slots")}}
    runs = []
    for batch_size, accumulation in ((8, 1), (4, 2), (2, 4)):
        trainer, _, _ = fit(
            schedule,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            max_grad_norm=0.0,
            optim="sgd",
            max_steps=2,
        )
        runs.append([entry for entry in trainer.state.log_history if "loss" in entry])
    assert runs[0][1]["intent_distill_loss"] > 0
    for other in runs[1:]:
        for step in range(2):
            for name in ("loss", "intent_loss", "slots_loss", "intent_distill_loss", "slots_distill_loss"):
                # A divergence of 1e-4 is a sum of logarithms near 1, each with float32's 1e-7.
                assert other[step][name] == pytest.approx(runs[0][step][name], rel=1e-4, abs=1e-6), name


class Interrupted(BaseException):
    """Stands for Ctrl-C."""


class InterruptAt(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 1:
            raise Interrupted


def test_an_interrupted_training_leaves_no_group_frozen_after_the_next_one(stock, rows, tmp_path):
    callback = FreezeCallback({"stages": [{"train": "heads"}]})
    trainer = make_trainer(stock, rows, tmp_path, [callback, InterruptAt()])
    with pytest.raises(Interrupted):
        trainer.train()
    trainer.remove_callback(InterruptAt)
    trainer.train()
    assert all(weight.requires_grad for weight in stock.parameters())


def test_a_model_of_images_is_refused_by_its_input(tmp_path):
    config = ViTConfig(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, image_size=8, patch_size=4
    )
    images = [{"pixel_values": torch.zeros(3, 8, 8), "labels": 0}]
    message = "expected a text encoder, which reads input_ids; found ViTModel, which reads pixel_values"
    for given in ("heads-then-all", "encoder"):
        with pytest.raises(ValueError, match=message):
            make_trainer(ViTForImageClassification(config), images, tmp_path, [FreezeCallback(given)])
