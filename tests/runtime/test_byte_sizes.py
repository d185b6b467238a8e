"""Sizes in bytes, as messages and tables show them."""

from hf_multitask.runtime.byte_sizes import format_bytes


def test_bytes_have_a_unit():
    assert [format_bytes(number) for number in (7, 2048, 3.5 * 2**20, 2**40)] == ["7 B", "2 KiB", "3.5 MiB", "1 TiB"]


def test_cells_of_a_table_share_a_unit():
    assert [format_bytes(number, "MiB") for number in (0, 2**20, 1.25 * 2**30)] == ["0.0 MiB", "1.0 MiB", "1280.0 MiB"]
