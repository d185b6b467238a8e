"""Results of a study, as ``study.json`` contains them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypedDict

from ..models import TaskConfig
from ..models.table_repr import ReprTable, ShownAsTable
from ..models.type_aliases import JsonObject
from ..runtime.atomic_files import write_json
from .statistics import Interval

STUDY_NAME = "study.json"
# Name of the rows of all folds among the numbers of rows, in place of validation and test.
HELD_OUT = "held out"


class SkippedRun(TypedDict):
    """A scenario that cannot be run with a number of training rows, and the reason."""

    scenario: str
    size: int
    reason: str


@dataclass(frozen=True)
class Forgetting:
    """Drop in the main metric of a task on validation; negative if the metric improved.

    Args:
        from_best: Best value in any evaluation of the run minus the value of the final weights.
        from_start: Value of the trained model that the run started from minus the value of the final weights. None if
            the run started from an encoder.
    """

    from_best: float
    from_start: float | None


@dataclass(frozen=True)
class FrozenTask:
    """Main metric on test of a task whose head was frozen throughout.

    Args:
        task: Name of the task.
        before: Value of the model that the run started from.
        after: Value of the final weights.
    """

    task: str
    before: float
    after: float


@dataclass(frozen=True)
class RunResult:
    """Result of one training run.

    The final weights are the weights of the best epoch if the run restores them, else the weights of the last step.

    Args:
        size: Number of training rows.
        seed: Seed.
        metrics: Metrics of the final weights, by split.
        seconds: Training time in seconds, with evaluations on validation and without the evaluation on test.
        total_seconds: Training time including the model that the run started from.
        peak_memory_bytes: Peak memory during training, in bytes: memory of the device, or resident memory of the
            process without a device.
        trainable_parameters: Number of trainable parameters, in the stage with the most.
        parameters: Number of parameters.
        epochs: Number of epochs trained.
        kept_epoch: Epoch of the final weights; None if nothing was trained.
        out_of_time: Whether the time limit ended the run.
        drift: Change of the encoder's states on validation rows: mean of 1 − cosine, for ``pooled`` and ``tokens``.
        forgetting: Forgetting by task.
        frozen_task: Scores of the task whose head was frozen throughout, if any.
        loss_gap: Validation loss minus mean training loss of the kept epoch; None if either is unknown.
        history: File with ``history``, ``stages`` and ``tasks``, relative to the folder of the study.
        model: Folder of the model, relative to the folder of the study; None if the model was not kept.
        fold: Fold that was held out, from 0; its rows are validation and test. None without folds.
        lowest_cosine: Lowest mean cosine of the gradients of two tasks; None without ``conflict_steps``.
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
    fold: int | None = None
    lowest_cosine: float | None = None

    @classmethod
    def from_dict(cls, values: JsonObject) -> "RunResult":
        """Build a result from the output of ``dataclasses.asdict``."""
        return cls(**{**values, **_parse_shared(values)})


@dataclass(frozen=True)
class Score:
    """A score on test over the seeds; with folds, on the held-out rows over folds and seeds.

    Args:
        metric: Name of the metric.
        mean: Mean over the runs.
        sd: Sample standard deviation; None with one run.
        difference: Difference from the first scenario, paired by row, seed and fold; None for the first scenario.
    """

    metric: str
    mean: float
    sd: float | None
    difference: Interval | None = None


