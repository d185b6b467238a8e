"""Log messages of the package: where they are shown, and the file and the warnings of a run."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

import transformers
from tqdm.auto import tqdm
from transformers.utils import is_in_notebook

PACKAGE = __name__.split(".")[0]
PYTHON_WARNINGS = "py.warnings"
# Loggers whose messages are in the file of a run.
_IN_FILE = (PACKAGE, "transformers", PYTHON_WARNINGS)
_FILE_FORMAT = "%(asctime)s %(levelname)s %(message)s"


class LineHandler(logging.Handler):
    """Prints each message to standard error, above the progress bar that is shown, if there is one.

    In a notebook, where standard error is red, it prints to standard output.

    Args:
        level: Messages below this level are not printed.
    """

    def __init__(self, level: int = logging.INFO) -> None:
        super().__init__(level)
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message."""
        tqdm.write(self.format(record), file=sys.stdout if is_in_notebook() else sys.stderr)


@contextmanager
def shown_messages() -> Iterator[None]:
    """Show the messages of the package in a context, unless the program has set up logging itself."""
    package = logging.getLogger(PACKAGE)
    own = [handler for handler in package.handlers if not isinstance(handler, _RunHandler)]
    if own or logging.getLogger().handlers:
        yield
        return
    level = package.level
    handler = LineHandler(level if level > logging.DEBUG else logging.INFO)
    package.addHandler(handler)
    package.setLevel(min(handler.level, package.getEffectiveLevel()))
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)


def show_details() -> None:
    """Show the messages of the package and of transformers in full detail from now on."""
    transformers.logging.set_verbosity_info()
    package = logging.getLogger(PACKAGE)
    package.setLevel(logging.DEBUG)
    for handler in package.handlers:
        handler.setLevel(logging.DEBUG)


class RunLog:
    """The messages of a run: all in a file once it may be written, and the package's warnings again at the end."""

    def __init__(self) -> None:
        self._handler = _RunHandler()

    def write_to(self, path: Path, append: bool = False) -> None:
        """Write all messages to a file, those so far and those to come.

        Args:
            path: The file.
            append: Whether to keep what the file contains, as a resumed run does.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handler.open_file(path, "a" if append else "w")

    def repeat_warnings(self) -> None:
        """Log the different warnings so far once more, as one message."""
        if found := list(self._handler.warnings):
            lines = "".join(f"\n  {message}" for message in found)
            logging.getLogger(PACKAGE).warning("Warnings of this run:%s", lines)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take all messages of a context, whatever is shown of them."""
        package = logging.getLogger(PACKAGE)
        with ExitStack() as stack:
            stack.enter_context(shown_messages())
            level, threshold = package.level, package.getEffectiveLevel()

            def was_shown(record: logging.LogRecord) -> bool:
                return record.levelno >= threshold or record.name.split(".")[0] != PACKAGE

            for handler in (*package.handlers, *logging.getLogger().handlers):
                handler.addFilter(was_shown)
                stack.callback(handler.removeFilter, was_shown)
            for logger in map(logging.getLogger, _IN_FILE):
                logger.addHandler(self._handler)
                stack.callback(logger.removeHandler, self._handler)
            package.setLevel(logging.DEBUG)
            stack.callback(package.setLevel, level)
            stack.enter_context(_logged_python_warnings())
            stack.callback(self._handler.close_file)
            yield


class _RunHandler(logging.Handler):
    """Keeps all messages until the file of the run may be written, and the different warnings."""

    def __init__(self) -> None:
        super().__init__()
        self.warnings: dict[str, None] = {}
        self._kept: list[logging.LogRecord] = []
        self._file: logging.FileHandler | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message, or keep it if there is no file yet."""
        if record.levelno >= logging.WARNING and record.name.split(".")[0] == PACKAGE:
            self.warnings[record.getMessage()] = None
        if self._file is None:
            self._kept.append(record)
        else:
            self._file.handle(record)

    def open_file(self, path: Path, mode: str) -> None:
        """Write the messages so far to a file, and the later ones."""
        self._file = logging.FileHandler(path, mode, encoding="utf-8")
        self._file.setFormatter(logging.Formatter(_FILE_FORMAT))
        for record in self._kept:
            self._file.handle(record)
        self._kept.clear()

    def close_file(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._kept.clear()


@contextmanager
def _logged_python_warnings() -> Iterator[None]:
    """Log the warnings of Python, which are shown as before, to the handlers of their logger only."""
    show, logger = warnings.showwarning, logging.getLogger(PYTHON_WARNINGS)
    propagates, logger.propagate = logger.propagate, False

    def show_and_log(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        show(message, category, filename, lineno, file, line)
        logger.warning("%s: %s", category.__name__, message)

    warnings.showwarning = show_and_log
    try:
        yield
    finally:
        warnings.showwarning = show
        logger.propagate = propagates
