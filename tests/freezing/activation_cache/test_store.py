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

from hf_multitask.freezing.activation_cache.store import (
    DTYPES,
    ActivationStore,
    DamagedStatesError,
    Part,
    PartWriter,
    StatesLayout,
)
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
@pytest.mark.parametrize("checksums", [0, 7, 8, 20, 48])
def test_a_killed_build_resumes_where_it_was(tmp_path, written, checksums):
    lengths = np.array([2, 5, 1, 4, 3, 7])
    layout = StatesLayout(lengths, WIDTH, torch.float32)
    part = Part(layout, 0, 1)
    states = states_of(lengths)
    whole, killed = tmp_path / "whole" / "key", tmp_path / "killed" / "key"
    write(whole, layout, states)
    files = [part.path(whole).read_bytes(), part.checksums_path(whole).read_bytes()]
    assert [len(content) for content in files] == [264, 48]
    writer = PartWriter(killed, part)
    writer.file.write(files[0][:written])
    writer.checksums.write(files[1][:checksums])
    writer.file.close()
    writer.checksums.close()
    assert ActivationStore.find(killed, layout) is None

    writer = PartWriter(killed, part)
    rows = part.rows
    assert rows.tolist() == [5, 1, 3, 4, 0, 2]
    ends = np.cumsum(lengths[rows]) * layout.token_bytes
    assert writer.num_rows == min((ends <= written).sum(), checksums // 8)
    writer.truncate_to(writer.num_rows)
    for row in rows[writer.num_rows :]:
        writer.write(states[row])
    writer.finish()
    assert [part.path(killed).read_bytes(), part.checksums_path(killed).read_bytes()] == files


@pytest.fixture
def stored(tmp_path):
    """Return the states and the layout of a store of two parts in ``tmp_path / "key"``."""
    lengths = np.array([2, 5, 1, 4, 3, 7])
    layout = StatesLayout(lengths, WIDTH, torch.bfloat16)
    states = states_of(lengths, torch.bfloat16)
    write(tmp_path / "key", layout, states, num_parts=2)
    return states, layout


def read_each(store, layout):
    """Return the rows that are read, and those that are refused, one by one."""
    found = {True: [], False: []}
    for row, length in enumerate(layout.lengths.tolist()):
        states = store.read_unless_damaged([row], torch.ones(1, length, dtype=torch.long))
        found[states is not None].append(row)
    return found[True], found[False]


@pytest.mark.parametrize("index", [0, 1])
def test_each_flipped_bit_is_found_and_the_other_rows_are_read(tmp_path, stored, index, caplog):
    states, layout = stored
    part = Part(layout, index, 2)
    for path, size in (
        (part.path(tmp_path / "key"), layout.token_bytes),
        (part.checksums_path(tmp_path / "key"), None),
    ):
        content = path.read_bytes()
        bounds = np.cumsum(layout.lengths[part.rows]) * size if size else np.arange(1, len(part.rows) + 1) * 8
        for bit in range(0, 8 * len(content), 5):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            store = ActivationStore.find(tmp_path / "key", layout)
            row = part.rows[np.searchsorted(bounds, bit // 8, side="right")]
            with pytest.raises(DamagedStatesError, match=f"{index:05}-of-00002.states: .* a checksum differs"):
                store.read([row], torch.ones(1, layout.lengths[row], dtype=torch.long))
            others = [other for other in range(len(states)) if other != row]
            assert_reads(store, others, states)
        path.write_bytes(content)
    assert not caplog.records


def test_a_damaged_file_is_named_once_and_removed(tmp_path, stored, caplog):
    _, layout = stored
    path = Part(layout, 0, 2).path(tmp_path / "key")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    store = ActivationStore.find(tmp_path / "key", layout)
    last = int(Part(layout, 0, 2).rows[-1])
    for _ in range(2):
        assert read_each(store, layout) == ([row for row in range(6) if row != last], [last])
    (record,) = caplog.records
    assert str(path) in record.getMessage()
    assert "computed from their tokens" in record.getMessage()
    assert sorted(file.name for file in path.parent.iterdir()) == ["00001-of-00002.checksums", "00001-of-00002.states"]
    assert ActivationStore.find(tmp_path / "key", layout) is None


@pytest.mark.parametrize("with_checksums", [False, True])
def test_a_file_of_another_store_or_part_is_refused(tmp_path, with_checksums):
    lengths = np.array([4, 4, 4, 4])
    layout = StatesLayout(lengths, WIDTH, torch.float32)
    for key, offset in (("key", 0.0), ("other", 1.0)):
        write(tmp_path / key, layout, [states + offset for states in states_of(lengths)], num_parts=2)
    part = Part(layout, 0, 2)
    for folder, other in ((tmp_path / "other", part), (tmp_path / "key", Part(layout, 1, 2))):
        write(tmp_path / "key", layout, states_of(lengths), num_parts=2)
        paths = [part.path, part.checksums_path], [other.path, other.checksums_path]
        for to, source in list(zip(*paths, strict=True))[: 1 + with_checksums]:
            to(tmp_path / "key").write_bytes(source(folder).read_bytes())
        store = ActivationStore.find(tmp_path / "key", layout)
        assert read_each(store, layout) == (Part(layout, 1, 2).rows.tolist(), part.rows.tolist())


def test_a_file_that_is_cut_while_it_is_read_is_refused(tmp_path, stored, caplog):
    _, layout = stored
    store = ActivationStore.find(tmp_path / "key", layout)
    path = Part(layout, 0, 2).path(tmp_path / "key")
    os.truncate(path, 3)
    assert read_each(store, layout)[1] == sorted(Part(layout, 0, 2).rows.tolist())
    # Nothing behind the end is read: where a page is missing, the system would end the process.
    assert re.search(r"expected \d+ bytes, found 3\b", caplog.text)


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
    checksums = Part(layout, 0, 2).checksums_path(tmp_path).rename(tmp_path / "moved")
    assert ActivationStore.find(tmp_path, layout) is None
    checksums.rename(Part(layout, 0, 2).checksums_path(tmp_path))
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
