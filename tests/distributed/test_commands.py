"""Commands on several processes of a machine without an accelerator, without use_cpu."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from hf_multitask import MultiTaskModel, load_tokenizer
from hf_multitask.cli import main
from tests.distributed.launching import ROOT, TIMEOUT, accelerate, torchrun
from tests.tiny import ROWS, save_tiny_run

pytestmark = pytest.mark.slow


def run(launcher, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "hf_multitask", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stdout


@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_evaluate_shares_the_rows_and_prints_once(launcher, encoder, data, write_jsonl, tmp_path, capsys):
    model = tmp_path / "model"
    MultiTaskModel.from_encoder(encoder, data.tasks).save_pretrained(model)
    load_tokenizer(encoder).save_pretrained(model)
    arguments = ["evaluate", model, write_jsonl(ROWS[:15]), "--batch-size", "4", "--output"]
    command = torchrun(2) if launcher == "torchrun" else accelerate(2, tmp_path)
    printed = run(command, *arguments, tmp_path / "several.json")
    assert printed.count("intent_accuracy") == 1
    assert main([*map(str, arguments), str(tmp_path / "one.json")]) == 0
    found, expected = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("several", "one"))
    assert found.pop("support") == expected.pop("support")
    assert found == pytest.approx(expected)


def test_thresholds_are_those_of_one_process(encoder, data, write_jsonl, tmp_path):
    intent, slots = data.tasks
    tasks = [
        replace(intent, abstain={"method": "energy", "false_rejections": 0.2}),
        replace(slots, entity_precision=0.5),
    ]
    # 15 rows and 2 out of scope: the last batches of both processes are filled up with rows that do not count.
    validation, outside = write_jsonl(ROWS[:15]), write_jsonl([{"text": "são"}, {"text": "out of the old mill"}])
    found = []
    model = MultiTaskModel.from_encoder(encoder, tasks)
    for name, start in (("one", main), ("several", lambda arguments: run(torchrun(2), *arguments))):
        folder = tmp_path / name
        model.save_pretrained(folder)
        load_tokenizer(encoder).save_pretrained(folder)
        start(["calibrate", str(folder), str(validation), "--batch-size", "4", "--out-of-scope", str(outside)])
        found.append(json.loads((folder / "config.json").read_text())["tasks"])
    (one, several), abstentions = found, [intent.pop("abstain") for intent, _ in found]
    assert {values.pop("method") for values in abstentions} == {"energy"}
    assert abstentions[0]["threshold"] is not None
    assert one[1]["min_score"] is not None
    assert abstentions[1] == pytest.approx(abstentions[0], rel=1e-4)
    for name in ("temperature", "min_score"):
        assert several[1][name] == pytest.approx(one[1][name], rel=1e-3)


def test_train_is_one_training(encoder, write_jsonl, tmp_path):
    config = {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": {"train": str(write_jsonl(ROWS[:16])), "validation": str(write_jsonl(ROWS[:5]))},
        "training": {"num_train_epochs": 1, "per_device_train_batch_size": 4},
        "output_dir": str(tmp_path / "out"),
    }
    printed = run(torchrun(2), "train", write_jsonl([config]))
    assert printed.count("are in") == 1
    # Each of two processes takes half of 16 rows.
    assert [path.name for path in (tmp_path / "out").glob("checkpoint-*")] == ["checkpoint-2"]
    # Processes fill up their last batches with rows that do not count.
    assert "(5 scores)" in (tmp_path / "out" / "train.log").read_text()


@pytest.mark.parametrize("launcher", [(), ("-m", "accelerate.commands.launch", "--cpu"), tuple(torchrun(2))], ids=str)
def test_a_backend_is_used_by_several_processes_and_left_out_in_one(launcher, tmp_path):
    training = {"num_train_epochs": 1, "per_device_train_batch_size": 11, "ddp_backend": "gloo"}
    config = save_tiny_run(tmp_path, training, tmp_path / "out")
    launcher = [*launcher, "--num_processes", "2"] if "--cpu" in launcher else launcher
    run(launcher, "train", config)
    (checkpoint,) = (tmp_path / "out").glob("checkpoint-*")
    assert checkpoint.name == f"checkpoint-{1 if '--standalone' in launcher else 2}"


def test_all_processes_have_the_same_folds(encoder, write_jsonl, tmp_path):
    config = {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": {"train": str(write_jsonl(ROWS[:16])), "folds": 2},
        "training": {"num_train_epochs": 1, "per_device_train_batch_size": 2, "eval_strategy": "epoch"},
        "output_dir": str(tmp_path / "several"),
    }
    printed = run(torchrun(2), "train", write_jsonl([config]))
    assert printed.count("are in") == 1
    one = {**config, "output_dir": str(tmp_path / "one")}
    one["training"] = {**config["training"], "per_device_train_batch_size": 4}
    assert main(["train", str(write_jsonl([one]))]) == 0
    found, expected = (json.loads((tmp_path / name / "folds.json").read_text())["mean"] for name in ("several", "one"))
    assert found == pytest.approx(expected, rel=0.05)


def test_diverged_run_stops_on_all_processes(tmp_path):
    training = {"learning_rate": 1e30, "max_grad_norm": 0.0, "optim": "sgd", "max_steps": 40, "save_steps": 20}
    config = save_tiny_run(
        tmp_path, {**training, "save_strategy": "steps", "eval_strategy": "steps", "eval_steps": 20}, tmp_path / "out"
    )
    done = subprocess.run(
        [sys.executable, *torchrun(2), "-m", "hf_multitask", "train", str(config)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode != 0
    assert "not finite (NaN or infinite). The training has stopped" in done.stderr
    assert not list((tmp_path / "out").glob("checkpoint-*"))
    assert not (tmp_path / "out" / "model.safetensors").exists()
