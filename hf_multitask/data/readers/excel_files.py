"""Excel files: a sheet as a table whose cells are texts."""

import datetime
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import repeat, zip_longest
from pathlib import Path
from typing import Any, TypeAlias

from ...models.messages import unknown_name_message
from ...runtime.byte_sizes import format_bytes
from ...runtime.extras import check_packages
from .cell_rows import CellReader
from .file_reader import Columns, RawRow
from .reading_options import ReadingOptions, log_guess
from .rows import LocatedRow

EXCEL = "excel"
# A few kilobytes can unpack to a disk full of zeros.
MAX_UNPACKED_BYTES = 2 * 2**30

_SHEETS_FOLDER = "xl/worksheets/"
_FORMULAS = (b"<f>", b"<f ", b"<f/")
_BLOCK = 2**20
_ERROR_TYPE, _FORMULA_TYPE = "e", "f"
# Excel computes with this many digits and shows no more.
_DIGITS = ".15g"

# What openpyxl and zipfile raise on damaged content. RuntimeError is encryption, and compression that zipfile does not
# know. OSError comes from bz2: the file itself is read before.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    OSError,
    EOFError,
    RuntimeError,
    OverflowError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    SyntaxError,
)

# The cells of a row, or the error in them.
_Record: TypeAlias = list[str] | ValueError


class ExcelReader(CellReader[_Record]):
    """A sheet of an Excel file. A cell is the text that the sheet shows: dates in ISO form, formulas by their value.

    Rows without a single cell are left out and counted. Numbers of rows are those of the sheet.

    Args:
        path: The file.
        columns: See `CellReader`, as for ``options`` and ``has_word_per_line``.
    """

    def __init__(
        self, path: Path, columns: Columns | None, options: ReadingOptions, has_word_per_line: bool = False
    ) -> None:
        super().__init__(path, columns, options, has_word_per_line)
        check_packages(EXCEL, f"{path.name}: reading Excel files")

    def raw_rows(self) -> Iterator[RawRow[_Record]]:
        """See `FileReader.raw_rows`."""
        self._header, empty = [], 0
        for number, cells in self._rows_of_cells():
            if not cells:
                empty += 1
                continue
            if not self._header:
                if isinstance(cells, ValueError):
                    raise cells
                self._header = self._read_header(self._named(cells))
                if self._options.header is not False:
                    continue
            yield number, cells
        if empty:
            log_guess(f"{self.path}: empty rows that are left out: {empty}.")

    def parse(self, number: int, content: _Record) -> Iterable[LocatedRow]:
        """See `FileReader.parse`."""
        if isinstance(content, ValueError):
            raise content
        width = len(self._header)
        if len(content) > width:
            expected = f"expected {width} cells ({', '.join(self._header)})"
            raise ValueError(f"{self.path}:{number}: {expected}, found {len(content)}.")
        return (self._located([*content, *repeat("", width - len(content))], number),)

    def _named(self, cells: list[str]) -> list[str]:
        """Name columns without a header by their letters."""
        if self._options.header is False:
            return cells
        from openpyxl.utils import get_column_letter

        return [cell if cell.strip() else get_column_letter(i) for i, cell in enumerate(cells, start=1)]

    def _rows_of_cells(self) -> Iterator[tuple[int, _Record]]:
        """Yield the cells of each row, without the empty ones at its end."""
        content = self.path.read_bytes()
        with ExitStack() as files:
            values = files.enter_context(closing(open_workbook(self.path, content)))
            name = _sheet_name(self.path, values.sheetnames, self._options.sheet)
            files.enter_context(_named_damage(self.path))
            formulas: Iterator[Sequence[Any]] = repeat(())
            if _has_formulas(content):
                formulas = _cells(files.enter_context(closing(open_workbook(self.path, content, False))), name)
            for number, (row, written) in enumerate(zip(_cells(values, name), formulas, strict=False), start=1):
                yield number, self._record(number, row, written)

    def _record(self, number: int, row: Sequence[Any], written: Sequence[Any]) -> _Record:
        try:
            cells = [_text(*pair) for pair in zip_longest(row, written[: len(row)])]
        except ValueError as error:
            return ValueError(f"{self.path}:{number}: {error}")
        while cells and not cells[-1].strip():
            cells.pop()
        return cells