@dataclass(frozen=True)
class Summary:
    """Results of a scenario with one number of training rows. Values are means over the seeds unless stated otherwise.

    Args:
        size: Number of training rows.
        seeds: Seeds.
        scores: Main metric on test by task.
        overall: Mean of the scores over the tasks; None if the scenario does not train all tasks.
        seconds: Training time in seconds.
        total_seconds: Training time including the model that the run started from.
        peak_memory_bytes: Peak memory in bytes, the highest of the seeds.
        trainable_parameters: Number of trainable parameters, the most of any stage and seed.
        drift: Drift of the encoder's states.
        forgetting: Forgetting by task.
        frozen_task: Scores of the task whose head was frozen throughout, if any.
        loss_gap: Validation loss minus training loss.
        out_of_time: Number of runs that the time limit ended.
        lowest_cosine: Lowest mean cosine of the gradients of two tasks; None without ``conflict_steps``.
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
    lowest_cosine: float | None = None


@dataclass(frozen=True)
class ScenarioResult:
    """Results of a scenario.

    Args:
        name: Name of the scenario.
        about: Description, as a phrase.
        runs: Its runs.
        summary: Summaries by number of training rows, ascending.
    """

    name: str
    about: str
    runs: list[RunResult]
    summary: list[Summary]

    def summary_of(self, size: int) -> Summary | None:
        """Return the summary for a number of training rows, or None if the scenario has no such run."""
        return next((item for item in self.summary if item.size == size), None)


@dataclass(frozen=True)
class Front:
    """Pareto front for one number of training rows: the scenarios that no other beats in time and overall score.

    Args:
        size: Number of training rows.
        scenarios: Names of the scenarios, fastest first.
    """

    size: int
    scenarios: list[str]


@dataclass(frozen=True)
class Winner:
    """The scenario that the advice names, with what it takes to train it again.

    Args:
        scenario: Name of the scenario.
        freeze: Value of the config's ``freeze`` for a run with all training rows.
        one_rate: Whether the heads train at the learning rate of the encoder.
        starts_from: Scenario whose model it starts from; None if it starts from the encoder.
    """

    scenario: str
    freeze: str | JsonObject
    one_rate: bool
    starts_from: str | None


@dataclass(frozen=True, repr=False)
class Study(ShownAsTable):
    """Results of a study. Printed as a table of the scores.

    Args:
        config: Settings that all runs share, and the seeds and sizes.
        num_rows: Number of rows by split.
        tasks: The tasks, with their labels.
        main_metrics: Name of the main metric by task.
        scenarios: Results of the scenarios. The first is the one that the others are compared with.
        pareto: Pareto fronts by number of training rows.
        advice: Advice drawn from the results, as one paragraph.
        skipped: Scenarios that could not be run, by number of training rows.
        winner: The cheapest scenario that may be the best; None without advice.
        folder: Folder of the study.
    """

    config: JsonObject
    num_rows: dict[str, int]
    tasks: list[TaskConfig]
    main_metrics: dict[str, str]
    scenarios: list[ScenarioResult]
    pareto: list[Front]
    advice: str
    skipped: list[SkippedRun] = field(default_factory=list)
    winner: Winner | None = None
    folder: Path = Path()

    def repr_tables(self) -> list[ReprTable]:
        """Return a table of the scores for each number of training rows; the advice is in ``advice``."""
        header = ("scenario", *(self.main_metrics[task.name] for task in self.tasks), "mean of the tasks", "seconds")
        return [
            ReprTable(
                f"Study with {size:,} training rows, scored on {self.scored_rows}",
                header,
                [
                    [
                        scenario.name,
                        *(_mean(summary.scores.get(task.name)) for task in self.tasks),
                        _mean(summary.overall),
                        f"{summary.seconds:,.1f}",
                    ]
                    for scenario, summary in self.summaries(size)
                ],
            )
            for size in self.sizes
        ]

    @property
    def sizes(self) -> list[int]:
        """Numbers of training rows, ascending."""
        return sorted({item.size for scenario in self.scenarios for item in scenario.summary})

    @property
    def has_folds(self) -> bool:
        """Whether the runs are scored on the folds that they hold out, instead of on test."""
        return HELD_OUT in self.num_rows

    @property
    def scored_rows(self) -> str:
        """The rows that the runs are scored on, as a phrase."""
        return "the held-out folds" if self.has_folds else "test"

    @property
    def repeats(self) -> str:
        """What the runs of a scenario differ in, as a phrase."""
        return "folds and seeds" if self.has_folds else "the seeds"

    def summaries(self, size: int) -> list[tuple[ScenarioResult, Summary]]:
        """Return the scenarios that have runs with a number of training rows, each with its summary."""
        return [
            (scenario, summary) for scenario in self.scenarios if (summary := scenario.summary_of(size)) is not None
        ]

    def front(self, size: int) -> Sequence[str]:
        """Return the names of the scenarios on the Pareto front for a number of training rows."""
        return next((front.scenarios for front in self.pareto if front.size == size), [])

    def save(self) -> None:
        """Write ``study.json`` into the folder."""
        values = asdict(self)
        del values["folder"]
        write_json(self.folder / STUDY_NAME, values)


def _mean(score: Score | None) -> str:
    if score is None:
        return ""
    return f"{score.mean:.4f}" + ("" if score.sd is None else f" ± {score.sd:.4f}")


def load_study(folder: str | Path) -> Study:
    """Load the results of a study.

    Args:
        folder: Folder of the study, with ``study.json``.

    Returns:
        The study.

    Raises:
        FileNotFoundError: If there is no ``study.json``, for example because the study is not finished.
        ValueError: If the file is not a study.
    """
    path = Path(folder, STUDY_NAME)
    if not path.is_file():
        raise FileNotFoundError(f"{str(folder)!r} has no {STUDY_NAME}: it contains no study, or an unfinished one.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Study(
            **{
                **values,
                "tasks": [TaskConfig.from_dict(task) for task in values["tasks"]],
                "scenarios": [_parse_scenario(item) for item in values["scenarios"]],
                "pareto": [Front(**item) for item in values["pareto"]],
                # Studies of earlier versions have none.
                "winner": Winner(**values["winner"]) if values.get("winner") else None,
                "folder": Path(folder),
            }
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: is not a study: {error!r}.") from error


def _parse_scenario(values: JsonObject) -> ScenarioResult:
    runs = [RunResult.from_dict(item) for item in values["runs"]]
    return ScenarioResult(values["name"], values["about"], runs, [_parse_summary(item) for item in values["summary"]])


def _parse_summary(values: JsonObject) -> Summary:
    overall = values["overall"]
    parsed = {
        "scores": {task: _parse_score(item) for task, item in values["scores"].items()},
        "overall": None if overall is None else _parse_score(overall),
    }
    return Summary(**{**values, **_parse_shared(values), **parsed})


def _parse_shared(values: JsonObject) -> JsonObject:
    """Return the dataclasses among the fields that a run and a summary share."""
    frozen = values["frozen_task"]
    return {
        "forgetting": {task: Forgetting(**item) for task, item in values["forgetting"].items()},
        "frozen_task": None if frozen is None else FrozenTask(**frozen),
    }


def _parse_score(values: JsonObject) -> Score:
    difference = values["difference"]
    return Score(**{**values, "difference": None if difference is None else Interval(**difference)})
