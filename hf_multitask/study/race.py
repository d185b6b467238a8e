"""A race: scenarios that are trained with more and more rows while the worse ones drop out."""

import logging
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from accelerate import PartialState

from ..data import PreparedData
from ..freezing.stage import greater_is_better
from ..models import TaskConfig
from ..models.messages import unknown_name_message
from ..runs.config import RunConfig
from ..runs.config_file import config_to_yaml
from ..runtime.atomic_files import write_text
from .limits import STOP_NAME, StudyLimit, check_call
from .race_results import CONFIG_NAME as WINNER_NAME
from .race_results import Race, find_cheaper, negated, price_list, recommend
from .race_rungs import Length, Rung, RungResult, drop, is_worth, plan_rungs
from .records import explain_full_disk, read_record, write_settings
from .row_scores import metric_name
from .run_training import run_config
from .statistics import Interval
from .study_plan import ALL_ROWS, STATES_FOLDER, PlannedRun, StudyPlan, plan_study
from .study_results import RunResult
from .summary import OVERALL, RepeatScores, score_scenarios
from .workers import run_all

logger = logging.getLogger(__name__)

# What a study sets for all its trainings, and the config of the winner leaves as it was.
STUDY_FIELDS = (
    "disable_tqdm",
    "logging_strategy",
    "push_to_hub",
    "report_to",
    "save_only_model",
    "save_strategy",
    "save_total_limit",
    "store_dir",
    "store_frozen",
)


@dataclass(frozen=True)
class RaceProgress:
    """State of a race after a training.

    Args:
        rung: Number of the rung, from 1.
        num_rungs: Number of rungs at most.
        run: Name of the training.
        result: Its result.
        done: Number of finished trainings of the rung.
        of: Number of all trainings of the rung.
        minutes_left: Minutes until the time is up; None without a limit.
    """

    rung: int
    num_rungs: int
    run: str
    result: RunResult
    done: int
    of: int
    minutes_left: float | None


OnTraining = Callable[[RaceProgress], None]
OnRung = Callable[[RungResult], None]


def run_race(
    config: RunConfig,
    output: str | Path,
    scenarios: Sequence[str] | None = None,
    seeds: int = 3,
    size: int | str = ALL_ROWS,
    epochs: float | None = None,
    minutes: float | None = None,
    processes: int = 1,
    time_budget: float | None = None,
    main_task: str | None = None,
    on_training: OnTraining | None = None,
    on_rung: OnRung | None = None,
    stop_file: str | Path | None = None,
    ray_address: str | None = None,
) -> Race | None:
    """Let freezing scenarios race, and recommend one.

    All scenarios are trained with few rows first, or for few epochs. What is worse by a paired test drops out, at most
    the better half goes on with more of them, then with more seeds; see `race_rungs`. The highest score in the end is
    recommended. The trainings are those of a study, and the folder may contain one: what is trained is not trained
    again. The same call continues a race that was killed.

    Args:
        config: Config of an ordinary run. Its ``freeze`` and ``output_dir`` are not used.
        output: Folder of the race.
        scenarios: Names of scenarios that train all tasks from the encoder. Defaults to all of them.
        seeds: Greatest number of seeds, counted up from the seed of the config.
        size: Number of training rows of the full setting, or ``"all"``.
        epochs: See `run_study`.
        minutes: See `run_study`.
        processes: See `run_study`.
        time_budget: Time of this call in minutes, after which the race ends with what is finished. No limit if None.
        main_task: Task whose score decides. Defaults to the mean of the tasks.
        on_training: Called when a training is finished, and for each that was finished before.
        on_rung: Called with the result of each rung.
        stop_file: See `run_study`.
        ray_address: See `run_study`.

    Returns:
        The results; None in all but the main process of a launcher.

    Raises:
        ValueError: If config, data or arguments are invalid, ``output`` contains the study of another config, or the
            time was up before two scenarios were trained.
        FileExistsError: If ``output`` contains something else.
        ImportError: If Ray is needed and missing.
        OSError: If the disk is full, or a process was killed.
    """
    check_call(processes, time_budget, ray_address)
    end = None if time_budget is None else time.time() + 60 * time_budget
    plan, data = plan_study(config, output, scenarios, seeds, (size,), epochs, minutes, racing=True)
    names = [task.name for task in data.tasks]
    if main_task is not None and main_task not in names:
        raise ValueError(unknown_name_message("task", main_task, names))
    limit = StudyLimit(plan.folder / STOP_NAME if stop_file is None else Path(stop_file), end)
    is_main = PartialState().is_main_process
    write_settings(plan)
    course = _Course(plan, data, processes, limit, main_task, on_training, on_rung, is_main, ray_address)
    results = course.run()
    if not is_main:
        return None
    race = _summarize(course, results, config)
    with explain_full_disk(plan.folder):
        race.save()
        _write_winner(race)
    shutil.rmtree(plan.folder / STATES_FOLDER, ignore_errors=True)
    return race


