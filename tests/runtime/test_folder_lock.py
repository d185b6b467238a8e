"""One run writes a folder at a time."""

import subprocess
import sys

import pytest
from filelock import FileLock

from hf_multitask.runtime import folder_lock
from hf_multitask.runtime.folder_lock import only_writer

HOLDS_AND_DIES = """
import os, pathlib, sys
from hf_multitask.runtime.folder_lock import only_writer
with only_writer(pathlib.Path(sys.argv[1])):
    print("locked", flush=True)
    if sys.stdin.readline() == "die":
        os._exit(9)
"""


def test_second_writer_is_refused_until_the_first_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_lock, "_TIMEOUT_SECONDS", 0)
    folder = tmp_path / "new"
    with only_writer(folder):
        message = r"new': another run is writing to it; wait for it, or use another"
        with pytest.raises(FileExistsError, match=message), only_writer(folder):
            pass
        (folder / "model").touch()
    assert [path.name for path in folder.iterdir()] == ["model"]
    with only_writer(folder):
        pass


def test_folder_of_a_run_that_wrote_nothing_is_removed(tmp_path):
    with pytest.raises(ValueError, match="wrong"), only_writer(tmp_path / "new"):
        raise ValueError("wrong")
    assert not (tmp_path / "new").exists()


def test_lock_of_a_process_that_dies_is_released(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_lock, "_TIMEOUT_SECONDS", 0)
    command = [sys.executable, "-c", HOLDS_AND_DIES, str(tmp_path / "new")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(FileExistsError, match="another run"), only_writer(tmp_path / "new"):
            pass
        process.stdin.write("die")
        process.stdin.close()
        process.wait()
    with only_writer(tmp_path / "new"):
        pass


def test_a_file_is_left_to_the_caller(tmp_path):
    (tmp_path / "file").touch()
    with only_writer(tmp_path / "file"):
        pass
    assert (tmp_path / "file").is_file()


def test_a_lock_file_that_is_left_does_not_matter(tmp_path):
    with FileLock(tmp_path / "_lock"):
        pass
    with only_writer(tmp_path):
        pass
