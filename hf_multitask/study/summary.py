"""Summary of a study's runs: scores over the seeds, differences with intervals, Pareto fronts and advice."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from ..freezing.stage import greater_is_better
from ..models import TaskConfig
from ..models.tasks import REGRESSION
from .advice import Differences, choose_scenario, summarize_advice
from .records import RunRecord, read_record
from .row_scores import RowScores, metric_name, spread_scores, stack_scores
from .statistics import Interval, bootstrap_scores, mean_and_sd, mean_difference, pareto_front, ratio_scores
from .study_plan import PlannedRun, StudyPlan
from .study_results import (
    HELD_OUT,
    Forgetting,
    Front,
    FrozenTask,
    RunResult,
    ScenarioResult,
    Score,
    SkippedRun,
    Study,
    Summary,
    Winner,
)

OVERALL = "mean of the tasks"
NOT_REACHED = "the study was stopped before this was trained"

Repeat: TypeAlias = tuple[int, int]
"""Seed and fold of a run."""


@dataclass
class RepeatScores:
    """Test scores of a scenario with one number of training rows, with a column per run.

    Args:
        repeats: Seed and fold of each run; the fold is 0 without folds.
        scores: Scores on the original rows (num_runs), by task or ``OVERALL``.
        resampled: Scores on resampled rows (resamples, num_runs), by task or ``OVERALL``. A resample contains the
            same rows in all scenarios.
    """

    repeats: list[Repeat]
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    resampled: dict[str, np.ndarray] = field(default_factory=dict)

    def difference(self, other: "RepeatScores", name: str) -> Interval | None:
        """Return the difference from another scenario's score over their common repeats, or None without any."""
        common = [repeat for repeat in self.repeats if repeat in other.repeats]
        if not common or name not in self.scores or name not in other.scores:
            return None
        mine, theirs = ([scores.repeats.index(repeat) for repeat in common] for scores in (self, other))
        return mean_difference(
            self.scores[name][mine],
            other.scores[name][theirs],
            self.resampled[name][:, mine],
            other.resampled[name][:, theirs],
        )


def summarize(plan: StudyPlan, tasks: Sequence[TaskConfig]) -> Study:
    """Summarize the runs of a study.

    Args:
        plan: The study. Runs that are not finished are left out.
        tasks: The tasks, with their labels.

    Returns:
        The results of the study.

    Raises:
        ValueError: If no run is finished.
    """
    records = [(run, record) for run in plan.runs if (record := read_record(plan, run)) is not None]
    if not records:
        raise ValueError("the study was stopped before its first run was finished: give it more time.")
    sizes = sorted({run.size for run, _ in records})
    scores = {size: score_scenarios(plan, records, tasks, size) for size in sizes}
    scenarios = []
    for scenario in plan.scenarios:
        results = [record.result for run, record in records if run.scenario == scenario]
        summaries = [
            _summarize(
                [result for result in results if result.size == size],
                scores[size][scenario.name],
                None if scenario == plan.scenarios[0] else scores[size].get(plan.scenarios[0].name),
                tasks,
            )
            for size in sizes
            if scenario.name in scores[size]
        ]
        scenarios.append(ScenarioResult(scenario.name, scenario.about, results, summaries))
    differences = {size: _overall_differences(scores[size]) for size in sizes}
    return Study(
        config={**plan.settings, "seeds": sorted({run.seed for run, _ in records}), "sizes": sizes},
        num_rows=plan.num_rows,
        tasks=list(tasks),
        main_metrics={task.name: metric_name(task) for task in tasks},
        scenarios=scenarios,
        pareto=[Front(size, _front(scenarios, size)) for size in sizes],
        advice=summarize_advice(
            scenarios, differences, plan.num_rows[HELD_OUT if plan.folds else "test"], len(plan.folds)
        ),
        skipped=[*plan.skipped, *_left_out(plan, records)],
        winner=_winner(plan, choose_scenario(scenarios, differences)),
        folder=plan.folder,
    )


def _left_out(plan: StudyPlan, records: Sequence[tuple[PlannedRun, RunRecord]]) -> list[SkippedRun]:
    """Return the scenarios of which no run was finished before the study was stopped."""
    finished = {(run.scenario.name, run.size) for run, _ in records}
    planned = dict.fromkeys((run.scenario.name, run.size) for run in plan.runs)
    return [
        {"scenario": name, "size": size, "reason": NOT_REACHED}
        for name, size in planned
        if (name, size) not in finished
    ]


def _winner(plan: StudyPlan, name: str | None) -> Winner | None:
    """Return how the scenario with a name trains on the most rows."""
    runs = [run for run in plan.runs if run.scenario.name == name]
    if not runs:
        return None
    run = max(runs, key=lambda run: run.size)
    return Winner(run.scenario.name, run.freeze, run.scenario.one_rate, run.scenario.starts_from)


