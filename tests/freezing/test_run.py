"""One training that follows a schedule: what it logs, evaluates, saves and keeps, and when."""

import json
import logging
import time

import datasets
import pytest
import torch
from torch._dynamo import config as dynamo_config
from transformers import BertConfig, BertForSequenceClassification, TrainerCallback

from hf_multitask.freezing import FreezeCallback, run
from hf_multitask.freezing.convergence import CACHES_KEY, DISTANCES_KEY
from tests.freezing.test_callback import HEADS_THEN_ALL, Events, make_trainer, scores, transitions

NEVER_BETTER = {"metric": "loss", "min_delta": 100.0, "patience": 50}
FREEZING = {"converged": {"aggressiveness": 1000, "watch": []}}
EACH_STEP = {"eval_strategy": "steps", "eval_steps": 1}
# Two epochs of four steps.
EACH_EPOCH = {"eval_strategy": "epoch", "max_steps": 8}


@pytest.fixture
def fit(tmp_path):
    """Return a function that trains a tiny stock model in epochs of four steps, and returns its trainer."""

    def train(schedule, *callbacks, compute_metrics=None, eval_dataset=None, **arguments):
        torch.manual_seed(0)
        config = BertConfig(
            hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=8, vocab_size=20, num_labels=3
        )
        rows = datasets.Dataset.from_list(
            [{"input_ids": [i, 1, 2], "attention_mask": [1] * 3, "labels": i % 3} for i in range(16)]
        )
        trainer = make_trainer(
            BertForSequenceClassification(config),
            rows,
            tmp_path,
            [schedule if isinstance(schedule, FreezeCallback) else FreezeCallback(schedule), *callbacks],
            compute_metrics,
            **{"logging_steps": 100, **arguments},
        )
        if eval_dataset is not None:
            trainer.eval_dataset = dict.fromkeys(eval_dataset, rows)
        trainer.train()
        return trainer

    return train


class Files(TrainerCallback):
    """Records the names of the snapshots after each step and each evaluation."""

    def __init__(self, folder):
        self.folder, self.after_step, self.after_evaluation = folder / "_freezing", {}, {}

    def on_step_end(self, args, state, control, **kwargs):
        self.after_step[state.global_step] = self._names()

    def on_evaluate(self, args, state, control, **kwargs):
        self.after_evaluation[state.global_step] = self._names()

    def _names(self):
        return {path.stem for path in self.folder.glob("*")}


def always_equal(_):
    """Return a score that never gets better, which counts as worse."""
    return {"score": 0.5}


def steps_with(trainer, key):
    return [entry["step"] for entry in trainer.state.log_history if key in entry]


def test_the_snapshots_of_an_earlier_run_are_removed(fit, tmp_path):
    (tmp_path / "_freezing").mkdir()
    (tmp_path / "_freezing" / "best-3.safetensors").touch()
    files = Files(tmp_path)
    fit(HEADS_THEN_ALL, files)
    assert files.after_step[1] == set()


RESTORING = {"stages": [{"name": "heads", "train": "heads", "steps": 5, "restore_best": True}, {}]}


def test_only_the_best_weights_of_a_stage_are_kept(fit, tmp_path):
    files = Files(tmp_path)
    metrics = scores(0.0, 0.2, 0.8, 0.5, 0.9, 0.4, 0.95)
    fit(RESTORING, files, compute_metrics=metrics, metric_for_best_model="score", **EACH_STEP)
    best = [("best-1", 1), ("best-2", 2), ("best-4", 4)]
    for step in range(1, 6):
        assert files.after_evaluation[step] == {name for name, since in best if since <= step}
    assert not (tmp_path / "_freezing").exists()


def test_weights_that_no_checkpoint_needs_are_removed_with_the_next_checkpoint(fit, tmp_path):
    files = Files(tmp_path)
    arguments = {**EACH_STEP, "save_strategy": "steps", "save_steps": 3, "save_total_limit": 1}
    metrics = scores(*(0.1 * i for i in range(8)))
    fit(RESTORING, files, compute_metrics=metrics, metric_for_best_model="score", **arguments)
    assert files.after_step[3] == {"best-1", "best-2"}
    # The checkpoint of step 3 is resumed after its evaluation.
    assert "best-3" in files.after_step[4]
    assert "best-1" not in files.after_step[4]


