"""Stores: the bits that were written are read back, and no unfinished file is read."""

import errno
import os
import re
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_multitask.freezing.activation_cache.store import DTYPES, ActivationStore, Part, PartWriter, StatesLayout
from hf_multitask.freezing.activation_cache.store_folder import StoreFolder

WIDTH = 3
SMAPS = Path("/proc/self/smaps")


def states_of(lengths, dtype=torch.float32):
    """Return states whose values name their row and token."""
    return [
        (torch.arange(length * WIDTH).view(length, WIDTH) + 1000.0 * row).to(dtype)
        for row, length in enumerate(lengths)
    ]


def write(folder, layout, states, num_parts=1, rows_per_batch=3):
    for index in range(num_parts):
        part = Part(layout, index, num_parts)
        writer = PartWriter(folder, part)
        rows = part.rows
        for start in range(0, len(rows), rows_per_batch):
            writer.write(torch.cat([states[row] for row in rows[start : start + rows_per_batch]]))
        writer.finish()


def assert_reads(store, rows, states):
    lengths = torch.tensor([len(states[row]) for row in rows])
    mask = (torch.arange(int(lengths.max()) + 1) < lengths.unsqueeze(1)).long()
    found = store.read(rows, mask)
    assert torch.equal(found[mask.bool()], torch.cat([states[row] for row in rows]))
    assert found.isfinite().all()


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=30),
    num_parts=st.integers(1, 4),
    dtype=st.sampled_from(sorted(DTYPES)),
    data=st.data(),
)
def test_rows_come_back_in_any_order(tmp_path_factory, lengths, num_parts, dtype, data):
    folder = tmp_path_factory.mktemp("store")
    lengths, dtype = np.array(lengths), DTYPES[dtype]
    states = states_of(lengths, dtype)
    layout = StatesLayout(lengths, WIDTH, dtype)
    write(folder, layout, states, num_parts)
    store = ActivationStore.find(folder, layout)
    asked = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=40))
    assert_reads(store, asked, states)


@pytest.mark.skipif(not SMAPS.exists(), reason="only Linux reports which pages are mapped")
def test_pages_that_were_read_do_not_stay_in_memory(tmp_path):
    lengths = np.full(200, 7)
    states = states_of(lengths)
    layout = StatesLayout(lengths, WIDTH, torch.float32)
    write(tmp_path, layout, states, num_parts=2)
    store = ActivationStore.find(tmp_path, layout)
    for start in (0, 50, 20):
        assert_reads(store, range(start, start + 100), states)
        mapped = re.findall(rf"{re.escape(str(tmp_path))}.*\n(?:.*\n){{3}}Rss: +(\d+) kB", SMAPS.read_text())
        assert mapped == ["0", "0"]


@pytest.mark.parametrize("written", [0, 1, 40, 83, 84, 85, 200, 263, 264])
def test_a_killed_build_resumes_where_it_was(tmp_path, written):
    lengths = np.array([2, 5, 1, 4, 3, 7])
    layout = StatesLayout(lengths, WIDTH, torch.float32)
    part = Part(layout, 0, 1)
    states = states_of(lengths)
    write(tmp_path / "whole", layout, states)
    whole = part.path(tmp_path / "whole").read_bytes()
    assert len(whole) == 264
    killed = PartWriter(tmp_path / "killed", part)
    killed.file.write(whole[:written])
    killed.file.close()
    assert ActivationStore.find(tmp_path / "killed", layout) is None

    writer = PartWriter(tmp_path / "killed", part)
    rows = part.rows
    assert rows.tolist() == [5, 1, 3, 4, 0, 2]
    ends = np.cumsum(lengths[rows]) * layout.token_bytes
    assert writer.num_rows == (ends <= written).sum()
    writer.truncate_to(writer.num_rows)
    for row in rows[writer.num_rows :]:
        writer.write(states[row])
    writer.finish()
    assert part.path(tmp_path / "killed").read_bytes() == whole


def test_a_store_with_a_part_missing_or_cut_is_not_read(tmp_path):
    lengths = np.array([2, 5, 1, 4])
    layout = StatesLayout(lengths, WIDTH, torch.float32)
    write(tmp_path, layout, states_of(lengths), num_parts=2)
    assert ActivationStore.find(tmp_path, layout) is not None
    path = Part(layout, 1, 2).path(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert ActivationStore.find(tmp_path, layout) is None
    path.unlink()
    assert ActivationStore.find(tmp_path, layout) is None
    path.write_bytes(content)
    assert ActivationStore.find(tmp_path, StatesLayout(lengths + 1, WIDTH, torch.float32)) is None
    assert ActivationStore.find(tmp_path / "nowhere", layout) is None


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path):
    lengths = np.full(1000, 50)
    writer = PartWriter(tmp_path, Part(StatesLayout(lengths, WIDTH, torch.float32), 0, 1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            writer.write(torch.zeros(50_000, WIDTH))
        writer.discard()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert not list(tmp_path.iterdir())


def make_stores(folder, sizes):
    for age, (key, size) in enumerate(sizes.items()):
        (folder / key).mkdir(parents=True)
        (folder / key / "part").write_bytes(bytes(size))
        os.utime(folder / key, (1000 + age, 1000 + age))


def test_the_least_recently_used_stores_are_evicted(tmp_path):
    make_stores(tmp_path, {"a": 100, "b": 200, "c": 300})
    folder = StoreFolder(tmp_path, max_bytes=700)
    assert folder.available_bytes(in_use=[]) == 700
    assert folder.available_bytes(in_use=["c"]) == 400
    folder.evict(100, in_use=[])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
    folder.touch("a")
    folder.evict(250, in_use=[])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]
    folder.evict(650, in_use=["c"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c"]


def test_without_a_limit_half_of_the_disk_stays_free(tmp_path, monkeypatch):
    make_stores(tmp_path, {"a": 100})
    usage = type("Usage", (), {"free": 900})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert StoreFolder(tmp_path).available_bytes(in_use=[]) == 500
    assert StoreFolder(tmp_path).available_bytes(in_use=["a"]) == 400
    assert StoreFolder(tmp_path, max_bytes=5000).available_bytes(in_use=["a"]) == 900
