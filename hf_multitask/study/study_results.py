"""What a study gave, as ``study.json`` holds it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..models import TaskConfig
from ..runtime.atomic_files import write_json
from .statistics import Interval

STUDY_NAME = "study.json"


@dataclass(frozen=True)
class Forgetting:
    """What a task lost, by its main metric on validation; below 0 where it gained.

    Args:
        from_best: Its best in any evaluation of the run, less that of the weights that were kept.
        from_start: That of the trained model that the run started from, less that of the weights that were kept; None
            where the run started from an encoder.
    """

    from_best: float
    from_start: float | None


@dataclass(frozen=True)
class FrozenTask:
    """A task whose head did not train, by its main metric on test.

    Args:
        task: Its name.
        before: In the model that the run started from.
        after: In the one it ended with.
    """

    task: str
    before: float
    after: float


@dataclass(frozen=True)
class RunResult:
    """What one training gave.

    Args:
        size: Training rows.
        seed: The seed.
        metrics: Metrics of the weights that were kept, by split.
        seconds: Time of the training: its evaluations included, that on test not.
        total_seconds: The same with that of the model it started from.
        peak_memory_bytes: Peak memory while it trained: of the device, or resident memory of the process without one.
        trainable_parameters: Weights that trained in the stage with the most of them.
        parameters: All weights.
        epochs: Epochs it trained.
        kept_epoch: The epoch whose weights were kept; None where nothing trained.
        out_of_time: Whether the time that it had was over before its epochs.
        drift: How far the encoder's states on validation moved: the mean of 1 − cosine, ``pooled`` and ``tokens``.
        forgetting: By task.
        frozen_task: Of a task whose head was frozen throughout.
        loss_gap: Validation loss less mean training loss of the epoch that was kept; None where either is unknown.
        history: File with ``history``, ``stages`` and ``tasks``, in the study's folder.
        model: Folder of the model in that of the study; None where it was not kept.
    """

    size: int
    seed: int
    metrics: dict[str, dict[str, float]]
    seconds: float
    total_seconds: float
    peak_memory_bytes: int
    trainable_parameters: int
    parameters: int
    epochs: float
    kept_epoch: float | None
    out_of_time: bool
    drift: dict[str, float]
    forgetting: dict[str, Forgetting]
    frozen_task: FrozenTask | None
    loss_gap: float | None
    history: str
    model: str | None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunResult":
        """Read what ``dataclasses.asdict`` has written."""
        frozen = values["frozen_task"]
        return cls(
            **{
                **values,
                "forgetting": {task: Forgetting(**item) for task, item in values["forgetting"].items()},
                "frozen_task": None if frozen is None else FrozenTask(**frozen),
            }
        )


@dataclass(frozen=True)
class Score:
    """A score on test over the seeds.

    Args:
        metric: Its name.
        mean: Its mean over the seeds.
        sd: Its standard deviation as a sample; None with one seed.
        difference: From the first scenario, paired by row and seed; None for the first itself.
    """

    metric: str
    mean: float
    sd: float | None
    difference: Interval | None = None


@dataclass(frozen=True)
class Summary:
    """What a scenario gave with one number of training rows, over the seeds; means where it does not say otherwise.

    Args:
        size: Training rows.
        seeds: The seeds.
        scores: By task its main metric on test.
        overall: The mean of these over the tasks; None where the scenario does not have all tasks.
        seconds: Time of the training.
        total_seconds: The same with that of the model it started from.
        peak_memory_bytes: The highest of the seeds.
        trainable_parameters: Weights that trained, the most of any stage and seed.
        drift: Drift of the encoder.
        forgetting: By task.
        frozen_task: Of a task whose head was frozen throughout.
        loss_gap: Validation loss less training loss.
        out_of_time: Runs whose time was over before their epochs.
    """

    size: int
    seeds: list[int]
    scores: dict[str, Score]
    overall: Score | None
    seconds: float
    total_seconds: float
    peak_memory_bytes: int
    trainable_parameters: int
    drift: dict[str, float]
    forgetting: dict[str, Forgetting]
    frozen_task: FrozenTask | None
    loss_gap: float | None
    out_of_time: int = 0


@dataclass(frozen=True)
class ScenarioResult:
    """What a scenario gave.

    Args:
        name: Its name.
        about: What it does, in words.
        runs: Its runs.
        summary: What they gave by number of training rows, ascending.
    """

    name: str
    about: str
    runs: list[RunResult]
    summary: list[Summary]

    def summary_of(self, size: int) -> Summary | None:
        """Return what it gave with a number of training rows; None where it has no run of that."""
        return next((item for item in self.summary if item.size == size), None)


@dataclass(frozen=True)
class Front:
    """The scenarios that no other beats in time and overall score.

    Args:
        size: Training rows.
        scenarios: Their names, the fastest first.
    """

    size: int
    scenarios: list[str]


@dataclass(frozen=True)
class Study:
    """What a study gave.

    Args:
        config: What all runs share, and what was done.
        num_rows: Rows by split.
        tasks: The tasks, with their labels.
        main_metrics: By task the name of the metric that stands for it.
        scenarios: The scenarios; the others are compared with the first.
        pareto: The scenarios that no other beats, by number of training rows.
        advice: What the data say to do.
        skipped: Runs that could not be: ``scenario``, ``size`` and ``reason``.
        folder: Folder that it lies in.
    """

    config: dict[str, Any]
    num_rows: dict[str, int]
    tasks: list[TaskConfig]
    main_metrics: dict[str, str]
    scenarios: list[ScenarioResult]
    pareto: list[Front]
    advice: str
    skipped: list[dict[str, Any]] = field(default_factory=list)
    folder: Path = Path()

    @property
    def sizes(self) -> list[int]:
        """The numbers of training rows, ascending."""
        return sorted({item.size for scenario in self.scenarios for item in scenario.summary})

    def front(self, size: int) -> Sequence[str]:
        """Return the names of the scenarios that no other beats with a number of training rows."""
        return next((front.scenarios for front in self.pareto if front.size == size), [])

    def save(self) -> None:
        """Write ``study.json`` into the folder."""
        values = asdict(self)
        del values["folder"]
        write_json(self.folder / STUDY_NAME, values)


def load_study(folder: str | Path) -> Study:
    """Read what a study gave.

    Args:
        folder: Folder of the study, with ``study.json``.

    Returns:
        The study.

    Raises:
        FileNotFoundError: If there is no ``study.json``, as where the study is not at its end.
        ValueError: If it is no study.
    """
    path = Path(folder, STUDY_NAME)
    if not path.is_file():
        raise FileNotFoundError(f"{str(folder)!r} has no {STUDY_NAME}: it holds no study, or one that goes on.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Study(
            **{
                **values,
                "tasks": [TaskConfig.from_dict(task) for task in values["tasks"]],
                "scenarios": [_scenario(item) for item in values["scenarios"]],
                "pareto": [Front(**item) for item in values["pareto"]],
                "folder": Path(folder),
            }
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: is no study: {error!r}.") from error


def _scenario(values: dict[str, Any]) -> ScenarioResult:
    runs = [RunResult.from_dict(item) for item in values["runs"]]
    return ScenarioResult(values["name"], values["about"], runs, [_summary(item) for item in values["summary"]])


def _summary(values: dict[str, Any]) -> Summary:
    overall, frozen = values["overall"], values["frozen_task"]
    return Summary(
        **{
            **values,
            "scores": {task: _score(item) for task, item in values["scores"].items()},
            "overall": None if overall is None else _score(overall),
            "forgetting": {task: Forgetting(**item) for task, item in values["forgetting"].items()},
            "frozen_task": None if frozen is None else FrozenTask(**frozen),
        }
    )


def _score(values: dict[str, Any]) -> Score:
    difference = values["difference"]
    return Score(**{**values, "difference": None if difference is None else Interval(**difference)})