def score_scenarios(
    plan: StudyPlan, records: Sequence[tuple[PlannedRun, RunRecord]], tasks: Sequence[TaskConfig], size: int
) -> dict[str, RepeatScores]:
    """Score the scenarios with one number of training rows, resampling the test rows of all runs together.

    Args:
        plan: The study.
        records: Finished runs, with their records.
        tasks: The tasks.
        size: Number of training rows; runs with others are left out.

    Returns:
        Scores by name of the scenario, of those that have runs.
    """
    by_scenario: dict[str, dict[Repeat, Mapping[str, RowScores]]] = {scenario.name: {} for scenario in plan.scenarios}
    for run, record in records:
        if run.size == size:
            by_scenario[run.scenario.name][run.seed, run.fold or 0] = _rows_of_study(plan, run, record)
    scores = {name: RepeatScores(sorted(by_repeat)) for name, by_repeat in by_scenario.items() if by_repeat}
    for task in tasks:
        runs = [
            (name, by_scenario[name][repeat][task.name])
            for name in scores
            for repeat in scores[name].repeats
            if task.name in by_scenario[name][repeat]
        ]
        if not runs:
            continue
        numerators, denominators = stack_scores([rows for _, rows in runs])
        original = ratio_scores(numerators.sum(axis=1), denominators.sum(axis=1))
        # The seed of the draws is the same for all tasks, so that they are scored on the same rows.
        resampled = bootstrap_scores(numerators, denominators)
        for name, of_scenario in scores.items():
            columns = [i for i, (owner, _) in enumerate(runs) if owner == name]
            if columns:
                of_scenario.scores[task.name] = original[columns]
                of_scenario.resampled[task.name] = resampled[:, columns]
    for of_scenario in scores.values():
        _add_overall(of_scenario, tasks)
    return scores


def _rows_of_study(plan: StudyPlan, run: PlannedRun, record: RunRecord) -> Mapping[str, RowScores]:
    """Return the scores of a run by task; with folds, among the rows of all folds, so that runs can be compared."""
    if run.fold is None:
        return record.rows
    rows, num_rows = plan.folds[run.fold], plan.num_rows[HELD_OUT]
    return {task: spread_scores(scores, rows, num_rows) for task, scores in record.rows.items()}


def _add_overall(scores: RepeatScores, tasks: Sequence[TaskConfig]) -> None:
    """Add the mean over the tasks if the scenario trains all of them."""
    # Errors of regression tasks have other units than accuracy and F1, so they count only if there is nothing else.
    averaged = [task.name for task in tasks if task.problem_type != REGRESSION] or [task.name for task in tasks]
    # A mean of errors is negated, so that higher is better.
    sign = 1 if greater_is_better(metric_name(next(task for task in tasks if task.name == averaged[0]))) else -1
    if all(name in scores.scores for name in averaged):
        scores.scores[OVERALL] = sign * np.mean([scores.scores[name] for name in averaged], axis=0)
        scores.resampled[OVERALL] = sign * np.mean([scores.resampled[name] for name in averaged], axis=0)


def _overall_differences(scores: Mapping[str, RepeatScores]) -> Differences:
    """Return the difference in overall score of each scenario from each other one."""
    overall = {name: of_scenario for name, of_scenario in scores.items() if OVERALL in of_scenario.scores}
    return {
        (one, other): overall[one].difference(overall[other], OVERALL)
        for one in overall
        for other in overall
        if one != other
    }


def _summarize(
    runs: Sequence[RunResult], scores: RepeatScores, baseline: RepeatScores | None, tasks: Sequence[TaskConfig]
) -> Summary:
    """Summarize the runs of a scenario with one number of training rows, and compare its scores with a baseline's."""

    def score(name: str, metric: str) -> Score:
        mean, sd = mean_and_sd(scores.scores[name].tolist())
        return Score(metric, mean, sd, None if baseline is None else scores.difference(baseline, name))

    gaps = [run.loss_gap for run in runs if run.loss_gap is not None]
    cosines = [run.lowest_cosine for run in runs if run.lowest_cosine is not None]
    return Summary(
        size=runs[0].size,
        seeds=sorted({seed for seed, _ in scores.repeats}),
        scores={task.name: score(task.name, metric_name(task)) for task in tasks if task.name in scores.scores},
        overall=score(OVERALL, OVERALL) if OVERALL in scores.scores else None,
        seconds=statistics.fmean(run.seconds for run in runs),
        total_seconds=statistics.fmean(run.total_seconds for run in runs),
        peak_memory_bytes=max(run.peak_memory_bytes for run in runs),
        trainable_parameters=max(run.trainable_parameters for run in runs),
        drift={kind: statistics.fmean(run.drift[kind] for run in runs) for kind in runs[0].drift},
        forgetting={task: _mean_forgetting([run.forgetting[task] for run in runs]) for task in runs[0].forgetting},
        frozen_task=_mean_frozen([run.frozen_task for run in runs if run.frozen_task is not None]),
        loss_gap=statistics.fmean(gaps) if gaps else None,
        lowest_cosine=statistics.fmean(cosines) if cosines else None,
        out_of_time=sum(run.out_of_time for run in runs),
    )


def _mean_forgetting(values: Sequence[Forgetting]) -> Forgetting:
    from_start = [value.from_start for value in values if value.from_start is not None]
    return Forgetting(
        statistics.fmean(value.from_best for value in values), statistics.fmean(from_start) if from_start else None
    )


def _mean_frozen(values: Sequence[FrozenTask]) -> FrozenTask | None:
    if not values:
        return None
    before = statistics.fmean(value.before for value in values)
    after = statistics.fmean(value.after for value in values)
    return FrozenTask(values[0].task, before, after)


def _front(scenarios: Sequence[ScenarioResult], size: int) -> list[str]:
    points = {}
    for scenario in scenarios:
        summary = scenario.summary_of(size)
        if summary is not None and summary.overall is not None:
            points[scenario.name] = (summary.total_seconds, summary.overall.mean)
    return pareto_front(points)
