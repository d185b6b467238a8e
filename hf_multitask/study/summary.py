"""From the records of runs to what a study gave."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..freezing.stage import greater_is_better
from ..models import TaskConfig
from ..models.tasks import REGRESSION
from .advice import summarize_advice
from .records import read_record
from .row_scores import as_arrays, metric_name
from .scenarios import Scenario
from .statistics import Interval, bootstrap_scores, mean_and_sd, mean_difference, pareto_front, ratio_scores
from .study_plan import PlannedRun, StudyPlan
from .study_results import Forgetting, Front, FrozenTask, RunResult, ScenarioResult, Score, Study, Summary

OVERALL = "mean of the tasks"


@dataclass
class Sample:
    """Scores of a scenario's runs on test, by task or ``OVERALL``, a column for each seed.

    Args:
        seeds: The seeds.
        scores: Scores on the rows as they are (num_seeds).
        resampled: Scores on resampled rows (resamples, num_seeds); a row is the same rows in all scenarios.
    """

    seeds: list[int]
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    resampled: dict[str, np.ndarray] = field(default_factory=dict)

    def difference(self, other: "Sample", name: str) -> Interval | None:
        """Return how far its score is from another scenario's, over the seeds of both; None without a common one."""
        common = [seed for seed in self.seeds if seed in other.seeds]
        if not common or name not in self.scores or name not in other.scores:
            return None
        mine, theirs = ([sample.seeds.index(seed) for seed in common] for sample in (self, other))
        return mean_difference(
            self.scores[name][mine],
            other.scores[name][theirs],
            self.resampled[name][:, mine],
            other.resampled[name][:, theirs],
        )


def summarise(plan: StudyPlan, tasks: Sequence[TaskConfig]) -> Study:
    """Gather the finished runs of a study.

    Args:
        plan: The study; all of its runs are finished.
        tasks: The tasks, with their labels.

    Returns:
        The study.
    """
    records = {(run.scenario.name, run.size, run.seed): _record(plan, run) for run in plan.runs}
    sizes = sorted({run.size for run in plan.runs})
    samples = {size: _samples(records, plan.scenarios, tasks, size) for size in sizes}
    scenarios = []
    for scenario in plan.scenarios:
        results = {key: _result(values) for key, values in records.items() if key[0] == scenario.name}
        summary = [
            _summary(
                [result for (_, of_size, _), result in results.items() if of_size == size],
                samples[size],
                scenario.name,
                plan.scenarios[0].name,
                tasks,
            )
            for size in sizes
            if scenario.name in samples[size]
        ]
        scenarios.append(ScenarioResult(scenario.name, scenario.about, list(results.values()), summary))
    fronts = [Front(size, _front(scenarios, size)) for size in sizes]
    overall = {size: {name: s for name, s in samples[size].items() if OVERALL in s.scores} for size in sizes}
    return Study(
        config={**plan.settings, "seeds": sorted({run.seed for run in plan.runs}), "sizes": sizes},
        num_rows=plan.num_rows,
        tasks=list(tasks),
        main_metrics={task.name: metric_name(task) for task in tasks},
        scenarios=scenarios,
        pareto=fronts,
        advice=summarize_advice(
            scenarios,
            {
                size: {
                    (one, other): found.difference(samples_of[other], OVERALL)
                    for one, found in samples_of.items()
                    for other in samples_of
                    if one != other
                }
                for size, samples_of in overall.items()
            },
            plan.num_rows["test"],
        ),
        skipped=list(plan.skipped),
        folder=plan.folder,
    )


def _record(plan: StudyPlan, run: PlannedRun) -> dict[str, Any]:
    values = read_record(plan, run)
    if values is None:
        raise ValueError(f"{run.name}: is not finished.")
    return values


def _result(values: Mapping[str, Any]) -> RunResult:
    return RunResult.from_dict({name: value for name, value in values.items() if name != "rows"})


