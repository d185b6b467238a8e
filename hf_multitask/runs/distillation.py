"""The teacher of a run and its unlabeled rows."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data import DataConfig
from ..freezing.distillation import TEMPERATURE
from ..models import TaskConfig
from ..models.field_types import check_fields
from ..training.distillation import Distillation


@dataclasses.dataclass
class DistillConfig:
    """Teacher of a run, whose scores the model learns besides the labels.

    Args:
        teacher: Folder or hub name of a multi-task model, or of a stock model for token or sequence classification
            with the labels of one task; several are an ensemble. See `add_teacher_targets`.
        data: Unlabeled rows, which the teacher labels: a file, a dataset of ``datasets`` or a list of rows. Labels in
            them are ignored. They are mixed with the training rows, which the teacher scores too.
        temperature: See `Distillation`.
        weight: See `Distillation`.
        tasks: See `Distillation`.

    Raises:
        ValueError: If a value is not allowed.
    """

    teacher: str | list[str]
    # `Any`, so that `DataConfig` and not the strict type check reports a wrong value.
    data: Any = None
    temperature: int | float = TEMPERATURE
    weight: int | float = 1.0
    tasks: list[str] | dict[str, int | float] | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        check_fields(self)
        if not self.teacher:
            raise ValueError("distill.teacher is empty; expected a folder, a hub name or a list of them.")
        try:
            self.settings()
        except ValueError as error:
            raise ValueError(f"distill.{error}") from error
        if self.data is not None:
            DataConfig(train=self.data)

    @property
    def teachers(self) -> list[str]:
        """The teachers, also if there is only one."""
        return [self.teacher] if isinstance(self.teacher, str) else self.teacher

    def settings(self) -> Distillation:
        """Return the settings of the trainer."""
        return Distillation(self.temperature, self.weight, self.tasks)

    def check_run(self, tasks: Sequence[TaskConfig], configs: Sequence[DataConfig]) -> None:
        """Raise if the tasks or the data of a run cannot be distilled.

        Args:
            tasks: Tasks of the run.
            configs: Datasets of the run.

        Raises:
            ValueError: If a task is unknown, the training rows are streamed, or the run is a cross-validation.
        """
        try:
            self.settings().weights(tasks)
        except ValueError as error:
            raise ValueError(f"distill.{error}") from error
        if any(config.streams_train for config in configs):
            raise ValueError("distill: a teacher scores all rows before the training; leave out data.streaming.")
        if any(config.folds is not None for config in configs):
            raise ValueError("distill: a teacher may have been trained on the rows of a fold; leave out data.folds.")


def resolve_distill_paths(values: Any, folder: Path) -> None:
    """Resolve the teachers and the unlabeled rows of a config against its folder, in place.

    Args:
        values: Value of ``distill`` in the config.
        folder: Folder of the config.
    """
    if not isinstance(values, dict):
        return
    teacher = values.get("teacher")
    if isinstance(teacher, list):
        values["teacher"] = [_resolved(name, folder) for name in teacher]
    elif teacher is not None:
        values["teacher"] = _resolved(teacher, folder)
    if isinstance(values.get("data"), str):
        values["data"] = str(folder / values["data"])


def _resolved(name: Any, folder: Path) -> Any:
    """Return the path of a folder, and any other value as it is: a hub name."""
    return str(folder / name) if isinstance(name, str) and (folder / name).is_dir() else name
