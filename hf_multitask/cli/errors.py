"""Errors as one line, and the exit status of each."""

import os
import traceback
from typing import Any

import typer

from .program import FAILED, INVALID, PROGRAM

DEBUG = "HF_MULTITASK_DEBUG"


def print_error(error: Exception) -> int:
    """Print an error on one line and return the exit status. A fault of ours is raised again."""
    from ..models.hub_errors import one_line
    from ..training.checkpoint_errors import is_write_error

    is_documented = isinstance(error, (ValueError, OSError, ImportError))
    if not is_documented and not is_write_error(error):
        raise error
    if os.environ.get(DEBUG) == "1":
        traceback.print_exception(error)
    message = error if is_documented else f"a file could not be written. {one_line(error)}"
    typer.echo(f"error: {message}", err=True)
    return FAILED if _has_failed(error) else INVALID


def _has_failed(error: BaseException | None) -> bool:
    """Return whether an error ended a run that was valid."""
    from ..training.checkpoint_errors import is_write_error
    from ..training.divergence import DivergenceError

    return error is not None and (
        isinstance(error, DivergenceError) or is_write_error(error) or _has_failed(error.__cause__)
    )


def usage_message(error: Any) -> str:
    """Return one line for a mistake in the arguments."""
    close = getattr(error, "possibilities", None)  # of a misspelt option
    message = " ".join((error.message if close else error.format_message()).split()).rstrip(".")
    if close:
        message += f". Did you mean {' or '.join(close)}?"
    end = "" if message.endswith("?") else "."
    return f"error: {message}{end} See {error.ctx.command_path if error.ctx else PROGRAM} --help."
