"""A killed and resumed run equals an uninterrupted one: bit-equal weights, the same stages at the same steps."""

import copy
import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from hf_multitask.freezing import FreezeCallback
from hf_multitask.freezing.replay import replay
from hf_multitask.freezing.run import FreezeRun
from hf_multitask.runs.output_dir import find_last_checkpoint
from hf_multitask.training.checkpoint_errors import CHECKSUMS_NAME
from tests.freezing.resume_program import (
    EARLY,
    INSIDE,
    DieAt,
    Killed,
    arm,
    outcome,
    prepare,
    raise_killed,
    run,
)
from tests.tiny import ROWS

BY_TIME = {
    "stages": [
        {"name": "heads", "train": "heads", "steps": 4},
        {"name": "everything", "steps": 4},
        {"name": "frozen again", "train": ["heads", "encoder[-1:]"]},
    ]
}
NEVER_BETTER = {"metric": "loss", "patience": 2, "min_delta": 100.0, "max_epochs": 2}
BY_METRIC = {
    "stages": [
        {"name": "heads", "train": "heads", "until": NEVER_BETTER},
        {"name": "everything", "until": NEVER_BETTER},
        {"name": "frozen again", "train": ["heads", "encoder[-1:]"]},
    ]
}
RESTORING = {
    "stages": [
        {"name": "heads", "train": "heads", "steps": 5, "restore_best": True, "head_learning_rate": 3.0},
        {"name": "everything", "steps": 4, "restore_best": True, "learning_rate": 0.5},
        {"name": "frozen again", "train": ["heads", "encoder[-1:]"]},
    ]
}
WORSE = {
    "stages": [
        {
            "name": "everything",
            "steps": 7,
            "on_worse": [
                {"metric": "slots_accuracy", "do": "lower_lr", "patience": 2},
                {"metric": "intent_loss", "do": "refreeze", "groups": ["embeddings", "encoder.0"], "by": 0.0},
            ],
            "learning_rate": 0.05,
        },
        {"name": "heads", "train": "heads"},
    ]
}
RATES = {
    "stages": [
        {"name": "heads", "train": "heads", "steps": 5, "warmup_steps": 2, "lr_scheduler_type": "cosine"},
        {"name": "everything", "layer_lr_decay": 0.5, "warmup_steps": 0.5, "lr_scheduler_type": "linear"},
    ]
}
PROTECTED = {
    "stages": [
        {"name": "heads", "train": "heads", "steps": 3},
        {"name": "held", "train": ["encoder", "head.slots"], "steps": 5},
        {"name": "everything"},
    ],
    "protect": {"intent": {"distill": 0.5}},
}
PROTECTED_TWICE = {
    "stages": [*PROTECTED["stages"][:2], {"name": "upper", "train": ["encoder[1:]", "head.slots"]}],
    "protect": PROTECTED["protect"],
}
NAMES = {
    "stages": [
        {"name": "biases", "train": ["heads", "name:*.bias"], "steps": 5},
        {"name": "rest", "train": "all", "freeze": "name:*.LayerNorm.*"},
    ]
}
CONVERGED = {"preset": "converged", "aggressiveness": 1.5, "watch": []}
BACKING_OFF = {
    "preset": "converged",
    "aggressiveness": 100,
    "watch": ["intent_loss", "slots_loss"],
    "min_delta": 0.0,
    "patience": 1,
}
CONVERGED_FIRST = {
    "stages": [
        {"name": "heads", "train": "heads", "steps": 2},
        {"name": "some", "train": ["heads", "encoder"], "until": {"converged": {"aggressiveness": 100, "watch": []}}},
        {"name": "everything"},
    ]
}
EACH_STEP = {"eval_strategy": "steps", "eval_steps": 1}
EACH_EPOCH = {"eval_strategy": "epoch", "num_train_epochs": 3}
CASES = {
    "by time": (BY_TIME, {}),
    "by time, evaluated": (BY_TIME, {"eval_strategy": "steps", "eval_steps": 2}),
    "by metric": (BY_METRIC, EACH_STEP),
    "progressive": (
        {"preset": "progressive", "min_delta": 100.0, "max_epochs": 1},
        {"eval_strategy": "steps", "eval_steps": 1, "num_train_epochs": 2},
    ),
    "restoring": (RESTORING, {**EACH_STEP, "metric_for_best_model": "loss"}),
    "on worse": (WORSE, EACH_STEP),
    "rates": (RATES, {}),
    "names": (NAMES, {}),
    "protected": (PROTECTED, {"eval_strategy": "steps", "eval_steps": 2}),
    "stored": (BY_TIME, {"store_frozen": "always", "eval_strategy": "steps", "eval_steps": 2}),
    "by metric, stored": (BY_METRIC, {"store_frozen": "always", **EACH_STEP}),
    "accumulated": (BY_TIME, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}),
    "accumulated, protected": (PROTECTED, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}),
    "converged": (CONVERGED, {}),
    "converged, stored": (CONVERGED, {"store_frozen": "always", "eval_strategy": "steps", "eval_steps": 2}),
    "converged, backs off": (BACKING_OFF, {**EACH_STEP, "learning_rate": 0.05}),
    "converged, then another": (CONVERGED_FIRST, EACH_STEP),
    "converged, EMA": (CONVERGED, {"ema_decay": 0.9, **EACH_STEP}),
}
# Evaluated at the end of an epoch, and a checkpoint is due at its last step.
ONE_EPOCH = {"metric": "loss", "patience": 1, "min_delta": 100.0, "max_epochs": 9}
EPOCH_CASES = {
    "by time": BY_TIME,
    "by metric": {
        "stages": [{"name": "heads", "train": "heads", "until": ONE_EPOCH}, {"name": "everything"}],
    },
    "restoring": {
        "stages": [
            {"name": "heads", "train": "heads", "steps": 8, "restore_best": True},
            {"name": "everything"},
        ]
    },
}


