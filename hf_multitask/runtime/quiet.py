"""Silence of a process that trains many runs, and of one whose output nobody watches."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import datasets
import transformers
from transformers.utils import is_in_notebook


@contextmanager
def warnings_only() -> Iterator[None]:
    """Silence all messages and progress bars of runs but warnings."""
    package = logging.getLogger(__name__.split(".")[0])
    level = package.level
    package.setLevel(logging.WARNING)
    try:
        with no_bars(), warnings.catch_warnings():
            # Without an accelerator, each data loader of each run would give this warning.
            warnings.filterwarnings("ignore", message=".*pin_memory. argument is set as true")
            yield
    finally:
        package.setLevel(level)


def one_bar() -> AbstractContextManager[None]:
    """Return a context of a run, in which bars of loading and saving do not come between its own.

    Outside of a terminal or a notebook, tokenizing has no bar either: in a file, bars leave control characters.
    """
    return no_bars(of_datasets=not sys.stderr.isatty() and not is_in_notebook())


@contextmanager
def no_bars(of_datasets: bool = True) -> Iterator[None]:
    """Turn off the progress bars of loading and saving models in a context.

    Args:
        of_datasets: Whether to turn off those of ``datasets`` too, such as tokenizing.
    """
    had_loading_bars = transformers.logging.is_progress_bar_enabled()
    had_mapping_bars = not datasets.are_progress_bars_disabled()
    transformers.logging.disable_progress_bar()
    if of_datasets:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if had_loading_bars:
            transformers.logging.enable_progress_bar()
        if had_mapping_bars:
            datasets.enable_progress_bars()