class _Course:
    """The rungs of a race, one after the other. What drops out is a function of the records of finished trainings."""

    def __init__(
        self,
        plan: StudyPlan,
        data: PreparedData,
        processes: int,
        limit: StudyLimit,
        main_task: str | None,
        on_training: OnTraining | None,
        on_rung: OnRung | None,
        is_main: bool,
        ray_address: str | None,
    ) -> None:
        self.ray_address = ray_address
        self.plan, self.data, self.processes, self.limit = plan, data, processes, limit
        self.key = main_task or OVERALL
        self.on_training = on_training if is_main else None
        self.on_rung = on_rung if is_main else None
        lengths = sorted({run.length for run in plan.runs}, key=lambda length: length.passes)
        self.full = lengths[-1]
        self.rungs = plan_rungs(lengths, sorted({run.seed for run in plan.runs}))
        # Scores are higher for better scenarios, and errors are negated.
        task = next((task for task in data.tasks if task.name == main_task), None)
        self.sign = 1.0 if task is None or greater_is_better(metric_name(task)) else -1.0
        self.metric = OVERALL if task is None else metric_name(task)

    def run(self) -> list[RungResult]:
        """Train and judge the rungs, until one scenario is left, all is trained, or the limit is reached.

        Raises:
            ValueError: If the race was stopped before two scenarios were trained.
        """
        left = tuple(dict.fromkeys(run.scenario.name for run in self.plan.runs if run.length == self.full))
        full_passes = len(left) * self.full.passes * len(self.rungs[-1].seeds)
        results: list[RungResult] = []
        for number, rung in enumerate(self.rungs):
            if not is_worth(rung, results, len(left), full_passes):
                break
            result = self._judge(rung, left, self._train(number, rung, left))
            if result is not None:
                results.append(result)
                left = result.left
                if self.on_rung is not None:
                    self.on_rung(result)
            if not self.limit.may_begin:
                break
        if not results:
            raise ValueError("the race was stopped before two scenarios were trained: give it more time.")
        return results

    def _train(self, number: int, rung: Rung, left: Sequence[str]) -> list[PlannedRun]:
        """Train what is missing of a rung, and return all of its trainings."""
        runs = [
            run
            for run in self.plan.runs
            if run.length == rung.length and run.seed in rung.seeds and run.scenario.name in left
        ]
        done = 0

        def report(run: PlannedRun) -> None:
            nonlocal done
            done += 1
            record = read_record(self.plan, run)
            if self.on_training is not None and record is not None:
                end = self.limit.end
                minutes = None if end is None else max(end - time.time(), 0) / 60
                place = (number + 1, len(self.rungs), run.name, record.result, done, len(runs))
                self.on_training(RaceProgress(*place, minutes))

        run_all(replace(self.plan, runs=tuple(runs)), self.data, self.processes, report, self.limit, self.ray_address)
        return runs

    def _judge(self, rung: Rung, left: tuple[str, ...], runs: Sequence[PlannedRun]) -> RungResult | None:
        """Return the result of a rung, from its own trainings; None if fewer than two scenarios were trained."""
        records = [(run, record) for run in runs if (record := read_record(self.plan, run)) is not None]
        finished = {run.folder for run, _ in records}
        # A scenario counts when all of its trainings are finished, so that all means are of the same rows and seeds.
        unfinished = {run.scenario.name for run in runs if run.folder not in finished}
        records = [(run, record) for run, record in records if run.scenario.name not in unfinished]
        scored = score_scenarios(self.plan, records, self.data.tasks, rung.length.size)
        scored = {name: scores for name, scores in scored.items() if self.key in scores.scores}
        if len(scored) < 2:
            return None
        means = {name: self.sign * float(scores.scores[self.key].mean()) for name, scores in scored.items()}
        best = max(means, key=lambda name: means[name])
        times = {
            name: [record.result.total_seconds for run, record in records if run.scenario.name == name]
            for name in means
        }
        differences = {name: self._difference(scored[name], scored[best]) for name in means if name != best}
        return RungResult(
            rung=rung,
            entered=left,
            scores=means,
            seconds={name: statistics.fmean(values) for name, values in times.items()},
            best=best,
            differences=differences,
            dropped={} if unfinished else drop(means, differences, best),
            is_complete=not unfinished,
        )

    def _difference(self, scores: RepeatScores, others: RepeatScores) -> Interval:
        difference = scores.difference(others, self.key)
        if difference is None:  # all have the seeds of the rung
            raise ValueError("the scenarios of a rung have no seed in common.")
        return difference if self.sign > 0 else negated(difference)


