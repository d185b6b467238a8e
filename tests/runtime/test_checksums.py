"""Checksums of files: any change of a file is found, and named."""

import pytest

from hf_multitask.runtime.checksums import file_checksum, find_change, read_checksums, write_checksums


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(range(256)) * 10)
    (tmp_path / "b.bin").write_bytes(b"")
    write_checksums(tmp_path / "sums.json", sorted(tmp_path.glob("*.bin")))
    return tmp_path


def check(folder):
    return find_change(folder, read_checksums(folder / "sums.json"))


def test_files_that_are_as_they_were_pass(folder):
    assert list(read_checksums(folder / "sums.json")) == ["a.bin", "b.bin"]
    assert check(folder) is None


@pytest.mark.parametrize("bit", [0, 7, 8 * 1280 + 3, 8 * 2560 - 1])
def test_a_flipped_bit_is_found(folder, bit):
    content = bytearray((folder / "a.bin").read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    (folder / "a.bin").write_bytes(content)
    assert check(folder) == ("a.bin", "its content has changed since it was written (the checksum differs)")


def test_a_missing_longer_or_shorter_file_is_found(folder):
    (folder / "b.bin").write_bytes(b"x")
    assert check(folder) == ("b.bin", "expected 0 bytes, found 1")
    (folder / "a.bin").write_bytes(b"")
    assert check(folder) == ("a.bin", "expected 2,560 bytes, found 0")
    (folder / "a.bin").unlink()
    assert check(folder) == ("a.bin", "the file is missing")


@pytest.mark.parametrize("content", ["", "[1]", '{"a.bin": 5}', "{", '{"a.bin": {}}', '{"a.bin": {"bytes": 5}}'])
def test_a_damaged_file_of_checksums_is_none(folder, content):
    (folder / "sums.json").write_text(content)
    assert read_checksums(folder / "sums.json") is None


def test_a_file_longer_than_a_read_has_the_checksum_of_all_of_it(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"abcdefgh" * 3)
    whole = file_checksum(tmp_path / "a")
    monkeypatch.setattr("hf_multitask.runtime.checksums._BYTES_AT_ONCE", 7)
    assert file_checksum(tmp_path / "a") == whole
