"""The README's examples run as they are written."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import yaml

from hf_multitask import MultiTaskModel, TaskConfig
from hf_multitask.freezing import build_schedule
from tests.tiny import ROWS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language, containing):
    blocks = [part.split("```")[0] for part in README.split(f"```{language}\n")[1:]]
    (found,) = [text for text in blocks if containing in text]
    return found


@pytest.fixture
def folder(tmp_path, write_jsonl, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split, rows in (("train", ROWS), ("validation", ROWS[:8]), ("test", ROWS[8:])):
        write_jsonl(rows, tmp_path / f"{split}.jsonl")
    return tmp_path


def test_the_python_example(folder, capsys):
    exec(compile(block("python", "MultiTaskTrainer("), "README.md", "exec"), {})
    assert (folder / "out" / "intents" / "model.safetensors").is_file()
    intents = "|".join({row["intent"] for row in ROWS})
    assert re.search(rf"^({intents}) [01]\.\d+$", capsys.readouterr().out, flags=re.MULTILINE)


def test_the_pipeline_example(folder, encoder, data, tokenizer, capsys):
    MultiTaskModel.from_encoder(encoder, data.tasks).save_pretrained("out/intents")
    tokenizer.save_pretrained("out/intents")
    Path("requests.txt").write_text("play jazz\nrain in rome\n", encoding="utf-8")
    exec(compile(block("python", "requests.txt"), "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_the_example_of_one_head_out_and_new_ones_in(folder, encoder, data, tokenizer):
    MultiTaskModel.from_encoder(encoder, data.tasks).save_pretrained("out/model")
    tokenizer.save_pretrained("out/model")
    names = {"model": MultiTaskModel.from_pretrained("out/model"), "TaskConfig": TaskConfig}
    exec(compile(block("python", "export_task("), "README.md", "exec"), names)
    assert [task.name for task in names["model"].config.tasks] == ["places", "mood"]
    assert Path("out/slots/config.json").is_file()
    assert Path("out/encoder/modules.json").is_file()


def test_the_tasks_of_the_heads_example():
    values = yaml.safe_load(block("yaml", "head: lstm"))
    tasks = [TaskConfig.from_dict(task) for task in values["tasks"]]
    assert (tasks[1].head, tasks[1].mix_layers, tasks[1].crf) == ("lstm", True, True)
    assert values["training"] == {"ema_decay": 0.99}


def test_the_stages_of_the_yaml_example(model):
    stages = yaml.safe_load(block("yaml", "restore_best"))["freeze"]
    schedule = build_schedule(stages, model.layer_groups(), num_train_epochs=8)
    assert [stage.name for stage in schedule.stages] == ["heads", "upper layers", "all but the intent head"]


def test_the_example_of_a_plain_trainer(folder, encoder, capsys):
    rows = [{"input_ids": [0, 5 + i, 9, 2], "labels": i % 3} for i in range(12)]
    names = {"encoder": str(encoder), "train_dataset": datasets.Dataset.from_list(rows)}
    exec(compile(block("python", "FreezeCallback("), "README.md", "exec"), names)
    stages = json.loads((folder / "out" / "stock" / "stages.json").read_text())["stages"]
    assert [stage["name"] for stage in stages] == ["heads", "all"]


@pytest.mark.slow
def test_the_commands_on_the_example_config(folder):
    (folder / "snips.yaml").write_text(block("yaml", "snips.yaml"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    commands = [line.split("   #")[0].strip() for line in block("bash", "hf-multitask train").splitlines()]
    assert len(commands) == 4
    for command in commands:
        arguments = command.replace("hf-multitask", "-m hf_multitask", 1).replace(
            "torchrun", "-m torch.distributed.run"
        )
        if "torch.distributed.run" in arguments:
            arguments += " --overwrite --training.use_cpu true"
        done = subprocess.run(
            [sys.executable, *arguments.split()], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    predictions = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert len(predictions) == len(ROWS[8:])


def test_the_readme_opens_with_the_two_commands():
    commands = [line for line in README.splitlines() if line.startswith(("make ", "hf-", "pip "))]
    assert [command.split()[1] for command in commands[:2]] == ["quickstart", "test"]
