"""Checkpoints that are damaged, and disks that are full: one line with file, cause and remedy."""

import errno
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from hf_multitask.cli import main
from hf_multitask.training.checkpoint_errors import (
    damaged_file,
    explain_checkpoint_errors,
    find_checked,
    is_write_error,
    last_whole_checkpoint,
)
from tests.tiny import save_tiny_run

TRAINING = {
    "num_train_epochs": 2,
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 8,
    "load_best_model_at_end": False,
    "save_strategy": "steps",
    "save_steps": 1,
    "save_total_limit": 3,
    "max_steps": 3,
    "eval_strategy": "no",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the config of a run that has three checkpoints."""
    folder = tmp_path_factory.mktemp("finished")
    config = save_tiny_run(folder, TRAINING, folder / "out")
    assert main(["train", str(config)]) == 0
    return config


@pytest.fixture
def run(finished, tmp_path):
    """Return a copy of the run's output directory without the last checkpoint, and the arguments that resume it."""
    shutil.copytree(finished.parent / "out", tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "checkpoint-3")
    return tmp_path / "out", ["train", str(finished), "--resume", "--output_dir", str(tmp_path / "out")]


def garble(path):
    path.write_bytes(b"\x00\xff" * 50)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replace_content(path):
    torch.save({"other": 1}, path)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("optimizer.pt", cut),
        ("optimizer.pt", replace_content),
        ("scheduler.pt", garble),
        ("rng_state.pth", cut),
        ("rng_state.pth", replace_content),
        ("model.safetensors", cut),
        ("model.safetensors", garble),
    ],
)
def test_a_damaged_checkpoint_is_named_with_the_one_before_it(name, damage, run, capsys):
    out, arguments = run
    assert damaged_file(out / "checkpoint-2") is None
    damage(out / "checkpoint-2" / name)
    assert damaged_file(out / "checkpoint-2")[0] == name
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"error: {out / 'checkpoint-2' / name}: the checkpoint is damaged: ")
    assert error.endswith(
        f"checkpoint-1 before it is whole: remove {out / 'checkpoint-2'} and resume again to continue from there."
    )


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json"])
def test_a_flipped_bit_is_found_before_anything_is_trained(name, run, capsys):
    out, arguments = run
    flip(out / "checkpoint-2" / name)
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(
        f"error: {out / 'checkpoint-2' / name}: the checkpoint is damaged: its content has changed"
    )
    assert error.endswith(f"remove {out / 'checkpoint-2'} and resume again to continue from there.")
    assert not (out / "checkpoint-3").exists()


def test_files_of_two_checkpoints_are_not_exchanged(run, capsys):
    out, arguments = run
    shutil.copy(out / "checkpoint-1" / "optimizer.pt", out / "checkpoint-2" / "optimizer.pt")
    assert main(arguments) == 2
    assert f"{out / 'checkpoint-2' / 'optimizer.pt'}: the checkpoint is damaged" in capsys.readouterr().err


def test_the_checkpoint_that_is_advised_is_checked_too(run):
    out, _ = run
    flip(out / "checkpoint-1" / "model.safetensors")
    flip(out / "checkpoint-2" / "model.safetensors")
    with pytest.raises(ValueError, match="No checkpoint before it is whole"):
        find_checked(str(out), True)


def test_a_checkpoint_without_checksums_is_resumed(run):
    out, arguments = run
    (out / "checkpoint-2" / "checksums.json").unlink()
    assert main(arguments) == 0


def test_the_remedy_works_and_the_traceback_is_there_for_those_who_ask(run, capsys, monkeypatch):
    out, arguments = run
    cut(out / "checkpoint-2" / "optimizer.pt")
    monkeypatch.setenv("HF_MULTITASK_DEBUG", "1")
    assert main(arguments) == 2
    assert "Traceback (most recent call last)" in capsys.readouterr().err
    shutil.rmtree(out / "checkpoint-2")
    assert main(arguments) == 0


def test_without_a_whole_checkpoint_the_way_out_is_to_start_again(run):
    out, _ = run
    cut(out / "checkpoint-1" / "optimizer.pt")
    (out / "checkpoint-2" / "scheduler.pt").unlink()
    assert last_whole_checkpoint(out) is None
    with (
        pytest.raises(ValueError, match=r"scheduler.pt: .* the file is missing. No checkpoint before it is whole"),
        explain_checkpoint_errors(out, str(out / "checkpoint-2")),
    ):
        raise KeyError("x")


def test_a_damaged_file_of_a_freeze_schedule_is_named(run):
    out, _ = run
    (out / "_freezing").mkdir()
    (out / "_freezing" / "best-2.safetensors").write_bytes(b"x")
    with (
        pytest.raises(ValueError, match=r"best-2.safetensors: the file is damaged: .* Train again without resuming"),
        explain_checkpoint_errors(out, str(out / "checkpoint-2")),
    ):
        raise SafetensorError("x")


def test_other_errors_stay_what_they_are(run):
    out, _ = run
    with pytest.raises(KeyError), explain_checkpoint_errors(out, str(out / "checkpoint-2")):
        raise KeyError("x")
    with pytest.raises(KeyError), explain_checkpoint_errors(out):
        raise KeyError("x")


@contextmanager
def small_files():
    """Limit files to 4 KiB in this process, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: save_file({"a": torch.zeros(10_000)}, path),
        lambda path: torch.save(torch.zeros(10_000), path),
        lambda path: path.write_bytes(b"x" * 10_000),
    ],
    ids=["safetensors", "torch", "file"],
)
def test_the_words_of_each_library_for_a_full_disk_are_known(write, tmp_path):
    with (
        pytest.raises(OSError, match=r"could not be written\. .* Free on this disk: .* no checkpoint is whole yet"),
        explain_checkpoint_errors(tmp_path),
        small_files(),
    ):
        write(tmp_path / "file")


def test_errors_of_reading_are_not_errors_of_writing(tmp_path):
    assert is_write_error(OSError(errno.ENOSPC, "No space left on device"))
    assert not is_write_error(FileNotFoundError(errno.ENOENT, "no"))
    assert not is_write_error(SafetensorError("Error while deserializing header: header too small"))
    assert not is_write_error(RuntimeError("PytorchStreamReader failed reading zip archive"))


PROGRAM = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from hf_multitask.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
sys.exit(main(sys.argv[1:]))
"""


def test_a_disk_that_is_full_while_a_checkpoint_is_saved(finished, tmp_path):
    arguments = ["train", str(finished), "--output_dir", str(tmp_path / "out")]
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1, found.stderr
    assert "Traceback" not in found.stderr
    assert "could not be written" in found.stderr.strip().splitlines()[-1]