@pytest.fixture(scope="module")
def prepared(encoders):
    # Each training collects garbage, which takes long with everything that is imported.
    gc.collect()
    gc.freeze()
    yield prepare(encoders["bert"])
    gc.unfreeze()


@pytest.fixture(scope="module")
def prepared_stream(encoders, write_jsonl):
    return prepare(encoders["bert"], write_jsonl(ROWS))


@pytest.fixture
def make_spec(encoders, tmp_path):
    def make(schedule, arguments=None, folder="killed"):
        return {
            "encoder": str(encoders["bert"]),
            "output_dir": str(tmp_path / folder),
            "schedule": copy.deepcopy(schedule),
            "arguments": dict(arguments or {}),
        }

    return make


@pytest.fixture(scope="module")
def whole(encoders, prepared, tmp_path_factory):
    """Return a function that runs each spec once, without a kill."""
    known = {}

    def run_whole(spec, data=prepared):
        key = json.dumps([spec["schedule"], spec["arguments"], id(data)], sort_keys=True)
        if key not in known:
            known[key] = run({**spec, "output_dir": str(tmp_path_factory.mktemp("whole"))}, data)
        return known[key]

    return run_whole


def kill_and_resume(spec, prepared, kills):
    for kill in kills:
        with pytest.raises(Killed):
            run(spec, prepared, kill)
    return run(spec, prepared)


def different_weights(found, expected):
    assert found["weights"].keys() == expected["weights"].keys()
    return [name for name, value in expected["weights"].items() if not torch.equal(found["weights"][name], value)]


def assert_same(found, expected):
    assert [entry["step"] for entry in found["transitions"]] == [entry["step"] for entry in expected["transitions"]]
    assert found["transitions"] == expected["transitions"]
    assert found["evaluations"] == expected["evaluations"]
    assert found["steps"] == expected["steps"]
    assert found["history"] == expected["history"]
    assert found["scheduler"] == expected["scheduler"]
    assert same_values(found["optimizer"], expected["optimizer"])
    assert not different_weights(found, expected)


def same_values(found, expected):
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same_values(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same_values, found, expected))
    return torch.equal(found, expected) if isinstance(expected, torch.Tensor) else found == expected


def boundaries(result):
    return [entry["step"] for entry in result["transitions"] if entry["step"]]


