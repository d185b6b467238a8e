"""Runs that freeze layers which have stopped learning."""

import copy
import json
import logging

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

from hf_multitask import FreezeCallback, MultiTaskModel, TaskConfig, prepare_datasets
from hf_multitask.freezing import Converged
from hf_multitask.freezing.converged import freezable_units
from hf_multitask.freezing.convergence import CACHES_KEY, DISTANCES_KEY
from hf_multitask.freezing.convergence_meter import ConvergenceMeter
from hf_multitask.models.layer_groups import layer_groups
from hf_multitask.training.metrics import watched_metric
from tests.tiny import ROWS
from tests.trainers import make_trainer, without_dropout

# Everything that may freeze does at the first decision, after a window of measurements.
AT_ONCE = {"preset": "converged", "aggressiveness": 1000, "watch": []}


class Watch(TrainerCallback):
    """Keeps the weights at the end of each step, and what trained in it."""

    def __init__(self):
        self.weights, self.trained = {}, {}

    def on_step_end(self, args, state, control, model=None, **kwargs):
        groups = layer_groups(model)
        self.weights[state.global_step] = {
            group.name: torch.cat([weight.detach().flatten() for weight in group.parameters.values()])
            for group in groups
        }
        self.trained[state.global_step] = [group.name for group in groups if group.trainable]


def changes(history):
    return [entry for entry in history if "freeze_stage" in entry]


@pytest.fixture
def run(model, data, tokenizer, tmp_path):
    weights = copy.deepcopy(model.state_dict())

    def train(schedule=AT_ONCE, rows=data, **arguments):
        model.load_state_dict(weights)
        trainer = make_trainer(
            model, rows, tokenizer, tmp_path / "out", schedule, **{"num_train_epochs": 4, **arguments}
        )
        watch = Watch()
        trainer.add_callback(watch)
        trainer.train()
        return trainer, watch

    return train


@pytest.mark.parametrize(("store_frozen", "is_cached"), [("always", True), ("never", False)])
def test_whether_frozen_layers_are_cached_is_recorded(run, tmp_path, store_frozen, is_cached):
    trainer, _ = run(store_frozen=store_frozen, store_dir=str(tmp_path / "store"), max_steps=4)
    assert {entry[CACHES_KEY] for entry in trainer.state.log_history if CACHES_KEY in entry} == {is_cached}


