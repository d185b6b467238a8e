"""Guesses about a file of rows: its form, its columns and the tasks that they have labels for."""

from .columns import LABEL_ROLES, ROLES, ColumnGuess, guess_columns
from .file_guess import FileGuess, guess_file
from .form import FileForm, guess_form
from .row_checks import RowProblem, RowReport, check_rows, usable_rows

__all__ = [
    "LABEL_ROLES",
    "ROLES",
    "ColumnGuess",
    "FileForm",
    "FileGuess",
    "RowProblem",
    "RowReport",
    "check_rows",
    "guess_columns",
    "guess_file",
    "guess_form",
    "usable_rows",
]