EVENTS = [place for place in EARLY if place not in ("evaluate", "save", "substep_end")]
WRITING = [*INSIDE, "save", "schedule_saved"]


@pytest.mark.parametrize(
    ("place", "save_steps"),
    [(place, 2) for place in EVENTS]
    + [("stage_entered", 2), ("stage_entered", 3), ("step_end", 3)]
    + [(place, 1) for place in WRITING],
)
def test_killed_around_each_boundary(place, save_steps, make_spec, prepared, whole):
    spec = make_spec(BY_TIME, {"save_steps": save_steps})
    expected = whole(spec)
    assert boundaries(expected) == [4, 8]
    steps = [step for boundary in (4, 8) for step in (boundary - 1, boundary, boundary + 1)]
    assert_same(kill_and_resume(spec, prepared, [(place, step) for step in steps]), expected)


@pytest.mark.parametrize("save_steps", [1, 2, 3])
@pytest.mark.parametrize("case", CASES)
def test_killed_at_random_steps(case, save_steps, make_spec, prepared, whole):
    schedule, arguments = CASES[case]
    spec = make_spec(schedule, {**arguments, "save_steps": save_steps})
    expected = whole(spec)
    choose = random.Random(f"{case} {save_steps}")
    steps = sorted(choose.sample(range(1, expected["steps"]), 2))
    kills = [(choose.choice([*EVENTS, "stage_entered"]), step) for step in steps]
    assert_same(kill_and_resume(spec, prepared, kills), expected)


STREAM = {"max_steps": 14, "logging_steps": 4, "store_frozen": "never"}
STREAM_CASES = {
    "no schedule": (None, {}),
    "by time": (BY_TIME, {"eval_strategy": "steps", "eval_steps": 2}),
    "by metric": (BY_METRIC, EACH_STEP),
    "restoring": (RESTORING, {**EACH_STEP, "metric_for_best_model": "loss"}),
    "protected": (PROTECTED, {}),
    "accumulated": (BY_TIME, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}),
    "EMA": (BY_TIME, {"ema_decay": 0.9, **EACH_STEP}),
    "converged": (CONVERGED, {}),
}


@pytest.mark.parametrize("case", STREAM_CASES)
def test_a_stream_killed_at_random_steps(case, make_spec, prepared_stream, whole):
    schedule, arguments = STREAM_CASES[case]
    spec = make_spec(schedule, {**STREAM, **arguments, "save_steps": 3})
    expected = whole(spec, prepared_stream)
    choose = random.Random(case)
    kills = [(choose.choice(EVENTS), step) for step in sorted(choose.sample(range(1, expected["steps"]), 2))]
    assert_same(kill_and_resume(spec, prepared_stream, kills), expected)


LAST_CASES = {
    "no schedule": (None, {}),
    "logged by epoch": (None, {"logging_strategy": "epoch", "eval_strategy": "epoch"}),
    "evaluated by steps": (None, {"eval_strategy": "steps", "eval_steps": 5, "metric_for_best_model": "loss"}),
    "by time": (BY_TIME, {}),
    "by metric": (BY_METRIC, EACH_STEP),
    "restoring": (RESTORING, {**EACH_STEP, "metric_for_best_model": "loss"}),
    "protected": (PROTECTED, {}),
    "stored": (BY_TIME, {"store_frozen": "always"}),
    "accumulated": (BY_TIME, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}),
    "EMA": (None, {"ema_decay": 0.9, **EACH_STEP}),
    "best weights loaded": (None, {**EACH_STEP, "load_best_model_at_end": True, "learning_rate": 0.05}),
    "stopped early": (
        None,
        {**EACH_STEP, "load_best_model_at_end": True, "early_stopping_patience": 2, "learning_rate": 0.05},
    ),
}