def test_layers_freeze_while_the_run_goes_on_and_are_cached(run, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    trainer, watch = run(store_frozen="always", store_dir=str(tmp_path / "store"))
    first, *later = changes(trainer.state.log_history)
    assert first["freeze_stage"] == "converged"
    (change,) = later
    assert "have stopped learning" in change["freeze_reason"]
    step = change["step"]
    assert 0 < step < trainer.state.max_steps
    # A third of three layers keeps training.
    assert change["frozen_groups"] == ["embeddings", "encoder.0", "encoder.1"]
    assert watch.trained[step + 1] == ["encoder.2", "head.intent", "head.slots"]
    last = trainer.state.max_steps
    for name in change["frozen_groups"]:
        assert torch.equal(watch.weights[step][name], watch.weights[last][name])
        assert not torch.equal(watch.weights[step - 1][name], watch.weights[step][name])
    assert "Frozen layers are computed once: the states entering encoder.2" in caplog.text
    (stage,) = json.loads((tmp_path / "out" / "stages.json").read_text())["stages"]
    assert [(found["step"], found["reason"]) for found in stage["changes"]] == [(step, change["freeze_reason"])]
    assert all(group.trainable for group in layer_groups(trainer.model))


def test_the_measured_distances_are_those_of_the_weights(run):
    trainer, watch = run({**AT_ONCE, "aggressiveness": 1e-9}, learning_rate=1e-3)
    measured = [entry for entry in trainer.state.log_history if DISTANCES_KEY in entry]
    first, *later = measured
    assert len(changes(trainer.state.log_history)) == 1
    for entry in later:
        # The first measurement knows no start; from one to the next, a distance changes at most by the way between.
        for name, distance in entry[DISTANCES_KEY].items():
            way = watch.weights[entry["step"]][name] - watch.weights[first["step"]][name]
            assert abs(distance - first[DISTANCES_KEY][name]) <= way.norm() + 1e-6
    assert set(first[DISTANCES_KEY]) == {"embeddings", "encoder.0", "encoder.1"}


def test_a_meter_measures_from_the_start_of_the_stage(model):
    groups = layer_groups(model)
    names = [group.name for group in groups]
    units = freezable_units(Converged(), names, groups)
    meter = ConvergenceMeter(units, groups)
    assert set(meter.measure(names).values()) == {0.0}
    with torch.no_grad():
        weight = next(iter(groups.parameters_of(["encoder.0"]).values()))
        weight += 3.0
    distances = meter.measure(names)
    assert distances["encoder.0"] == pytest.approx(3.0 * weight.numel() ** 0.5, rel=1e-5)
    assert distances["encoder.1"] == 0
    assert set(meter.measure(["encoder.1"])) == {"encoder.1"}
    again = ConvergenceMeter(units, groups, meter.origin)
    assert again.measure(names) == distances


def test_a_run_is_measured_forty_times(run):
    trainer, _ = run(num_train_epochs=24)
    steps = [entry["step"] for entry in trainer.state.log_history if DISTANCES_KEY in entry]
    interval = trainer.state.max_steps // 40
    assert interval > 1
    assert all(step % interval == 0 for step in steps)


def test_layers_train_again_when_a_metric_gets_worse(run):
    # Any change for the worse counts, and at this rate there is one.
    schedule = {**AT_ONCE, "watch": ["intent_loss", "slots_loss"], "min_delta": 0.0, "patience": 3}
    trainer, watch = run(schedule, learning_rate=0.05, eval_strategy="steps", eval_steps=1)
    found = changes(trainer.state.log_history)
    again = next(entry for entry in found if "got worse after the freeze" in entry["freeze_reason"])
    assert again["unfrozen_groups"] == ["embeddings", "encoder.0", "encoder.1"]
    assert len(watch.trained[again["step"] + 1]) == len(watch.trained[1])


def test_a_stream_freezes_and_says_that_nothing_is_cached(encoder, tokenizer, tasks, tmp_path, caplog, write_jsonl):
    caplog.set_level(logging.INFO)
    data = prepare_datasets({"train": write_jsonl(ROWS)}, tokenizer, tasks, streaming=True)
    model = MultiTaskModel.from_encoder(encoder, data.tasks)
    trainer = make_trainer(model, data, tokenizer, tmp_path / "out", AT_ONCE, max_steps=12, store_frozen="always")
    watch = Watch()
    trainer.add_callback(watch)
    trainer.train()
    (_, change) = changes(trainer.state.log_history)
    assert watch.trained[change["step"] + 1] == ["encoder.2", "head.intent", "head.slots"]
    assert "Frozen layers are computed in every pass" in caplog.text
    assert "a layer which it freezes saves its backward pass only" in caplog.text


def test_a_plain_trainer_freezes_too(tmp_path):
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=8, vocab_size=20, num_labels=3
    )
    rows = [{"input_ids": [i % 20, 1, 2], "attention_mask": [1] * 3, "labels": i % 3} for i in range(16)]
    watch = Watch()
    trainer = Trainer(
        model=BertForSequenceClassification(config),
        args=TrainingArguments(
            output_dir=str(tmp_path),
            num_train_epochs=4,
            per_device_train_batch_size=4,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=rows,
        callbacks=[FreezeCallback(AT_ONCE), watch],
    )
    trainer.train()
    (_, change) = changes(trainer.state.log_history)
    assert "encoder.2" in watch.trained[change["step"] + 1]
    assert "encoder.1" not in watch.trained[change["step"] + 1]


def assert_same_run(one, other, tolerance):
    """Check that two runs freeze the same layers at the same step, and that their weights stay together."""
    histories = [changes(trainer.state.log_history) for trainer, _ in (one, other)]
    first, second = ([(entry["step"], entry["freeze_reason"].split(":")[0]) for entry in found] for found in histories)
    assert first == second
    assert len(first) == 2
    (_, watch), (_, others) = one, other
    assert watch.trained == others.trained
    for step, weights in watch.weights.items():
        for name, expected in others.weights[step].items():
            torch.testing.assert_close(weights[name], expected, atol=tolerance, rtol=0)


def without_dropout_in(run, **arguments):
    """Train without dropout, whose random numbers a cached pass does not draw."""
    return run(**{"store_frozen": "never", "learning_rate": 1e-3, **arguments})


@pytest.mark.slow
def test_a_compiled_run_freezes_as_others_do(run, model, caplog):
    caplog.set_level(logging.INFO)
    without_dropout(model)
    compiled = {"torch_compile": True, "torch_compile_backend": "eager"}
    torch._dynamo.reset()
    compiled_run = without_dropout_in(run, num_train_epochs=2, store_frozen="always", **compiled)
    torch._dynamo.reset()
    assert "a layer which it freezes saves its backward pass only" in caplog.text
    assert_same_run(compiled_run, without_dropout_in(run, num_train_epochs=2), 1e-5)


def test_windows_of_long_texts_are_cached(run, model, tokenizer, tasks, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    without_dropout(model)
    rows = prepare_datasets({"train": ROWS, "validation": ROWS[:9]}, tokenizer, tasks, max_length=8, overlap=2)
    assert max(len(lengths) for lengths in rows["train"]["window_lengths"]) > 1
    stored = {"store_frozen": "always", "store_dir": str(tmp_path / "store")}
    assert_same_run(without_dropout_in(run, rows=rows, **stored), without_dropout_in(run, rows=rows), 1e-5)
    assert "Frozen layers are computed once: the states entering encoder.2" in caplog.text


def test_a_protected_head_is_protected_after_the_freeze_too(run, model, tmp_path):
    without_dropout(model)
    stage = {"freeze": "head.intent", "until": {"converged": {"aggressiveness": 1000, "watch": []}}}
    drifts = {}
    for weight in (None, 20.0):
        protect = {} if weight is None else {"protect": {"intent": {"distill": weight}}}
        given = {"schedule": {"stages": [stage], **protect}, "learning_rate": 3e-3, "eval_strategy": "epoch"}
        run_of_weight = without_dropout_in(run, **given)
        stored = {"store_frozen": "always", "store_dir": str(tmp_path / str(weight))}
        assert_same_run(without_dropout_in(run, **given, **stored), run_of_weight, 1e-5)
        trainer, watch = run_of_weight
        first, *_, last = watch.weights
        assert torch.equal(watch.weights[first]["head.intent"], watch.weights[last]["head.intent"])
        # What trains after the freeze is the layer below the protected head.
        drifts[weight] = [entry["eval_drift_pooled"] for entry in trainer.state.log_history if "eval_loss" in entry][
            -1
        ]
    assert drifts[20.0] < drifts[None]


def test_the_average_of_a_layer_ends_when_it_freezes(run):
    trainer, watch = run(ema_decay=0.9, learning_rate=1e-3)
    (_, change) = changes(trainer.state.log_history)
    plain = watch.weights[trainer.state.max_steps]
    # The model has the averages now.
    for group in layer_groups(trainer.model):
        weights = torch.cat([weight.detach().flatten() for weight in group.parameters.values()])
        assert torch.equal(weights, plain[group.name]) == (group.name in change["frozen_groups"])


def test_the_name_of_a_task_stands_for_its_main_metric(run):
    # Any change for the worse counts, and at this rate there is one.
    watched = {"min_delta": 0.0, "patience": 3, "aggressiveness": 1000}
    found = []
    for watch in (["intent", "slots_loss"], ["intent_accuracy", "slots_loss"]):
        schedule = {"preset": "converged", "watch": watch, **watched}
        trainer, _ = run(schedule, learning_rate=0.05, eval_strategy="steps", eval_steps=1)
        found.append([(entry["step"], entry["freeze_reason"]) for entry in changes(trainer.state.log_history)])
    assert found[0] == found[1]
    assert any("got worse after the freeze" in reason for _, reason in found[0])


def test_the_metric_of_each_kind_of_task():
    kinds = {"regression": "x_mae", "multi_label_classification": "x_accuracy"}
    for kind, metric in kinds.items():
        assert (
            watched_metric(TaskConfig("x", "sequence_classification", labels=["a", "b"], problem_type=kind)) == metric
        )
    assert watched_metric(TaskConfig("x", "token_classification", labels=["O", "B-a", "I-a"])) == "x_f1"


def test_watching_needs_an_evaluation(run):
    with pytest.raises(ValueError, match="a stage watches a metric, but eval_strategy is 'no'"):
        run("converged", eval_strategy="no")


def test_an_unknown_metric_is_refused_before_training(run):
    with pytest.raises(ValueError, match=r"unknown metric 'slot_f1'. Did you mean 'slots_f1'"):
        run({"preset": "converged", "watch": "slot_f1"}, eval_strategy="epoch")


def test_the_plan_shows_what_is_certain_and_what_is_decided_later(model, data, tokenizer, tmp_path):
    (plan,) = make_trainer(model, data, tokenizer, tmp_path, AT_ONCE, num_train_epochs=2).plan()
    assert plan.may_freeze == ["embeddings", "encoder.0", "encoder.1"]
    assert "decided later: embeddings, encoder.0-1 may freeze" in plan.in_words()[3]
    assert "layers freeze from the bottom up" in plan.end
    (plain,) = make_trainer(model, data, tokenizer, tmp_path, "none", num_train_epochs=2).plan()
    assert plain.may_freeze == []
    assert "later" not in plain.in_words()[3]
