"""Facts about the machine."""

import importlib.metadata
import json
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
import torch

from hf_multitask.cli import main
from hf_multitask.runtime import diagnosis, extras
from hf_multitask.runtime.diagnosis import diagnose
from tests.conftest import MINILM

Memory = namedtuple("Memory", "available")


def test_the_facts_of_this_machine():
    found = diagnose()
    assert found.versions["torch"] == importlib.metadata.version("torch") == torch.__version__
    assert found.device.startswith("cpu") == (not torch.accelerator.is_available())
    assert found.cores >= 1
    assert found.threads == torch.get_num_threads()
    assert MINILM in found.encoders
    assert any(str(Path.cwd()) in name or name.startswith("~") for name in found.disk_bytes)


def test_missing_extras_come_with_the_command_that_installs_them(monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, "tune", ("no_such_package",))
    found = diagnose()
    assert found.missing_extras["tune"] == ["no_such_package"]
    assert "tune (pip install 'hf-multitask[tune]')" in str(found)


def test_what_will_be_slow_is_named(monkeypatch):
    monkeypatch.setattr(diagnosis, "_usable_cores", lambda: 64)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 64)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(2**30))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    advice = "\n".join(diagnose().advice)
    assert "of 64 cores because OMP_NUM_THREADS is set: OMP_NUM_THREADS=64 uses all." in advice
    assert "TOKENIZERS_PARALLELISM is off" in advice
    assert "little memory is free: 1 GiB" in advice


def test_more_threads_than_cores_are_slow(monkeypatch):
    monkeypatch.setattr(diagnosis, "_usable_cores", lambda: 0)
    assert any("threads on 0 cores" in text for text in diagnose().advice)


def test_no_encoder_and_no_hub_is_named(monkeypatch):
    monkeypatch.setattr(diagnosis, "local_encoders", list)
    monkeypatch.setattr(diagnosis, "is_offline_mode", lambda: True)
    found = diagnose()
    assert found.hub == "off (HF_HUB_OFFLINE)"
    assert "pip install 'hf-multitask[quickstart]'" in found.advice[-1]


def test_a_report_has_no_name_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "jordan"))
    (tmp_path / "jordan" / "work").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "jordan" / "work")
    assert "jordan" not in str(diagnose())
    assert "~/work" in str(diagnose())


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command(as_json, capsys):
    assert main(["doctor", *(["--json"] if as_json else [])]) == 0
    output = capsys.readouterr().out
    if as_json:
        assert json.loads(output)["versions"]["torch"] == torch.__version__
    else:
        assert [line.split(":")[0] for line in output.splitlines()[:5]] == [
            *("packages", "system", "device", "precision", "cores")
        ]
