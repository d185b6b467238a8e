"""Plans of a schedule, computed before training."""

import json

import pytest
import torch
import yaml
from transformers.optimization import Adafactor

from hf_multitask import FreezeSchedule
from hf_multitask.cli import main
from hf_multitask.freezing.plan import optimizer_state_bytes
from tests.tiny import ROWS
from tests.trainers import make_trainer


@pytest.mark.parametrize("schedule", [None, "none", "encoder", "heads-then-all", "three-stage", "top:1"])
def test_the_plan_is_what_the_run_does(schedule, model, data, tokenizer, tmp_path):
    trainer = make_trainer(model, data, tokenizer, tmp_path, schedule, num_train_epochs=6)
    plan = trainer.plan()
    trainer.train()
    if schedule is None:
        assert [stage.name for stage in plan] == ["all"]
        return
    done = json.loads((tmp_path / "stages.json").read_text())["stages"]
    entered = [entry for entry in trainer.state.log_history if "freeze_stage" in entry]
    assert len(plan) == len(done) == len(entered)
    for planned, stage, entry in zip(plan, done, entered, strict=True):
        assert planned.name == stage["name"]
        assert planned.start_step == stage["start_step"]
        assert planned.steps == stage["steps"]
        assert planned.trained_groups == stage["trained_groups"]
        assert planned.trainable_parameters == stage["trainable_parameters"] == entry["trainable_parameters"]
        assert planned.learning_rates == entry["learning_rates"]


def test_stages_after_one_that_a_metric_ends_have_no_planned_start(model, data, tokenizer, tmp_path):
    stages = [
        {"train": "heads", "steps": 2},
        {"train": "encoder.2", "until": {"metric": "loss", "max_steps": 4}},
        {"train": "encoder.1", "steps": 5},
        {},
    ]
    trainer = make_trainer(model, data, tokenizer, tmp_path, {"stages": stages}, max_steps=24, eval_strategy="epoch")
    plan = trainer.plan()
    assert [(stage.start_step, stage.steps) for stage in plan] == [(0, 2), (2, 4), (None, 5), (None, None)]
    assert [stage.in_words()[1] for stage in plan] == ["1-2", "3-6", "at most 5", "by metric"]


@pytest.mark.parametrize(
    "optimizer",
    [
        {"optim": "adamw_torch_fused"},
        {"optim": "adamw_torch"},
        {"optim": "sgd", "optim_args": "momentum=0.9"},
        {"optim": "sgd"},
        {"optim": "adafactor"},
    ],
    ids=str,
)
def test_the_planned_memory_is_that_of_the_optimizer(optimizer, model, data, tokenizer, tmp_path):
    trainer = make_trainer(model, data, tokenizer, tmp_path, "heads-then-all", num_train_epochs=6, **optimizer)
    plan = trainer.plan()
    trainer.train()
    states = [
        value for state in trainer.optimizer.state.values() for value in state.values() if torch.is_tensor(value)
    ]
    assert plan[-1].optimizer_bytes == sum(tensor.numel() * tensor.element_size() for tensor in states)
    assert plan[0].gradient_bytes == 4 * plan[0].trainable_parameters
    assert plan[0].optimizer_bytes <= plan[-1].optimizer_bytes


def test_an_optimizer_that_does_not_tell_has_unknown_memory():
    class OnDevicesOnly(torch.optim.SGD):
        def step(self):
            raise NotImplementedError("no kernel")

    weight = torch.nn.Parameter(torch.zeros(3))
    assert optimizer_state_bytes([weight], OnDevicesOnly, {"lr": 0.1}) is None
    assert (
        optimizer_state_bytes([weight], Adafactor, {"lr": 0.1, "relative_step": False, "scale_parameter": False}) > 0
    )


@pytest.fixture
def config(encoder, tmp_path, write_jsonl):
    for split in ("train", "validation"):
        write_jsonl(ROWS, tmp_path / f"{split}.jsonl")
    values = {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": {"train": "train.jsonl", "validation": "validation.jsonl"},
        "freeze": "three-stage",
        "training": {"num_train_epochs": 6, "per_device_train_batch_size": 4, "learning_rate": 1e-3},
        "output_dir": str(tmp_path / "out"),
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "run.yaml"


def test_the_command_prints_each_stage_and_trains_nothing(config, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["plan", str(config)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("upper third" in line and "13-24" in line and "2 epochs" in line for line in lines)
    assert any("encoder.2: 0.001" in line for line in lines)
    assert not (config.parent / "out").exists()


@pytest.mark.parametrize("name", ["stages.yaml", "stages.json"])
def test_the_stages_are_written_as_a_file_that_a_config_can_name(name, config, capsys):
    stages = config.parent / name
    assert main(["plan", str(config), "--output", str(stages)]) == 0
    schedule = FreezeSchedule.from_file(stages)
    assert [stage.name for stage in schedule.stages] == ["heads", "upper third", "all"]
    schedule.stages[0].epochs = 1
    schedule.save(stages)
    text = config.read_text().replace("freeze: three-stage", f"freeze: {name}")
    config.write_text(text)
    assert main(["plan", str(config), "--training.num_train_epochs", "5"]) == 0
    assert "1 epoch " in capsys.readouterr().out


def test_a_schedule_that_does_not_fit_is_refused(config, capsys):
    assert main(["plan", str(config), "--freeze", "gradual", "--training.num_train_epochs", "3"]) == 2
    assert "stage 'encoder.0' would start at step 18, but the run ends at step 18" in capsys.readouterr().err