@pytest.mark.parametrize(
    ("case", "stream"),
    [*((case, False) for case in LAST_CASES), *((case, True) for case in ("no schedule", "by metric", "EMA"))],
)
def test_resumed_at_the_last_step(case, stream, make_spec, prepared, prepared_stream, whole):
    schedule, arguments = LAST_CASES[case]
    arguments = {**arguments, "save_steps": 1, **({**STREAM, **arguments} if stream else {})}
    spec, data = make_spec(schedule, arguments), prepared_stream if stream else prepared
    expected = whole(spec, data)
    steps = expected["steps"]
    assert steps < 14 if case == "stopped early" else steps >= 12
    assert_same(kill_and_resume(spec, data, [("step_end", steps), ("schedule_saved", steps)]), expected)
    # Once more, after the run has ended.
    assert_same(run(spec, data), expected)


def test_the_cases_contain_the_changes_they_are_for(make_spec, whole):
    def transitions(case, **arguments):
        schedule, others = CASES[case]
        return whole(make_spec(schedule, {**others, "save_steps": 2, **arguments}))["transitions"]

    assert boundaries({"transitions": transitions("by metric")}) == [3, 6]
    assert len(transitions("progressive")) > 2
    assert sum("restored_step" in entry for entry in transitions("restoring")) > 0
    reasons = " ".join(entry["freeze_reason"] for entry in transitions("on worse"))
    assert "lower learning rate" in reasons
    assert "frozen again" in reasons
    assert len(transitions("converged")) > 1
    assert len(transitions("converged, stored")) > 1
    assert any("got worse after the freeze" in entry["freeze_reason"] for entry in transitions("converged, backs off"))
    assert [entry["freeze_stage"] for entry in transitions("converged, then another")][-1] == "everything"


@pytest.mark.parametrize("place", ["evaluate", "evaluation_seen", "step_end", "weights_written", "schedule_saved"])
def test_killed_between_the_best_evaluation_and_the_restoring(place, make_spec, prepared, whole):
    schedule, arguments = CASES["restoring"]
    spec = make_spec(schedule, {**arguments, "save_steps": 1})
    expected = whole(spec)
    (change,) = [entry for entry in expected["transitions"] if "restored_step" in entry][:1]
    kills = [(place, step) for step in range(change["restored_step"], change["step"] + 1)]
    assert len(kills) > 1
    assert_same(kill_and_resume(spec, prepared, kills), expected)


