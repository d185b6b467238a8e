"""Files that are complete or absent."""

import json
import math
import os

import pytest

from hf_multitask.runtime.atomic_files import read_json, whole_file, whole_files, write_json, write_whole


def test_a_file_has_its_name_only_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with whole_file(path) as unfinished:
        unfinished.write_text("half")
        assert not path.exists()
        unfinished.write_text("whole")
    assert path.read_text() == "whole"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_after_an_error_the_earlier_file_stays(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})

    def fail(file):
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(path, fail)
    assert read_json(path) == {"a": 1}


@pytest.mark.parametrize(("fsync", "calls"), [(True, 1), (False, 0)])
def test_only_a_file_that_must_survive_a_power_failure_waits_for_the_disk(fsync, calls, tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with whole_file(tmp_path / "a", fsync=fsync) as unfinished:
        unfinished.write_bytes(b"a")
    assert len(synced) == calls


def test_the_unfinished_file_can_be_in_another_folder(tmp_path):
    (tmp_path / "parts").mkdir()
    with whole_file(tmp_path / "a", folder=tmp_path / "parts") as unfinished:
        unfinished.write_bytes(b"a")
        assert unfinished.parent == tmp_path / "parts"
    assert (tmp_path / "a").read_bytes() == b"a"


def test_several_files_come_together_or_not_at_all(tmp_path):
    with whole_files(tmp_path / "out") as unfinished:
        (unfinished / "a").write_text("1")
        (unfinished / "b").write_text("2")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b"]

    def fail():
        with whole_files(tmp_path / "out") as unfinished:
            (unfinished / "c").write_text("3")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b"]


def test_a_damaged_or_missing_json_file_is_none(tmp_path):
    assert read_json(tmp_path / "a.json") is None
    (tmp_path / "a.json").write_text("{")
    assert read_json(tmp_path / "a.json") is None


def test_numbers_that_json_does_not_have_are_null(tmp_path):
    values = {"loss": math.nan, "all": [1.5, math.inf, (-math.inf, 2)], "name": "NaN", 3: {"x": float("nan")}}
    write_json(tmp_path / "values.json", values)
    text = (tmp_path / "values.json").read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found == {"loss": None, "all": [1.5, None, [None, 2]], "name": "NaN", "3": {"x": None}}
