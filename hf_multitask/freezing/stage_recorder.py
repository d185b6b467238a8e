"""Recorder of the stages of a run: their time, their memory, and ``stages.json``."""

import difflib
import time
from collections.abc import Sequence
from typing import Any

import psutil
import torch

from .replay import Transition
from .run_setup import RunSetup
from .schedule import FreezeSchedule
from .stage_results import write_stage_results

# Key of the record in the trainer's state, and so in every checkpoint.
STATE_KEY = "freeze_schedule"


class StageRecorder:
    """Measures the stages of a run and writes their results.

    The measurements are part of the trainer's state, so a resumed run continues them.

    Args:
        setup: The schedule and the objects of the training.
    """

    def __init__(self, setup: RunSetup) -> None:
        self.setup = setup
        self.records: dict[str, dict[str, float]] = {}
        self._last_time = time.perf_counter()

    def begin(self) -> None:
        """Begin a record in the trainer's state, or continue the record of the run that is resumed.

        Raises:
            ValueError: If the run that is resumed had another schedule.
        """
        schedule, state = self.setup.schedule, self.setup.state
        # TrainerState makes a mapping of the callbacks that it is annotated with.
        states: dict[str, Any] = state.stateful_callbacks  # type: ignore[assignment]
        if state.global_step == 0:
            states[STATE_KEY] = {"schedule": schedule.to_dict(), "stages": {}}
        recorded = states.get(STATE_KEY)
        if recorded is None or recorded["schedule"] != schedule.to_dict():
            before = "" if recorded is None else FreezeSchedule.from_dict(recorded["schedule"]).to_yaml()
            changed = difflib.unified_diff(
                before.splitlines(), schedule.to_yaml().splitlines(), "checkpoint", "now", lineterm=""
            )
            found = "none" if recorded is None else "another one"
            raise ValueError(
                f"freeze schedule: the run that is resumed had {found}. Resume with the same, or start a new run.\n"
                + "\n".join(changed)
            )
        self.records = recorded["stages"]

    def measure_memory(self, stage: str) -> None:
        """Record a stage's peak memory: of the device, or the resident memory of the process without one."""
        on_device = self.setup.args.device.type == "cuda"
        used = torch.cuda.max_memory_allocated() if on_device else psutil.Process().memory_info().rss
        record = self._record(stage)
        record["peak_memory_bytes"] = max(record["peak_memory_bytes"], used)

    def count_seconds(self, stage: str) -> None:
        """Add the time since the last call to a stage."""
        now = time.perf_counter()
        self._record(stage)["seconds"] += now - self._last_time
        self._last_time = now

    def write(self, changes: Sequence[Transition]) -> None:
        """Write ``stages.json``.

        Args:
            changes: Changes of the run so far.
        """
        setup = self.setup
        if setup.args.should_save:
            write_stage_results(
                setup.folder, setup.schedule, setup.groups, changes, setup.state, setup.steps_per_epoch, self.records
            )

    def _record(self, stage: str) -> dict[str, float]:
        return self.records.setdefault(stage, {"seconds": 0.0, "peak_memory_bytes": 0})