@pytest.mark.parametrize("save_steps", [1, 2, 3])
def test_killed_while_the_best_weights_are_written_or_restored(save_steps, make_spec, prepared, whole):
    schedule, arguments = CASES["restoring"]
    spec = make_spec(schedule, {**arguments, "save_steps": save_steps})
    expected = whole(spec)
    (change,) = [entry for entry in expected["transitions"] if "restored_step" in entry][:1]
    kills = [
        ("snapshot_half_written", change["restored_step"]),
        ("restored", change["step"]),
        ("stage_entered", change["step"]),
        ("stage_entered", change["step"] + 1),
    ]
    assert_same(kill_and_resume(spec, prepared, kills), expected)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_teacher_is_restored_in_the_middle_of_its_stage(accumulation, make_spec, prepared, whole):
    teachers = []

    def keep_teacher(trainer, checkpoint):
        def keep(args, state, control, **kwargs):
            if state.global_step == 6:
                teachers.append(
                    {name: value.clone() for name, value in callback.run.teacher.model.state_dict().items()}
                )

        callback = trainer.freeze_callback
        watcher = DieAt("step_end", -1, raise_killed)
        watcher.on_step_end = keep
        trainer.add_callback(watcher)

    size = {"per_device_train_batch_size": 4 // accumulation, "gradient_accumulation_steps": accumulation}
    spec = make_spec(PROTECTED, {"save_steps": 1, **size})
    expected = run({**spec, "output_dir": spec["output_dir"] + "-whole"}, prepared, change=keep_teacher)
    for kill in [("snapshot_half_written", 3), ("stage_entered", 3), ("step_begin", 4), ("optimizer_step", 5)]:
        with pytest.raises(Killed):
            run(spec, prepared, kill)
    found = run(spec, prepared, change=keep_teacher)
    assert_same(found, expected)
    assert len(teachers) == 2
    assert all(torch.equal(value, teachers[1][name]) for name, value in teachers[0].items())
    assert any(not torch.equal(value, expected["weights"][name]) for name, value in teachers[0].items())


@pytest.mark.parametrize("place", ["evaluate", "stage_entered"])
@pytest.mark.parametrize("save_steps", [2, 3])
@pytest.mark.parametrize("case", EPOCH_CASES)
def test_an_evaluation_at_the_end_of_an_epoch_is_neither_lost_nor_changes_the_run(
    case, save_steps, place, make_spec, prepared, whole
):
    arguments = {**EACH_EPOCH, "metric_for_best_model": "loss"}
    spec = make_spec(EPOCH_CASES[case], {**arguments, "save_steps": save_steps})
    expected = whole(spec)
    assert [entry["step"] for entry in expected["evaluations"] if entry["step"]] == [6, 12, 18]
    assert_same(kill_and_resume(spec, prepared, [(place, 6), (place, 12)]), expected)


def test_an_evaluation_that_is_delayed_is_not_made_on_resume(make_spec, prepared, whole):
    schedule = {"stages": [{"name": "heads", "train": "heads", "until": ONE_EPOCH}, {"name": "everything"}]}
    spec = make_spec(schedule, {**EACH_EPOCH, "eval_delay": 2, "save_steps": 2})
    assert_same(kill_and_resume(spec, prepared, [("schedule_saved", 6)]), whole(spec))


def test_a_checkpoint_with_a_truncated_state_is_skipped(make_spec, prepared, whole):
    spec = make_spec(BY_TIME)
    assert_same(kill_and_resume(spec, prepared, [("state_opened", 2), ("state_opened", 8)]), whole(spec))


@pytest.mark.parametrize("case", ["protected", "protected twice", "restoring"])
def test_every_kept_checkpoint_can_be_resumed(case, make_spec, prepared, whole, tmp_path):
    schedule, arguments = CASES.get(case, (PROTECTED_TWICE, {}))
    spec = make_spec(schedule, {**arguments, "save_steps": 8})
    kept = kill_and_resume(spec, prepared, [("step_begin", 11)])
    assert_same(kept, whole(spec))
    for path in Path(spec["output_dir"]).glob("checkpoint-*"):
        if path.name != "checkpoint-8":
            shutil.rmtree(path)
    assert_same(run(spec, prepared), kept)


def test_without_the_random_state_a_resumed_run_differs(make_spec, prepared, whole):
    spec = make_spec(BY_TIME)
    with pytest.raises(Killed):
        run(spec, prepared, ("step_end", 7))

    def forget_the_state(trainer, checkpoint):
        for name in ("rng_state.pth", CHECKSUMS_NAME):
            (checkpoint / name).unlink()

    found = run(spec, prepared, change=forget_the_state)
    assert different_weights(found, whole(spec))


def test_with_the_position_only_in_memory_a_resumed_run_differs(make_spec, prepared, whole):
    def count_from_here(trainer, checkpoint):
        make_run = trainer.freeze_callback.make_run

        def make_counting_run(*args):
            run = make_run(*args)

            def replay_from_here():
                step = trainer.state.global_step - int(checkpoint.name.removeprefix("checkpoint-"))
                return replay(run.schedule, run.groups, [], step, run.steps_per_epoch)

            run._replay = replay_from_here
            return run

        trainer.freeze_callback.make_run = make_counting_run

    spec = make_spec(BY_TIME)
    with pytest.raises(Killed):
        run(spec, prepared, ("step_end", 7))
    found = run(spec, prepared, change=count_from_here)
    assert different_weights(found, whole(spec))


def test_the_gap_is_the_same_without_losses_logged_at_each_checkpoint(make_spec, prepared, monkeypatch):
    monkeypatch.setattr(FreezeRun, "_log_loss_if_needed", lambda run, control: None)
    arguments = {"eval_strategy": "steps", "eval_steps": 4, "logging_steps": 3, "save_steps": 2}
    spec = make_spec({"preset": "progressive"}, arguments)
    expected = run({**spec, "output_dir": spec["output_dir"] + "-whole"}, prepared)
    assert kill_and_resume(spec, prepared, [("step_end", 3)])["train_losses"] == expected["train_losses"]


def test_another_schedule_is_refused_with_the_difference(make_spec, prepared):
    spec = make_spec(BY_TIME)
    with pytest.raises(Killed):
        run(spec, prepared, ("step_end", 3))
    spec["schedule"]["stages"][0]["steps"] = 5
    with pytest.raises(ValueError, match=r"had another one\. Resume with the same") as error:
        run(spec, prepared)
    assert "--- checkpoint\n+++ now\n" in str(error.value)
    assert "-  steps: 4\n+  steps: 5\n" in str(error.value)


def test_a_schedule_for_a_run_that_had_none_is_refused_with_the_difference(make_spec, prepared):
    spec = make_spec(None)
    with pytest.raises(Killed):
        run(spec, prepared, ("step_end", 3))
    spec["schedule"] = BY_TIME
    with pytest.raises(ValueError, match=r"the run that is resumed had none\.") as error:
        run(spec, prepared)
    assert "+- name: everything\n" in str(error.value)
    assert "\n-" not in str(error.value).replace("\n---", "")


ENDING = {
    "stages": [
        {"name": "heads", "train": "heads", "steps": 2},
        {"name": "everything", "until": {**NEVER_BETTER, "patience": 1}},
    ]
}


@pytest.mark.parametrize("arguments", [{**EACH_STEP, "save_steps": 1}, {**EACH_EPOCH, "save_steps": 3}])
def test_a_finished_schedule_trains_no_further_step(arguments, make_spec, prepared, whole):
    spec = make_spec(ENDING, arguments)
    expected = whole(spec)
    assert expected["transitions"][-1]["freeze_stage"] is None
    assert_same(run(spec, prepared), expected)
    again = run(spec, prepared, change=lambda trainer, checkpoint: arm(trainer, "step_begin", None, raise_killed))
    assert not different_weights(again, expected)
    assert again["steps"] == expected["steps"]
    assert again["transitions"] == expected["transitions"]


def make_plain_trainer(folder, callbacks, seed=0, **arguments):
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, num_labels=3
    )
    rows = torch.Generator().manual_seed(5)
    data = [
        {"input_ids": torch.randint(0, 50, (9,), generator=rows), "labels": torch.tensor(i % 3)} for i in range(22)
    ]
    known = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "num_train_epochs": 2,
        "learning_rate": 1e-3,
        "save_strategy": "steps",
        "save_steps": 2,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return Trainer(
        model=BertForSequenceClassification(config),
        args=TrainingArguments(**{**known, **arguments}),
        train_dataset=data,
        eval_dataset=data[:8],
        callbacks=callbacks,
    )


