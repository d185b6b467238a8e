"""Reading the record of a run."""

import pytest

from hf_multitask.runtime.training_history import Evaluation, TrainingHistory, select_metrics


def test_evaluations_are_read_from_the_log():
    log = [
        {"eval_loss": 2.0, "eval_runtime": 1.0, "step": 0, "epoch": 0},
        {"freeze_stage": "heads", "step": 0, "epoch": 0},
        {"loss": 1.5, "learning_rate": 1e-3, "step": 5},
        {"loss": 0.5, "step": 10},
        {"eval_loss": 1.0, "step": 10},
        {"eval_loss": 0.9, "step": 20},
        {"loss": 0.3, "step": 25},
        {"eval_loss": 0.8, "step": 30},
        {"train_loss": 0.7, "train_runtime": 3.0, "step": 30},
    ]
    read = TrainingHistory(log).evaluations()
    assert [(evaluation.step, evaluation.metrics["loss"], evaluation.train_loss) for evaluation in read] == [
        (0, 2.0, None),
        (10, 1.0, 1.0),
        (20, 0.9, None),
        (30, 0.8, 0.3),
    ]
    assert read[1].gap == 0.0
    assert read[3].gap == pytest.approx(0.5)
    assert read[0].gap is None
    assert Evaluation(1, {"f1": 1.0}, 0.5).gap is None


def test_several_evaluations_at_one_step_are_one():
    log = [
        {"loss": 0.5, "step": 10},
        {"eval_a_loss": 1.0, "step": 10},
        {"eval_b_loss": 2.0, "step": 10},
        {"loss": 0.4, "step": 20},
        {"eval_b_loss": 3.0, "step": 20},
        {"eval_a_loss": 4.0, "step": 20},
    ]
    first, second = TrainingHistory(log).evaluations()
    assert (first.metrics, first.train_loss) == ({"a_loss": 1.0, "b_loss": 2.0}, 0.5)
    assert (second.metrics, second.train_loss) == ({"b_loss": 3.0, "a_loss": 4.0}, 0.4)


def test_losses_are_means_over_the_steps_of_a_range():
    log = [
        {"loss": 9.0, "topic_loss": 9.0, "step": 4},
        {"loss": 2.0, "topic_loss": 1.0, "learning_rate": 0.1, "step": 6},
        {"eval_loss": 5.0, "step": 6},
        {"loss": 1.0, "topic_loss": 0.0, "step": 12},
        {"loss": 7.0, "step": 13},
    ]
    assert TrainingHistory(log).mean_train_losses(4, 12) == {"loss": 1.25, "topic_loss": 0.25}
    assert TrainingHistory(log).mean_train_losses(13, 20) == {}


def test_the_kept_evaluation_is_the_last_or_that_of_the_best_step():
    history = TrainingHistory([{"eval_loss": float(step), "step": step, "epoch": step / 10} for step in (10, 20, 30)])
    assert history.kept_evaluation(None).epoch == 3.0
    assert history.kept_evaluation(20).metrics == {"loss": 20.0}
    assert history.kept_evaluation(15) is None


def test_points_skip_entries_without_a_number():
    log = [
        {"eval_f1": 0.5, "epoch": 1.0},
        {"eval_f1": None, "epoch": 2.0},
        {"loss": 1.0},
        {"eval_f1": 1, "epoch": 3.0},
    ]
    assert TrainingHistory(log).points("eval_f1") == [(1.0, 0.5), (3.0, 1)]


def test_metrics_of_a_split_are_selected_by_name():
    metrics = {"test_loss": 1.0, "test_f1": 0.5, "test_runtime": 3.0, "eval_f1": 0.1, "epoch": 2.0}
    assert select_metrics(metrics, ["f1", "accuracy", "loss"], "test") == {"f1": 0.5, "loss": 1.0}
    assert select_metrics(None, ["f1"], "test") == {}
