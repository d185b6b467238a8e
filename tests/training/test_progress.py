"""A run on the terminal: one bar at a time, one line per evaluation, no warning that nobody can act on."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
import yaml

from hf_multitask.training.progress import format_scores
from tests.tiny import ROWS

ROOT = Path(__file__).parents[2]


def run_in_terminal(command: list[str], cwd: Path) -> str:
    """Run a command in a terminal of 120 columns and return what it writes there."""
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=terminal, stderr=terminal)
    os.close(terminal)
    written = b""
    with contextlib.suppress(OSError):  # raised on Linux when the last writer has closed the terminal
        while part := os.read(main, 65536):
            written += part
    os.close(main)
    assert process.wait() == 0, written.decode(errors="replace")
    return written.decode()


@pytest.mark.slow
def test_a_run_in_a_terminal_shows_one_bar_at_a_time(encoder, write_jsonl, tmp_path):
    files = {name: str(write_jsonl(ROWS)) for name in ("train", "validation", "test")}
    config = {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": files,
        "training": {"num_train_epochs": 2, "per_device_train_batch_size": 4},
        "output_dir": "out",
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    written = run_in_terminal([sys.executable, "-m", "hf_multitask", "train", "run.yaml"], tmp_path)
    assert "Training:" in written
    # tqdm moves the cursor up where a bar is inside another.
    assert "\x1b[A" not in written
    assert "warn" not in written.lower()
    assert len(re.findall(r"Epoch \d: loss \d+\.\d{4}, intent_accuracy", written)) == 2
    assert "{'loss'" not in written


def test_scores_of_a_line():
    metrics = {"eval_loss": 0.5, "eval_topic_accuracy": 1.0, "eval_topic_macro_f1": 0.9, "eval_runtime": 3.0}
    assert format_scores(metrics) == "loss 0.5000, topic_accuracy 1.0000"