def run_plain(folder, schedule, kill=None, **arguments):
    checkpoint = find_last_checkpoint(folder)
    callbacks = [] if kill is None else [DieAt(*kill, raise_killed)]
    trainer = make_plain_trainer(folder, [*callbacks, FreezeCallback(schedule)], 99 if checkpoint else 0, **arguments)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return outcome(trainer)


PLAIN_CASES = {
    "by time": (BY_TIME, {}),
    "by metric": (BY_METRIC, EACH_STEP),
    "accumulated": (BY_TIME, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}),
    "restoring": (
        {"stages": [{**BY_TIME["stages"][0], "restore_best": True}, *BY_TIME["stages"][1:]]},
        {**EACH_STEP, "metric_for_best_model": "loss", "save_steps": 3},
    ),
}


@pytest.mark.parametrize("case", PLAIN_CASES)
def test_a_plain_trainer_resumes_the_same_run(case, tmp_path):
    schedule, arguments = PLAIN_CASES[case]
    expected = run_plain(tmp_path / "whole", schedule, **arguments)
    for kill in [
        ("step_begin", 4),
        ("step_end", 5),
        ("optimizer_step", 8),
        ("save", 9 if "save_steps" in arguments else 10),
    ]:
        with pytest.raises(Killed):
            run_plain(tmp_path / "killed", schedule, kill, **arguments)
    assert_same(run_plain(tmp_path / "killed", schedule, **arguments), expected)


