"""A run on the terminal: one bar at a time, one line per evaluation, no warning that nobody can act on."""

import contextlib
import fcntl
import logging
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
from transformers import ProgressCallback

from hf_multitask.training.progress import RunProgressCallback, deciding_metric, format_evaluation
from tests.tiny import ROWS
from tests.trainers import make_trainer

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
TRAIN = [sys.executable, "-m", "hf_multitask", "train", "run.yaml"]
LINE = r"Step \d+, epoch \d: loss intent \d+\.\d{4}.*, slots \d+\.\d{4}.*; joint_accuracy \d+\.\d{4}"
NOISE = ("pin_memory", "PAD/BOS/EOS", "{'", "Loading weights", "Aligning")


def run_in_terminal(command: list[str], cwd: Path) -> str:
    """Run a command in a terminal of 120 columns and return what it writes there."""
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = subprocess.Popen(command, cwd=cwd, env=ENVIRONMENT, stdout=terminal, stderr=terminal)
    os.close(terminal)
    written = b""
    with contextlib.suppress(OSError):  # raised on Linux when the last writer has closed the terminal
        while part := os.read(main, 65536):
            written += part
    os.close(main)
    assert process.wait() == 0, written.decode(errors="replace")
    return written.decode()


@pytest.fixture
def config(encoder, write_jsonl, tmp_path):
    values = {
        "encoder": str(encoder),
        "tasks": [
            {"name": "intent", "type": "sequence_classification"},
            {"name": "slots", "type": "token_classification"},
        ],
        "data": {name: str(write_jsonl(ROWS)) for name in ("train", "validation", "test")},
        "freeze": "heads-then-all",
        "training": {"num_train_epochs": 2, "per_device_train_batch_size": 4},
        "output_dir": "out",
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return values


@pytest.mark.slow
def test_a_run_in_a_terminal_shows_one_bar_at_a_time(config, tmp_path):
    written = run_in_terminal(TRAIN, tmp_path)
    assert re.search(r"Training:.*\d+/12 \[\d\d:\d\d<", written), "a bar with the time left"
    # tqdm moves the cursor up where a bar is inside another.
    assert "\x1b[A" not in written
    assert len(re.findall(LINE, written)) == 2
    assert not [noise for noise in NOISE[:3] if noise in written]


@pytest.mark.slow
def test_verbose_prints_what_the_log_has(config, tmp_path):
    command = [*TRAIN, "--verbose", "--training.num_train_epochs", "1"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert re.search(r"Step \d+: loss \d.*learning_rate_head\.intent", done.stderr)
    assert "***** Running training *****" in done.stderr


@pytest.mark.slow
def test_a_run_whose_output_is_a_file_writes_lines_without_control_characters(config, tmp_path):
    done = subprocess.run(TRAIN, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    written = done.stderr + done.stdout
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", written)
    assert not [noise for noise in NOISE if noise in written]
    first, second = re.findall(LINE, done.stderr)
    assert re.search(r"\([+-]0\.\d{4}", second), "what has changed since the first"
    assert re.search(r"Step \d+: stage '.*' starts \(.*\): everything trains\.", done.stderr)
    log = (tmp_path / "out" / "train.log").read_text(encoding="utf-8")
    for line in (first, second, "everything trains.", "Settings chosen for 22 training rows"):
        assert line in log
    assert "DEBUG Step" in log
    assert "learning_rate_head.intent" in log
    assert "DEBUG" not in written


def test_a_trainer_has_no_progress_of_transformers(model, data, tokenizer, tmp_path):
    for arguments in ({"disable_tqdm": True}, {"disable_tqdm": False}):
        trainer = make_trainer(model, data, tokenizer, tmp_path, **arguments)
        names = [type(callback).__name__ for callback in trainer.callback_handler.callbacks]
        assert names.count(RunProgressCallback.__name__) == 1
        assert not {"PrinterCallback", "NotebookProgressCallback", ProgressCallback.__name__} & set(names)


def test_an_evaluation_of_a_trainer_is_a_line(model, data, tokenizer, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    trainer = make_trainer(
        model, data, tokenizer, tmp_path, num_train_epochs=2, eval_strategy="epoch", learning_rate=1e-3
    )
    trainer.train()
    lines = [record.getMessage() for record in caplog.records if re.match(LINE, record.getMessage())]
    assert len(lines) == 2
    evaluations = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    change = evaluations[1]["eval_intent_loss"] - evaluations[0]["eval_intent_loss"]
    assert f"loss intent {evaluations[1]['eval_intent_loss']:.4f} ({change:+.4f})" in lines[1]
    assert "new PAD/BOS/EOS" not in caplog.text


def test_a_line_says_what_has_changed():
    scores = {"loss": 0.9, "topic_accuracy": 1.0, "topic_loss": 0.5, "joint_accuracy": 0.75, "runtime": 3.0}
    first = format_evaluation(scores, "joint_accuracy", {}, is_best=False)
    assert first == "loss topic 0.5000; joint_accuracy 0.7500"
    later = format_evaluation(scores, "joint_accuracy", {"topic_loss": 0.625, "joint_accuracy": 0.5}, is_best=True)
    assert later == "loss topic 0.5000 (-0.1250); joint_accuracy 0.7500 (+0.2500, best so far)"
    assert format_evaluation(scores, "topic_loss", {}, is_best=False) == "topic_loss 0.5000"


def test_the_metric_that_decides_is_that_of_the_arguments():
    scores = {"loss": 0.9, "topic_accuracy": 1.0, "joint_accuracy": 0.75}
    assert deciding_metric(scores, "eval_topic_accuracy") == "topic_accuracy"
    assert deciding_metric(scores, None) == "joint_accuracy"
    assert deciding_metric({"news_loss": 1.0, "news_mean_score": 0.5}, None) == "news_mean_score"
    assert deciding_metric({"runtime": 1.0}, None) is None