def _samples(
    records: Mapping[tuple[str, int, int], Mapping[str, Any]],
    scenarios: Sequence[Scenario],
    tasks: Sequence[TaskConfig],
    size: int,
) -> dict[str, Sample]:
    """Resample the test rows of all runs of one size together."""
    samples = {}
    for scenario in scenarios:
        seeds = sorted(seed for name, of_size, seed in records if (name, of_size) == (scenario.name, size))
        if seeds:
            samples[scenario.name] = Sample(seeds)
    for task in tasks:
        runs = [
            (name, record["rows"][task.name])
            for name, sample in samples.items()
            for seed in sample.seeds
            if task.name in (record := records[name, size, seed])["rows"]
        ]
        if not runs:
            continue
        numerators, denominators = as_arrays([rows for _, rows in runs])
        scores = ratio_scores(numerators.sum(axis=1), denominators.sum(axis=1))
        # The seed is the same for all tasks, so that they are scored on the same rows.
        resampled = bootstrap_scores(numerators, denominators)
        for name, sample in samples.items():
            columns = [i for i, (owner, _) in enumerate(runs) if owner == name]
            if columns:
                sample.scores[task.name], sample.resampled[task.name] = scores[columns], resampled[:, columns]
    for sample in samples.values():
        _add_overall(sample, tasks)
    return samples


def _add_overall(sample: Sample, tasks: Sequence[TaskConfig]) -> None:
    """Add the mean over the tasks, where the scenario has all of them."""
    scored = [task.name for task in tasks if task.problem_type != REGRESSION] or [task.name for task in tasks]
    # Errors are worse where they are more: of regressions alone the mean is turned round.
    sign = 1 if greater_is_better(metric_name(next(task for task in tasks if task.name == scored[0]))) else -1
    if all(name in sample.scores for name in scored):
        sample.scores[OVERALL] = sign * np.mean([sample.scores[name] for name in scored], axis=0)
        sample.resampled[OVERALL] = sign * np.mean([sample.resampled[name] for name in scored], axis=0)


def _summary(
    runs: Sequence[RunResult], samples: Mapping[str, Sample], name: str, first: str, tasks: Sequence[TaskConfig]
) -> Summary:
    sample, base = samples[name], samples.get(first)

    def score(key: str, metric: str) -> Score:
        mean, sd = mean_and_sd(sample.scores[key].tolist())
        difference = None if name == first or base is None else sample.difference(base, key)
        return Score(metric, mean, sd, difference)

    gaps = [run.loss_gap for run in runs if run.loss_gap is not None]
    return Summary(
        size=runs[0].size,
        seeds=sample.seeds,
        scores={task.name: score(task.name, metric_name(task)) for task in tasks if task.name in sample.scores},
        overall=score(OVERALL, OVERALL) if OVERALL in sample.scores else None,
        seconds=statistics.fmean(run.seconds for run in runs),
        total_seconds=statistics.fmean(run.total_seconds for run in runs),
        peak_memory_bytes=max(run.peak_memory_bytes for run in runs),
        trainable_parameters=max(run.trainable_parameters for run in runs),
        drift={kind: statistics.fmean(run.drift[kind] for run in runs) for kind in runs[0].drift},
        forgetting={task: _mean_forgetting([run.forgetting[task] for run in runs]) for task in runs[0].forgetting},
        frozen_task=_mean_frozen([run.frozen_task for run in runs if run.frozen_task is not None]),
        loss_gap=statistics.fmean(gaps) if gaps else None,
        out_of_time=sum(run.out_of_time for run in runs),
    )


def _mean_forgetting(lost: Sequence[Forgetting]) -> Forgetting:
    from_start = [item.from_start for item in lost if item.from_start is not None]
    return Forgetting(
        statistics.fmean(item.from_best for item in lost), statistics.fmean(from_start) if from_start else None
    )


def _mean_frozen(found: Sequence[FrozenTask]) -> FrozenTask | None:
    if not found:
        return None
    before, after = (statistics.fmean(getattr(item, name) for item in found) for name in ("before", "after"))
    return FrozenTask(found[0].task, before, after)


def _front(scenarios: Sequence[ScenarioResult], size: int) -> list[str]:
    points = {}
    for scenario in scenarios:
        summary = scenario.summary_of(size)
        if summary is not None and summary.overall is not None:
            points[scenario.name] = (summary.total_seconds, summary.overall.mean)
    return pareto_front(points)
