"""Values logged to trackio, read from its database."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.tiny import ROWS

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_run_is_one_run_from_its_first_stage_to_its_figures(encoder, write_jsonl, tmp_path):
    values = {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": {"train": str(write_jsonl(ROWS)), "validation": str(write_jsonl(ROWS[:9]))},
        "training": {"num_train_epochs": 2, "learning_rate": 1e-3, "logging_steps": 2, "report_to": "trackio"},
        "freeze": {"stages": [{"name": "heads", "train": "heads", "epochs": 1}, {"train": "all"}]},
        "output_dir": "out",
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    # trackio reads its folder when it is imported, so the run needs a separate process.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRACKIO_DIR": str(tmp_path / "trackio")}
    command = [sys.executable, "-m", "hf_multitask", "train", str(tmp_path / "config.yaml")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr

    (database,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(database) as connection:
        lines = connection.execute("SELECT run_id, metrics FROM metrics ORDER BY id").fetchall()
    assert len({run for run, _ in lines}) == 1
    logged = [json.loads(metrics) for _, metrics in lines]
    stages = [entry["freeze/stage"] for entry in logged if "freeze/stage" in entry]
    assert [stage.split()[0] for stage in stages] == ["heads", "stage"]
    names = {name for entry in logged for name in entry}
    assert {"train/slots_loss", "eval/intent_accuracy", "validation_by_class/slots", "report/curves"} <= names