def _summarize(course: _Course, results: list[RungResult], config: RunConfig) -> Race:
    # A rung that the end of the time has cut short compares some of those that are left only.
    result = next((result for result in reversed(results) if result.is_complete), results[-1])
    winner, runner_up = result.ranking[:2]
    difference = negated(result.differences[runner_up])
    plan = course.plan
    # A scenario that only the short trainings leave no room for is in the last rungs.
    trained = {run.scenario.name for run in plan.runs if run.length == course.full}
    return Race(
        metric=course.metric,
        winner=winner,
        runner_up=runner_up,
        cheaper=None if difference.low > 0 else find_cheaper(result),
        difference=difference,
        is_sure=difference.low > 0,
        recommendation=recommend(result, runner_up, difference, course.metric),
        prices=price_list(results, course.full),
        rungs=results,
        size=course.full.size,
        out_of_time=not course.limit.may_begin,
        skipped={item["scenario"]: item["reason"] for item in plan.skipped if item["scenario"] not in trained},
        config=_winner_config(plan, winner, course.full, config, course.data.tasks),
        folder=plan.folder,
    )


def _winner_config(
    plan: StudyPlan, winner: str, full: Length, config: RunConfig, tasks: Sequence[TaskConfig]
) -> RunConfig:
    """Return the config that trains the winner as the race did, with the user's choices of what to save and report."""
    run = next(run for run in plan.runs if run.scenario.name == winner and run.length == full)
    trained = run_config(plan, run, tasks, Path(config.output_dir))
    training = {name: value for name, value in trained.training.items() if name not in STUDY_FIELDS}
    training |= {name: config.training[name] for name in STUDY_FIELDS if name in config.training}
    return replace(trained, training=training, output_dir=config.output_dir)


def _write_winner(race: Race) -> None:
    """Write the config of the winner; rows in memory cannot be written, and then there is no file."""
    path = race.folder / WINNER_NAME
    try:
        write_text(path, config_to_yaml(race.config, race.folder, race.recommendation, ()))
    except ValueError as error:
        logger.info("%s is not written: %s", WINNER_NAME, error)
        path.unlink(missing_ok=True)
