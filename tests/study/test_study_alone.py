"""A study of what each task gains by sharing: each by itself on the same rows, with the gradients of both together."""

from dataclasses import replace

import pytest

from hf_multitask import RunConfig, TaskConfig
from hf_multitask.cli import main
from hf_multitask.study import load_study
from hf_multitask.study.report import NOTHING, changes_table, sharing_table
from hf_multitask.study.scenarios import with_alone
from hf_multitask.study.study_plan import plan_study
from hf_multitask.training import settings
from tests.tiny import save_tiny_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    training = {
        "num_train_epochs": 4,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 4,
        "conflict_steps": 2,
        "loss_balancing": {"method": "dwa", "steps": 2},
    }
    config = save_tiny_run(folder, training, folder / "out")
    assert main(["study", str(config), "--alone", "--seeds", "2", "--output", str(folder / "study")]) == 0
    return folder / "study"


def test_each_task_is_trained_by_itself(folder):
    study = load_study(folder)
    assert [scenario.name for scenario in study.scenarios] == ["nothing-frozen", "intent-alone", "slots-alone"]
    for scenario in study.scenarios:
        for run in scenario.runs:
            assert (run.lowest_cosine is None) == (scenario.name != "nothing-frozen")


def test_the_gain_is_the_joint_score_minus_that_alone(folder):
    study = load_study(folder)
    joint, intent, slots = (scenario.summary_of(16).scores for scenario in study.scenarios)
    table = sharing_table(study, 16)
    assert table.header == ["task", "metric", "nothing-frozen", "alone", "gain by sharing"]
    for row, task, alone in zip(table.rows, ("intent", "slots"), (intent, slots), strict=True):
        difference = alone[task].difference
        assert row[0] == task
        assert row[4].startswith(f"{0.0 - difference.mean:+.4f} (")
        assert -difference.mean == pytest.approx(joint[task].mean - alone[task].mean)
        assert f"({0.0 - difference.high:+.4f} to {0.0 - difference.low:+.4f})" in row[4]
    text = (folder / "study.md").read_text()
    assert "## Sharing with 16 training rows" in text
    assert "gain by sharing" in (folder / "study.html").read_text()


def test_the_lowest_cosine_has_a_column(folder):
    table = changes_table(load_study(folder), 16)
    assert table.header[-1] == "lowest cosine of two tasks"
    assert [row[-1] == NOTHING for row in table.rows] == [False, True, True]


def test_a_study_without_it_has_no_such_column(finished):
    study = load_study(finished)
    assert changes_table(study, 16).header[-1] == "frozen task on test"


def test_names_are_added_once():
    tasks = [TaskConfig(name, "sequence_classification") for name in ("a", "b")]
    assert with_alone(["top:1", "b-alone"], tasks) == ["top:1", "b-alone", "a-alone"]
    with pytest.raises(ValueError, match="expected two tasks, found one"):
        with_alone(None, tasks[:1])


@pytest.mark.parametrize(
    ("scenarios", "alone", "head"),
    [(None, True, "lstm"), (["nothing-frozen", "encoder-frozen"], True, "linear"), (None, False, "linear")],
)
def test_heads_are_those_of_a_run_unless_layers_are_frozen(scenarios, alone, head, config, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "FEW_ROWS", 10)
    run = RunConfig.from_file(config)
    run = replace(run, data=[replace(run.data, tasks=[task.name]) for task in run.tasks])
    _, data = plan_study(run, tmp_path / "study", scenarios, 1, ["all"], None, None, alone)
    assert [task.head for task in data.tasks] == ["linear", head]
