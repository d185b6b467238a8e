"""Silence of a process that trains many runs."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import datasets
import transformers


@contextmanager
def warnings_only() -> Iterator[None]:
    """Silence all messages and progress bars of runs but warnings."""
    package = logging.getLogger(__name__.split(".")[0])
    level = package.level
    had_loading_bars = transformers.logging.is_progress_bar_enabled()
    had_mapping_bars = not datasets.are_progress_bars_disabled()
    package.setLevel(logging.WARNING)
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            # Without an accelerator, each data loader of each run would give this warning.
            warnings.filterwarnings("ignore", message=".*pin_memory. argument is set as true")
            yield
    finally:
        package.setLevel(level)
        if had_loading_bars:
            transformers.logging.enable_progress_bar()
        if had_mapping_bars:
            datasets.enable_progress_bars()
