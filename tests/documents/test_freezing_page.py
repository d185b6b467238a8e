"""The examples of docs/FREEZING.md run as they are written."""

import json
from pathlib import Path

import datasets
import pytest
import torch
import yaml
from peft import LoraConfig

from hf_multitask import (
    MultiTaskModel,
    MultiTaskTrainer,
    MultiTaskTrainingArguments,
    RunConfig,
    TaskConfig,
    prepare_datasets,
)
from hf_multitask.freezing import Converged, build_schedule
from hf_multitask.runs.training import run_plan
from tests.documents.blocks import claim, run_commands, run_python, write_yaml
from tests.documents.test_readme import CONFIG
from tests.tiny import ROWS

PAGE = "docs/FREEZING.md"
STAGES = claim(PAGE, "yaml", "restore_best")
PLAN = claim(PAGE, "bash", "--freeze three-stage")
STUDY = claim(PAGE, "bash", "encoder-frozen,top:2")
RECOMMEND = claim(PAGE, "bash", "recommend config.yaml --time-budget")
RACE = claim(PAGE, "bash", "--race")
PLAIN_TRAINER = claim(PAGE, "python", "FreezeCallback(")
CONVERGED = claim(PAGE, "yaml", "preset: converged")
LORA = claim(PAGE, "yaml", "lora:")
ADAPTERS = claim(PAGE, "python", "merge_and_unload")
PROBE = claim(PAGE, "bash", "probe snips.yaml --rows")
OWN_ADAPTER = claim(PAGE, "python", "head.mood")


def test_the_stages_of_the_yaml_example(model):
    stages = yaml.safe_load(STAGES.text)["freeze"]
    schedule = build_schedule(stages, model.layer_groups(), num_train_epochs=8)
    assert [stage.name for stage in schedule.stages] == ["heads", "upper layers", "all but the intent head"]


def test_the_layers_that_stop_learning_of_the_yaml_example(model):
    groups = model.layer_groups()
    (stage,) = build_schedule(yaml.safe_load(CONVERGED.text)["freeze"], groups, num_train_epochs=8).stages
    # The example has the defaults.
    assert stage.converged == Converged(watch="joint_accuracy")


def test_the_adapters_of_the_yaml_example(encoder):
    values = {
        "encoder": str(encoder),
        "tasks": [{"name": "intent", "type": "sequence_classification"}],
        "data": {"train": ROWS, "validation": ROWS[:6]},
        "output_dir": "out",
    }
    heads, both = run_plan(RunConfig.from_dict(values | yaml.safe_load(LORA.text)))
    assert heads.trained_groups == ["head.intent"]
    assert both.trained_groups == ["lora.0", "lora.1", "lora.2", "head.intent"]


def test_the_example_of_adapters(encoder, data, tokenizer, tmp_path):
    args = MultiTaskTrainingArguments(str(tmp_path), num_train_epochs=4, report_to="none", disable_tqdm=True)
    names = {"MultiTaskModel": MultiTaskModel, "MultiTaskTrainer": MultiTaskTrainer, "args": args, "data": data}
    names |= {"encoder": encoder, "tasks": data.tasks, "tokenizer": tokenizer}
    run_python(ADAPTERS, names)
    assert len(json.loads((tmp_path / "stages.json").read_text())["stages"]) == 4


def test_the_example_of_a_task_with_its_own_adapter(model, tokenizer, folder):
    model.save_pretrained("out/intents")
    args = MultiTaskTrainingArguments(str(folder), num_train_epochs=1, report_to="none", disable_tqdm=True)
    rows = [{**row, "mood": ["good", "bad"][i % 2]} for i, row in enumerate(ROWS)]
    tasks = [*model.config.tasks, TaskConfig("mood", "sequence_classification", labels=["good", "bad"])]
    given = {"train_dataset": prepare_datasets({"train": rows}, tokenizer, tasks)["train"]}
    given["processing_class"] = tokenizer
    names = {"MultiTaskModel": MultiTaskModel, "MultiTaskTrainer": MultiTaskTrainer, "args": args, "given": given}
    done = run_python(OWN_ADAPTER, names | {"LoraConfig": LoraConfig, "TaskConfig": TaskConfig})
    before = model.state_dict()
    after = done["model"].state_dict()
    kept = [name for name in before if name in after]
    assert len(kept) == len(before) - 12  # weights and biases that are now those of the base layers of adapters
    assert all(torch.equal(after[name], before[name]) for name in kept)


def test_the_example_of_a_plain_trainer(folder, encoder):
    rows = [{"input_ids": [0, 5 + i, 9, 2], "labels": i % 3} for i in range(12)]
    run_python(PLAIN_TRAINER, {"encoder": str(encoder), "train_dataset": datasets.Dataset.from_list(rows)})
    stages = json.loads((folder / "out" / "stock" / "stages.json").read_text())["stages"]
    assert [stage["name"] for stage in stages] == ["heads", "all"]


def test_the_plan_of_the_example_config(folder, capsys):
    write_yaml(CONFIG)
    run_commands(PLAN)
    assert {"heads", "third", "all"} <= set(capsys.readouterr().out.split())


def test_the_probe_of_the_example_config(folder, encoder):
    write_yaml(CONFIG, {"sentence-transformers/all-MiniLM-L6-v2": str(encoder)})
    run_commands(PROBE)
    assert "intent (accuracy)" in Path("probe.svg").read_text()


@pytest.mark.slow
def test_the_recommendation_and_the_study_of_the_example_config(folder, encoder):
    write_yaml(
        CONFIG,
        {
            "sentence-transformers/all-MiniLM-L6-v2": str(encoder),
            "output_dir:": "training: {num_train_epochs: 1}\noutput_dir:",
        },
    )
    run_commands(STUDY, {"--seeds 3 --sizes 100,all": "--seeds 1 --sizes 8,all"})
    assert yaml.safe_load(Path("recommended.yaml").read_text())["tasks"][0]["name"] == "intent"
    assert len(json.loads(Path("out/snips-study/study.json").read_text())["scenarios"]) == 3


def test_the_race_of_the_example_config(folder, encoder):
    write_yaml(
        CONFIG,
        {
            "sentence-transformers/all-MiniLM-L6-v2": str(encoder),
            "output_dir:": "training: {num_train_epochs: 1}\noutput_dir:",
        },
    )
    run_commands(RACE, {"--sizes 1000": "--sizes all --seeds 1 --scenarios encoder-frozen,encoder[:1]"})
    winner = json.loads(Path("out/snips-study/race.json").read_text())["winner"]
    freeze = RunConfig.from_file("out/snips-study/winner.yaml").freeze
    assert (
        freeze
        == {"encoder-frozen": "encoder", "encoder[:1]": {"stages": [{"train": ["heads", "encoder[:1]"]}]}}[winner]
    )


def test_from_a_recommendation_to_a_model(folder, encoder):
    values = {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": {"train": "train.jsonl", "validation": "validation.jsonl"},
        "output_dir": "out",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    run_commands(RECOMMEND)
    assert (folder / "out" / "metrics.json").is_file()
