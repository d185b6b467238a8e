"""All rows of a source, read as the package reads a split."""

from hf_multitask.data import Rows
from hf_multitask.data.readers.sources import open_rows, source_name


def read_rows(source, name="rows", format=None, columns=None):
    return Rows.collect(source_name(source, name), open_rows(source, name, format, columns))
