"""The examples of docs/CALIBRATION.md run as they are written."""

import json
import re
from pathlib import Path

import yaml

from hf_multitask import RunConfig, TaskConfig
from hf_multitask.models import load_model
from tests.documents.blocks import claim, run_commands, run_python
from tests.trainers import make_trainer

PAGE = "docs/CALIBRATION.md"
CONFIG = claim(PAGE, "yaml", "calibrate: true")
SCOPE = claim(PAGE, "yaml", "abstain:")
ENTITIES = claim(PAGE, "yaml", "entity_precision")
COMMAND = claim(PAGE, "bash", "out/intents validation.csv")
PYTHON = claim(PAGE, "python", "trainer.calibrate()")


def test_the_config_is_one():
    assert RunConfig.from_dict(yaml.safe_load(CONFIG.text)).calibrate
    (task,) = RunConfig.from_dict(yaml.safe_load(SCOPE.text)).tasks
    assert RunConfig.from_dict(yaml.safe_load(ENTITIES.text)).tasks[0].entity_precision == 0.95
    for other in re.findall(r"or (min_score: [^,{]+|min_score: {.*?})(?=,|$)", ENTITIES.text, re.MULTILINE):
        values = {"name": "slots", "type": "token_classification", **yaml.safe_load(other)}
        assert TaskConfig(**values).min_score
    assert (task.abstention.method, task.abstention.false_rejections, task.out_of_scope) == ("energy", 0.04, "oos")


def test_the_command_writes_temperatures(save_model, folder):
    save_model("out/intents")
    # The file of the page is a table, those of the tests are JSON lines.
    run_commands(COMMAND, {"validation.csv": "validation.jsonl"})
    tasks = json.loads(Path("out/intents/config.json").read_text())["tasks"]
    assert tasks[0]["temperature"] == load_model("out/intents")[0].config.tasks[0].temperature != 1


def test_the_trainer_calibrates(model, data, tokenizer, tmp_path, capsys):
    trainer = make_trainer(model, data, tokenizer, tmp_path)
    run_python(PYTHON, {"trainer": trainer})
    assert len(capsys.readouterr().out.split()) == 3
