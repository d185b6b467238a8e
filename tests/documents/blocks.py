"""The code blocks of the README and of docs/, and how tests run them.

A test module claims each block that it runs with `claim`, when it is imported; `test_every_block.py` finds the others.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import MappingProxyType

from hf_multitask.cli import main

ROOT = Path(__file__).parents[2]
# index.md only includes the README in the site.
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name != "index.md")
DOCUMENTS = ("README.md", *(f"docs/{name}" for name in PAGES))
# Of blocks that say something to do; what is printed stands in `text`.
LANGUAGES = ("bash", "python", "yaml")

_CLAIMED: set["Block"] = set()
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
_NOTHING: Mapping[str, str] = MappingProxyType({})
# Commands that run in this process, which has loaded what they need.
_PROGRAMS = MappingProxyType({"hf-multitask": main})


@dataclass(frozen=True)
class Block:
    """A code block, and where it stands."""

    document: str
    line: int
    language: str
    text: str

    def __str__(self):
        return f"{self.document}:{self.line} ({self.language})"

    def changed(self, changes):
        """Return the text with some parts of it, each of which must be there, in a form that a test can run."""
        text = self.text
        for part, replacement in changes.items():
            assert part in text, f"{self} has no {part!r} any more."
            text = text.replace(part, replacement)
        return text


def read_blocks(document: str) -> list[Block]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return [
        Block(document, text.count("\n", 0, found.start()) + 1, found[1], found[2])
        for found in _FENCED.finditer(text)
        if found[1] in LANGUAGES
    ]


def find_block(document: str, language: str, containing: str) -> Block:
    """Return the one block of a document, in a language, that has a text in it."""
    blocks = [block for block in read_blocks(document) if block.language == language and containing in block.text]
    if len(blocks) != 1:
        raise LookupError(f"{document}: expected one {language} block with {containing!r}, found {len(blocks)}.")
    return blocks[0]


def claim(document: str, language: str, containing: str) -> Block:
    """Return what `find_block` does, for a test that runs it."""
    block = find_block(document, language, containing)
    _CLAIMED.add(block)
    return block


def is_claimed(block: Block) -> bool:
    return block in _CLAIMED


def write_yaml(block: Block, changes: Mapping[str, str] = _NOTHING) -> None:
    """Write a config to the file that its first line names."""
    name = re.match(r"# ([\w-]+\.yaml)\b", block.text)
    assert name is not None, f"{block} does not begin with the name of its file."
    Path(name[1]).write_text(block.changed(changes), encoding="utf-8")


def run_python(block: Block, names: dict | None = None, changes: Mapping[str, str] = _NOTHING) -> dict:
    """Run a Python block and return its names."""
    names = {} if names is None else names
    exec(compile(block.changed(changes), str(block), "exec"), names)
    return names


def run_commands(
    block: Block,
    changes: Mapping[str, str] = _NOTHING,
    programs: Mapping[str, Callable[[list[str]], int]] = _PROGRAMS,
) -> None:
    """Run the commands of a block in the working folder, and check that each succeeds.

    Args:
        block: The block.
        changes: What to put in another's place, such as a small encoder in that of a large one.
        programs: By the words that a command begins with, the function that it runs in this process. The lines between
            such commands go to a shell together.
    """
    for program, lines in groupby(_lines(block.changed(changes)), lambda line: _program_of(line, programs)):
        if program is None:
            _run_in_shell("\n".join(lines), block)
            continue
        for line in lines:
            arguments = shlex.split(line.removeprefix(program), comments=True)
            assert programs[program](arguments) == 0, f"{block}: {line}"


def _lines(text: str) -> list[str]:
    """Return the lines that do something, whole where they go on behind a backslash."""
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def _program_of(line: str, programs: Mapping[str, object]) -> str | None:
    return next((program for program in programs if line.startswith(f"{program} ")), None)


def _run_in_shell(script: str, block: Block) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{block}: {script}\n{done.stderr[-4000:]}"
