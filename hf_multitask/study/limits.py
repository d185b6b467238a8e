"""End of a study before all of its runs are trained: its time is up, or somebody asks it to stop."""

import time
from dataclasses import dataclass
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..runtime.extras import check_packages

STOP_NAME = "stop"


class TimeIsUpError(Exception):
    """The time of the study is up in the middle of a run, which is left out."""


def check_call(processes: int, time_budget: float | None, ray_address: str | None) -> None:
    """Check how a study is to be trained; see `run_study` for the arguments.

    Raises:
        ValueError: If a number is out of range.
        ImportError: If Ray is needed and missing.
    """
    if processes < 1:
        raise ValueError(f"processes must be at least 1, found {processes}.")
    if time_budget is not None and not time_budget > 0:
        raise ValueError(f"time_budget must be above 0 minutes, found {time_budget}.")
    if ray_address is not None:
        check_packages("ray", "a study on a cluster")


@dataclass(frozen=True)
class StudyLimit:
    """Limit of a study. It can be sent to another process of the same machine.

    Args:
        stop_file: File whose existence asks the study to stop after the runs in progress.
        end: Time of `time.time` at which the time of the study is up, if it is limited.
    """

    stop_file: Path
    end: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether the time of the study is up."""
        return self.end is not None and time.time() >= self.end

    @property
    def may_begin(self) -> bool:
        """Whether another run may begin."""
        return not self.is_over and not self.stop_file.exists()


class StudyLimitCallback(TrainerCallback):
    """Callback that ends a run when the time of the study is up.

    Args:
        limit: Limit of the study.
    """

    def __init__(self, limit: StudyLimit) -> None:
        self.limit = limit

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """End the run if the time is up.

        Raises:
            TimeIsUpError: If it is.
        """
        if self.limit.is_over:
            raise TimeIsUpError