def test_a_resumed_plain_trainer_has_the_same_gap(tmp_path):
    # It has forgotten the losses since the last log, so that they are logged with each checkpoint.
    arguments = {"eval_strategy": "steps", "eval_steps": 4, "logging_steps": 5}
    schedule = {"preset": "progressive"}
    expected = run_plain(tmp_path / "whole", schedule, **arguments)
    with pytest.raises(Killed):
        run_plain(tmp_path / "killed", schedule, ("optimizer_step", 7), **arguments)
    found = run_plain(tmp_path / "killed", schedule, **arguments)
    assert_same(found, expected)
    # The first evaluation is made before the first step.
    assert found["train_losses"][1:] == pytest.approx(expected["train_losses"][1:], rel=1e-6)


def test_a_plain_trainer_trains_no_further_step_after_the_schedule(tmp_path):
    arguments = {**EACH_STEP, "save_steps": 1}
    expected = run_plain(tmp_path, ENDING, **arguments)
    with pytest.raises(ValueError, match=f"ended at step {expected['steps']} .* nothing left to train"):
        run_plain(tmp_path, ENDING, **arguments)


def start(spec, tmp_path, processes=1):
    """Run the program in new processes; return its exit status."""
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec))
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m"]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*command, "tests.freezing.resume_program", str(path)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        timeout=300,
    )
    sys.stderr.write(done.stderr[-5000:])  # pytest shows it if the test fails
    return done.returncode


def read_outcome(spec, rank=0):
    return torch.load(Path(spec["output_dir"], f"outcome-{rank}.pt"), weights_only=False)


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("case", ["by time", "restoring", "protected"])
def test_processes_killed_with_signal_9(case, make_spec, prepared, whole, tmp_path):
    schedule, arguments = CASES[case]
    spec = make_spec(schedule, {**arguments, "save_steps": 2})
    changes = boundaries(whole(spec))
    spec["kills"] = [
        ("rng_written", 2),
        ("stage_entered", changes[0] - 1),
        ("pre_optimizer_step", changes[0]),
        ("save", 6),
        ("optimizer_step", changes[1] - 1),
        ("stage_entered", changes[1]),
        ("weights_written", 10),
    ]
    assert start(spec, tmp_path) == 0
    assert_same(read_outcome(spec), whole(spec))


@pytest.mark.slow
@pytest.mark.distributed
def test_a_new_interpreter_resumes_where_the_killed_one_was(make_spec, prepared, whole, tmp_path):
    spec = make_spec(BY_TIME)
    assert start({**spec, "kill": [("step_end", 5)]}, tmp_path) == -signal.SIGKILL
    assert start(spec, tmp_path) == 0
    assert_same(read_outcome(spec), whole(spec))


TWO = {"per_device_train_batch_size": 2, "ddp_backend": "gloo", "eval_strategy": "epoch", "save_steps": 2}


@pytest.fixture(scope="module")
def two_processes_whole(encoders, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    spec = {"encoder": str(encoders["bert"]), "output_dir": str(folder), "schedule": PROTECTED, "arguments": TWO}
    assert start(spec, folder, processes=2) == 0
    first, second = read_outcome(spec), read_outcome(spec, rank=1)
    assert not different_weights(first, second)
    assert boundaries(first) == [3, 8]
    return first, second


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize(
    "kills",
    [
        [("stage_entered", 3), ("pre_optimizer_step", 5), ("save", 8)],
        # The first process has finished its checkpoint, the second has not written its random state.
        [[("save", 6), ("optimizer_written", 6)]],
    ],
    ids=["at once", "one earlier"],
)
def test_two_processes_killed_with_signal_9(kills, make_spec, two_processes_whole, tmp_path):
    spec = make_spec(PROTECTED, TWO)
    for kill in kills:
        each = kill if isinstance(kill, list) else [kill, kill]
        assert start({**spec, "kill": each}, tmp_path, processes=2) != 0
        assert not Path(spec["output_dir"], "outcome-0.pt").exists()
    assert start(spec, tmp_path, processes=2) == 0
    for rank, expected in enumerate(two_processes_whole):
        assert_same(read_outcome(spec, rank), expected)