def sheet_names(path: Path) -> list[str]:
    """Return the names of the sheets of an Excel file.

    Args:
        path: The file.

    Raises:
        ValueError: If the file is not an Excel file.
        ImportError: If openpyxl is not installed.
    """
    check_packages(EXCEL, f"{path.name}: reading Excel files")
    with closing(open_workbook(path, path.read_bytes())) as workbook:
        return [sheet.title for sheet in workbook.worksheets]


def open_workbook(path: Path, content: bytes, data_only: bool = True) -> Any:
    """Open an Excel file for reading it row by row.

    Args:
        path: The file, for messages.
        content: Its bytes.
        data_only: Whether cells with a formula have its value, and not its text.

    Raises:
        ValueError: If the content is not an Excel file, or unpacks to more than `MAX_UNPACKED_BYTES`.
    """
    import openpyxl

    with _named_damage(path):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size <= MAX_UNPACKED_BYTES:
            return openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=data_only)
    raise ValueError(
        f"{path}: it unpacks to {format_bytes(size)}; allowed are {format_bytes(MAX_UNPACKED_BYTES)}. Save the sheet "
        "as CSV."
    )


@contextmanager
def _named_damage(path: Path) -> Iterator[None]:
    """Turn what the libraries raise on a damaged file into an error with its name."""
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        yield
    except (*_DAMAGE, InvalidFileException) as error:
        raise ValueError(
            f"{path}: expected an Excel file (.xlsx) that is whole and has no password "
            f"({str(error) or type(error).__name__}). Save it as .xlsx or CSV again."
        ) from error


def _sheet_name(path: Path, names: Sequence[str], given: str | None) -> str:
    if given is not None:
        if given not in names:
            raise ValueError(f"{path}: {unknown_name_message('sheet', given, names)}")
        return given
    if not names:
        raise ValueError(f"{path}: expected a sheet, found none. Save it as .xlsx or CSV again.")
    if len(names) > 1:
        log_guess(f"{path}: reading the first sheet of {', '.join(map(repr, names))} (`sheet: {names[0]!r}`).")
    return names[0]


def _cells(workbook: Any, name: str) -> Iterator[Sequence[Any]]:
    sheet = workbook[name]
    # Programs write wrong dimensions, which would cut rows off.
    sheet.reset_dimensions()
    return iter(sheet.iter_rows())


def _has_formulas(content: bytes) -> bool:
    """Return whether a sheet has a formula; only then the file has to be read twice at once."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            if not name.startswith(_SHEETS_FOLDER):
                continue
            with archive.open(name) as file:
                rest = b""
                while block := file.read(_BLOCK):
                    if any(mark in rest + block for mark in _FORMULAS):
                        return True
                    rest = block[-2:]
    return False


def _text(cell: Any, written: Any) -> str:
    """Return the text of a cell.

    Args:
        cell: The cell with its value.
        written: The same cell with its formula; None if no sheet has formulas.
    """
    value = cell.value
    if value is None:
        if written is not None and written.data_type == _FORMULA_TYPE:
            raise ValueError(
                f"cell {written.coordinate} has a formula without its value. Open the file in Excel or LibreOffice "
                "and save it, so that it contains the values."
            )
        return ""
    if cell.data_type == _ERROR_TYPE:
        raise ValueError(f"cell {cell.coordinate} contains the error {value}. Mend its formula, or empty the cell.")
    return _value_text(value)


def _value_text(value: object) -> str:
    if isinstance(value, str):
        from openpyxl.utils.escape import unescape

        return unescape(value) if "_x" in value else value
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float):
        return format(value, _DIGITS) if not value.is_integer() else str(int(value))
    if isinstance(value, datetime.datetime):
        is_date = value.time() == datetime.time()
        return value.date().isoformat() if is_date else value.isoformat(" ", timespec="seconds")
    return str(value)
