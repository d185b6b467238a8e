"""Kill training runs at random moments, resume them, and compare them with uninterrupted ones, bit for bit.

``python scripts/kill_campaign.py --kills 200`` trains series of tiny runs, each in a process that SIGKILL ends. A
difference in weights, in the state of the optimizer, in the history or in the metrics is printed, and so is a run that
cannot be resumed; the exit code is 1 then. Ctrl+C ends the campaign with the table of results.
"""

import argparse
import os

# Before torch is imported. Processes are forked, which needs a parent without threads. On some processors, MKL rounds
# by where arrays lie in memory unless it is told not to.
os.environ.update(OMP_NUM_THREADS="1", MKL_CBWR="AUTO,STRICT", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")

import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import transformers
from killing.comparison import PARTS, compare
from killing.runs import CHANGES_NAME, LOG_NAME, Kill, Length, run
from killing.series import SERIES, config_of, write_inputs

# Kills of one run before it may end.
MAX_KILLS = 4


@dataclass
class Result:
    """Counts of a series.

    Args:
        runs: Number of runs that were killed and resumed.
        kills: Number of kills.
        failed: Number of runs that could not be resumed.
        differing: Number of runs that differ, by part.
    """

    runs: int = 0
    kills: int = 0
    failed: int = 0
    differing: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PARTS, 0))

    @property
    def is_good(self) -> bool:
        """Whether no run has failed or differs."""
        return not self.failed and not any(self.differing.values())


class Series:
    """Runs of one config.

    Args:
        name: Name of the series.
        folder: Folder of its runs.
        inputs: Folder of the encoder and the rows.
    """

    def __init__(self, name: str, folder: Path, inputs: Path) -> None:
        self.name = name
        self.folder = folder
        self.inputs = inputs
        self.result = Result()
        self._length: Length | None = None

    @property
    def whole(self) -> Path:
        """Folder of the uninterrupted run."""
        return self.folder / "whole"

    def length(self) -> Length:
        """Return the length of the uninterrupted run, which the first call trains.

        Raises:
            RuntimeError: If it fails.
        """
        if self._length is None:
            start = time.monotonic()
            if run(self._config(self.whole)) != 0:
                raise RuntimeError(f"{self.name}: the uninterrupted run failed:\n{read_end(self.whole / LOG_NAME)}")
            changes = json.loads((self.whole / CHANGES_NAME).read_text())
            self._length = Length(time.monotonic() - start, changes)
        return self._length

    def kill_one(self, generator: random.Random, max_kills: int) -> None:
        """Kill a run a few times at random moments, resume it to its end, compare it, and print what differs."""
        length = self.length()
        folder = self.folder / str(self.result.runs)
        config = self._config(folder)
        status = -signal.SIGKILL
        kills: list[Kill] = []
        for _ in range(generator.randint(1, max_kills)):
            kill = length.draw(generator)
            status = run(config, kill)
            if status != -signal.SIGKILL:
                break
            kills.append(kill)
        if status == -signal.SIGKILL:
            status = run(config)
        self.result.runs += 1
        self.result.kills += len(kills)
        if status != 0:
            self.result.failed += 1
            print(f"{self.name}: failed after {kills}:\n{read_end(folder / LOG_NAME)}", flush=True)
            return
        differences = compare(self.whole, folder)
        for part, names in differences.items():
            self.result.differing[part] += bool(names)
            if names:
                print(f"{self.name}: {part} after {kills}, {folder}: {len(names)} differ\n  " + "\n  ".join(names[:5]))
        if not any(differences.values()):
            print(f"{self.name}: equal after {len(kills)} kills", flush=True)
            shutil.rmtree(folder)

    def _config(self, folder: Path) -> dict[str, object]:
        folder.mkdir(parents=True, exist_ok=True)
        return config_of(self.name, self.inputs, folder / "out", folder / "states")


def read_end(path: Path, lines: int = 25) -> str:
    """Return the last lines of a file."""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def table(series: Sequence[Series]) -> Iterator[str]:
    """Yield the lines of the table of results."""
    width = max(len(one.name) for one in series) + 2
    names = ("runs", "kills", "failed", *PARTS)
    yield f"{'series':<{width}}" + "".join(f"{name:>11}" for name in names)
    rows = [(one.name, one.result) for one in series if one.result.runs]
    counts = [(name, [r.runs, r.kills, r.failed, *r.differing.values()]) for name, r in rows]
    for name, numbers in [*counts, ("all", [sum(column) for column in zip(*(row for _, row in counts), strict=True)])]:
        yield f"{name:<{width}}" + "".join(f"{number:>11}" for number in numbers)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign; return 1 if a run failed or differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="kills after which to end (default: %(default)s)")
    parser.add_argument("--minutes", type=float, help="minutes after which to end at the latest")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default: %(default)s)")
    parser.add_argument("--series", nargs="+", choices=SERIES, default=list(SERIES), metavar="NAME", help="series")
    parser.add_argument("--folder", type=Path, help="folder for runs; those that differ stay (default: a new one)")
    arguments = parser.parse_args(argv)
    end = float("inf") if arguments.minutes is None else time.monotonic() + 60 * arguments.minutes
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="kill_campaign_"))
    folder = folder.resolve()
    transformers.logging.disable_progress_bar()
    write_inputs(folder / "inputs")
    generator = random.Random(arguments.seed)
    series = [Series(name, folder / name.replace(" ", "_"), folder / "inputs") for name in arguments.series]
    with suppress(KeyboardInterrupt):
        for one in cycle(series):
            left = arguments.kills - sum(other.result.kills for other in series)
            if left <= 0 or time.monotonic() > end:
                break
            one.kill_one(generator, min(MAX_KILLS, left))
    print("\n".join(table(series)))
    good = all(one.result.is_good for one in series)
    if good and arguments.folder is None:
        shutil.rmtree(folder)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