def test_what_a_run_did_not_reach_is_named(fit, caplog):
    stages = [{"train": "heads", "until": NEVER_BETTER}, {"name": "second", "steps": 1}, {"name": "third"}]
    fit({"stages": stages}, **EACH_STEP)
    assert "the run ended before stage second, third." in caplog.text
    caplog.clear()
    fit(HEADS_THEN_ALL)
    assert "the run ended before" not in caplog.text


def test_a_stage_that_the_run_may_not_reach_has_no_epochs_left(fit):
    schedule = {"stages": [{"train": "heads", "until": {**NEVER_BETTER, "max_steps": 10}}, {}]}
    freezing, left = FreezeCallback(schedule), {}

    class Left(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            left[state.global_step] = [length for _, length in freezing.remaining_stages()]

    fit(freezing, Left(), **EACH_STEP)
    assert left[0] == [1.5, 0.0]
    assert left[5] == [0.25, 0.0]


def test_losses_are_logged_where_a_stage_ends(fit):
    assert steps_with(fit(HEADS_THEN_ALL), "loss") == [2]
    # Evaluations and checkpoints in between change nothing.
    others = {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 5}
    assert steps_with(fit(HEADS_THEN_ALL, **others), "loss") == [2]
    assert steps_with(fit(HEADS_THEN_ALL, logging_strategy="no"), "loss") == []


def test_losses_are_logged_where_a_stage_may_end(fit):
    until = {"stages": [{"train": "heads", "until": NEVER_BETTER}]}
    assert steps_with(fit(until, eval_strategy="steps", eval_steps=3), "loss") == [3, 6]
    assert steps_with(fit(until, save_strategy="steps", save_steps=3, **EACH_EPOCH), "loss") == [4, 8]
    gap = {"stages": [{"train": "heads", "until": {**NEVER_BETTER, "watch_gap": True}}]}
    assert steps_with(fit(gap, save_strategy="steps", save_steps=3, **EACH_EPOCH), "loss") == [3, 4, 6, 8]


def test_the_first_evaluation_is_made_only_if_a_metric_decides(fit):
    by_steps = {"eval_strategy": "steps", "eval_steps": 3}
    trainer = fit(HEADS_THEN_ALL, **by_steps)
    assert steps_with(trainer, "eval_loss") == [3, 6]
    trainer = fit({"stages": [{"until": NEVER_BETTER}]}, **by_steps)
    assert steps_with(trainer, "eval_loss") == [0, 3, 6]
    assert trainer.args.eval_on_start is False
    trainer = fit(HEADS_THEN_ALL, eval_on_start=True, **by_steps)
    assert steps_with(trainer, "eval_loss") == [0, 3, 6]
    assert trainer.args.eval_on_start is True


def test_a_checkpoint_waits_for_the_evaluation_of_its_step_only(fit):
    events = Events()
    arguments = {"eval_strategy": "epoch", "save_strategy": "steps", "save_steps": 8, "max_steps": 14}
    fit(HEADS_THEN_ALL, events, **arguments)
    assert events.seen == [
        ("evaluation", 4),
        ("evaluation", 8),
        ("checkpoint", 8),
        ("evaluation", 12),
        ("evaluation", 14),
        ("checkpoint", 14),
    ]


def test_the_record_is_replayed_only_where_the_stage_may_change(fit, monkeypatch):
    steps = []

    def counting(schedule, groups, evaluations, step, *args):
        steps.append(step)
        return run_replay(schedule, groups, evaluations, step, *args)

    run_replay = run.replay
    monkeypatch.setattr(run, "replay", counting)
    fit(HEADS_THEN_ALL)
    # Before the training, at its first step, and at the end of the stage.
    assert steps == [0, 0, 2]


def test_one_of_several_validation_sets_may_lack_the_metric(fit):
    rule = {"metric": "b_score", "do": "stop", "patience": 3}
    trainer = fit({"stages": [{"on_worse": rule}]}, compute_metrics=always_equal, eval_dataset="ab", **EACH_STEP)
    (_, end) = transitions(trainer)
    assert (end["step"], trainer.state.global_step) == (3, 3)


def test_the_end_of_the_schedule_is_logged_once(fit):
    rule = {"metric": "a_score", "do": "stop", "patience": 3}
    trainer = fit({"stages": [{"on_worse": rule}]}, compute_metrics=always_equal, eval_dataset="ab", **EACH_STEP)
    assert [entry["freeze_stage"] for entry in transitions(trainer)] == ["stage 1", None]


def test_changes_are_logged_as_sentences(fit, caplog):
    caplog.set_level(logging.DEBUG, "hf_multitask")
    fit(HEADS_THEN_ALL)
    assert "Step 0: stage 'heads' starts: only head.classifier trains." in caplog.text
    assert "Step 2: stage 'all' starts (stage 'heads' is at its bound): everything trains." in caplog.text
    assert "27 parameters train, at most at" in caplog.text
    caplog.clear()
    rule = {"metric": "score", "do": "refreeze", "groups": "encoder[:2]", "patience": 2}
    stop = {"metric": "score", "do": "stop", "patience": 5}
    stage = {"name": "one", "train": ["encoder[1:]", "heads"], "on_worse": [rule, stop]}
    fit({"stages": [stage]}, compute_metrics=always_equal, **EACH_STEP)
    reason = "score got worse: frozen again"
    assert f"stage 'one' goes on ({reason}): only encoder.2 and head.classifier train." in caplog.text
    assert "Step 5: the freeze schedule ends: score got worse." in caplog.text


class Slow(TrainerCallback):
    """Makes each evaluation take at least 0.1 seconds."""

    def on_evaluate(self, args, state, control, **kwargs):
        time.sleep(0.1)


def test_the_time_of_a_stage_has_the_last_evaluation_in_it(fit, tmp_path):
    fit({"stages": [{}]}, Slow(), max_steps=1, **EACH_STEP)
    (stage,) = json.loads((tmp_path / "stages.json").read_text())["stages"]
    assert stage["seconds"] >= 0.1


def test_the_times_of_the_stages_are_together_that_of_the_run(fit, tmp_path):
    begin = time.perf_counter()
    fit({"stages": [*({"steps": 1} for _ in range(19)), {}]}, max_steps=20)
    stages = json.loads((tmp_path / "stages.json").read_text())["stages"]
    assert len(stages) == 20
    assert sum(stage["seconds"] for stage in stages) <= time.perf_counter() - begin


def test_distances_are_measured_only_in_a_stage_that_freezes_what_has_stopped(fit, caplog):
    caplog.set_level(logging.INFO, "hf_multitask")
    stages = [{"steps": 2}, {"until": {**FREEZING, "max_steps": 2}}, {}]
    trainer = fit({"stages": stages})
    measured = [entry for entry in trainer.state.log_history if DISTANCES_KEY in entry]
    assert [entry["step"] for entry in measured] == [3, 4]
    assert [entry[CACHES_KEY] for entry in measured] == [False, False]
    assert caplog.text.count("nothing is cached") == 1


class StopError(Exception):
    """Ends a training before its first step."""


def test_each_set_of_groups_that_may_train_has_a_graph(fit):
    limits = []

    class Begun(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            limits.append(dynamo_config.recompile_limit)
            raise StopError

    stages = [{"train": "heads", "steps": 1}, {"until": FREEZING}]
    # Of three layers, one keeps training: the embeddings and two layers may freeze.
    for schedule, graphs in ((HEADS_THEN_ALL, 2), ({"stages": stages}, 5)):
        with dynamo_config.patch(recompile_limit=10), pytest.raises(StopError):
            fit(schedule, Begun(), torch_compile=True, torch_compile_backend="eager")
        assert limits.pop() == 10 + 4 * graphs
