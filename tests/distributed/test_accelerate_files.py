"""The config files for `accelerate launch` start a whole run, on CPU processes in place of GPUs."""

import json
import os
import socket
import subprocess
import sys

import pytest
import yaml

from tests.distributed.launching import ROOT, TIMEOUT
from tests.documents.test_accelerate_examples import FOLDER
from tests.tiny import ROWS

pytestmark = [pytest.mark.distributed, pytest.mark.slow]


@pytest.fixture
def config(encoder, write_jsonl, tmp_path):
    values = {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": {"train": str(write_jsonl(ROWS)), "validation": str(write_jsonl(ROWS[:9]))},
        "training": {
            "num_train_epochs": 2,
            "per_device_train_batch_size": 4,
            "logging_strategy": "epoch",
            "use_cpu": True,
        },
        "freeze": "heads-then-all",
        "output_dir": str(tmp_path / "out"),
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def start(name, folder, config, *options, **changes):
    """Start a launcher with a config file, changed to CPU processes."""
    values = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    on_cpu = folder / f"{'-'.join([*options, name])}"
    on_cpu.write_text(yaml.safe_dump({**values, "use_cpu": True, "enable_cpu_affinity": False, **changes}))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(on_cpu), *options]
    return subprocess.Popen(
        [*launcher, "-m", "hf_multitask", "train", str(config)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def check_trained(processes, folder, num_processes):
    outputs = [process.communicate(timeout=TIMEOUT)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(outputs)[-5000:]
    assert {"validation"} == json.loads((folder / "out" / "metrics.json").read_text()).keys()
    report = (folder / "out" / "report.html").read_text(encoding="utf-8")
    assert f"{num_processes} × cpu" in report
    # Rows are counted once, 22 per epoch, without the rows that fill the last batch.
    history = json.loads((folder / "out" / "history.json").read_text())["history"]
    assert sum(entry.get("intent_rows", 0) for entry in history) == 44


@pytest.mark.parametrize("name", ["2-gpus.yaml", "8-gpus.yaml"])
def test_one_machine(name, config, tmp_path):
    check_trained([start(name, tmp_path, config, num_processes=2)], tmp_path, 2)


def test_two_machines(config, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    changes = {"num_processes": 2, "main_process_ip": "127.0.0.1", "main_process_port": port}
    started = [start("two-nodes.yaml", tmp_path, config, "--machine_rank", str(rank), **changes) for rank in range(2)]
    try:
        check_trained(started, tmp_path, 2)
    finally:
        for process in started:
            process.kill()
