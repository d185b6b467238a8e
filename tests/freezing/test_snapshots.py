"""Snapshots: the tensors that were saved are loaded, or the file is refused."""

import pytest
import torch
from safetensors.torch import save_file

from hf_multitask.freezing.snapshots import Snapshots

TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.ones(4, dtype=torch.bfloat16)}


@pytest.fixture
def snapshots(tmp_path):
    found = Snapshots(tmp_path)
    found.save("best", 3, TENSORS)
    return found


def test_tensors_come_back(snapshots):
    loaded = snapshots.load("best", 3)
    assert loaded.keys() == TENSORS.keys()
    assert all(torch.equal(loaded[name], TENSORS[name]) for name in TENSORS)


def test_a_flipped_bit_of_a_weight_is_refused(snapshots):
    path = snapshots.folder / "best-3.safetensors"
    content = path.read_bytes()
    for back in range(1, 33):  # the weights are at the end of the file
        damaged = bytearray(content)
        damaged[-back] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"best-3\.safetensors: the file is damaged: .* train again"):
            snapshots.load("best", 3)


def test_a_file_without_a_checksum_is_loaded(snapshots):
    save_file(TENSORS, snapshots.folder / "best-3.safetensors")
    assert snapshots.load("best", 3).keys() == TENSORS.keys()


def test_a_missing_file_is_named(snapshots):
    with pytest.raises(FileNotFoundError, match=r"best-4\.safetensors is missing: the stage needs"):
        snapshots.load("best", 4)


def test_the_last_snapshot_of_each_kind_stays_and_those_of_checkpoints(snapshots, tmp_path):
    for kind, step in (("best", 5), ("best", 8), ("teacher", 2)):
        snapshots.save(kind, step, TENSORS)
    (tmp_path / "checkpoint-4").mkdir()
    snapshots.prune(9)
    assert sorted(path.stem for path in snapshots.folder.iterdir()) == ["best-3", "best-8", "teacher-2"]
