"""The log of a run: its file, its warnings again, and what is shown of it."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hf_multitask.runtime.console_log import RunLog

LOGGER = logging.getLogger("hf_multitask.somewhere")


def read(path):
    return path.read_text(encoding="utf-8")


def test_the_file_has_everything_that_was_said_before_it_could_be_written(tmp_path):
    log, path = RunLog(), tmp_path / "out" / "train.log"
    with log.listening():
        LOGGER.info("early")
        LOGGER.debug("detail")
        log.write_to(path)
        LOGGER.warning("late")
        logging.getLogger("transformers.trainer").warning("theirs")
    LOGGER.warning("after the run")
    lines = [line.split(" ", 2)[2] for line in read(path).splitlines()]
    assert lines == ["INFO early", "DEBUG detail", "WARNING late", "WARNING theirs"]


def test_a_run_that_is_refused_leaves_no_file(tmp_path):
    log = RunLog()
    with log.listening():
        LOGGER.warning("early")
    log.write_to(tmp_path / "train.log")
    assert not read(tmp_path / "train.log"), "forgotten with the run"


def test_a_resumed_run_goes_on_in_the_file(tmp_path):
    for message, append in (("first", False), ("second", True), ("third", False)):
        log = RunLog()
        with log.listening():
            log.write_to(tmp_path / "train.log", append)
            LOGGER.info(message)
        assert ("first" in read(tmp_path / "train.log")) == (message in ("first", "second"))


def test_warnings_come_again_once_each(caplog):
    log = RunLog()
    with log.listening():
        for _ in range(2):
            LOGGER.warning("twice")
        logging.getLogger("transformers").warning("theirs")
        LOGGER.info("no warning")
        caplog.clear()
        log.repeat_warnings()
    assert [record.getMessage() for record in caplog.records] == ["Warnings of this run:\n  twice"]


def test_nothing_more_is_shown_to_those_who_have_set_up_logging(caplog):
    package = logging.getLogger("hf_multitask")
    caplog.set_level(logging.NOTSET, "hf_multitask")
    caplog.set_level(logging.WARNING)
    caplog.handler.setLevel(logging.NOTSET)
    level, handlers = package.level, list(package.handlers)
    with RunLog().listening():
        LOGGER.info("quiet")
        LOGGER.warning("loud")
    assert [record.getMessage() for record in caplog.records] == ["loud"]
    assert (package.level, package.handlers) == (level, handlers)


PROGRAM = """
import logging, sys, warnings
from pathlib import Path
from hf_multitask.runtime.console_log import RunLog
if sys.argv[1] == "set up":
    logging.basicConfig(format="user: %(message)s", level=logging.WARNING)
log = RunLog()
with log.listening():
    logging.getLogger("hf_multitask.x").debug("detail")
    logging.getLogger("hf_multitask.x").info("line")
    logging.getLogger("hf_multitask.x").warning("warning")
    warnings.warn("of Python")
    log.write_to(Path("train.log"))
"""


@pytest.mark.parametrize(("mode", "expected"), [("bare", "line\nwarning\n"), ("set up", "user: warning\n")])
def test_a_program_without_logging_sees_the_lines(mode, expected, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", PROGRAM, mode]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    assert done.stderr.startswith(expected)
    assert "UserWarning: of Python" in done.stderr.removeprefix(expected)
    assert done.stdout == ""
    lines = [line.split(" ", 2)[2] for line in read(tmp_path / "train.log").splitlines()]
    assert lines == ["DEBUG detail", "INFO line", "WARNING warning", "WARNING UserWarning: of Python"]
