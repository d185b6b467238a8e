"""A whole study: from a config to ``study.json`` and its reports."""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from accelerate import PartialState

from ..runs.config import RunConfig
from ..runtime.extras import check_packages
from .limits import STOP_NAME, StudyLimit, check_call
from .records import explain_full_disk, read_record, write_settings
from .report import write_reports
from .study_plan import ALL_ROWS, STATES_FOLDER, PlannedRun, plan_study
from .study_results import RunResult, Study
from .summary import summarize
from .workers import run_all

OnRun = Callable[[str, RunResult, int, int], None]
"""Called when a run is finished, with its name, its result, the number of finished runs and the number of all."""


def run_study(
    config: RunConfig,
    output: str | Path,
    scenarios: Sequence[str] | None = None,
    seeds: int = 3,
    sizes: Sequence[int | str] = (ALL_ROWS,),
    epochs: float | None = None,
    minutes: float | None = None,
    processes: int = 1,
    on_run: OnRun | None = None,
    time_budget: float | None = None,
    stop_file: str | Path | None = None,
    alone: bool = False,
    ray_address: str | None = None,
) -> Study | None:
    """Train freezing scenarios with the same data, seeds and budget, and compare them.

    Finished runs are kept: the same call continues a study that was killed, and more scenarios, seeds or sizes add
    runs to it.

    Args:
        config: Config of an ordinary run. Its ``freeze`` and ``output_dir`` are not used.
        output: Folder of the study.
        scenarios: Names of scenarios. The others are compared with the first. Defaults to all of `list_scenarios`.
        seeds: Number of seeds, counted up from the seed of the config.
        sizes: Numbers of training rows, or ``"all"``. Larger subsets contain the smaller ones, and each has the share
            of every label.
        epochs: Number of epochs of each run. Defaults to the epochs or steps of the config.
        minutes: Time limit of a run in minutes. A run that reaches it ends with an evaluation. Epochs and
            learning-rate schedule stay as without a limit.
        processes: Number of processes that train runs in parallel; under a launcher, per process of the launcher.
        on_run: Called when a run is finished, and for each run that was finished before.
        time_budget: Time of this call in minutes, after which no other run begins, and the run in progress is stopped
            and left out. Each scenario gets its first seed before any gets its second. No limit if None.
        stop_file: File that asks the study to stop when somebody creates it: the runs in progress are finished, and
            the results are those of the finished runs. Defaults to ``stop`` in the folder of the study.
        alone: Whether each task is trained by itself too, on the same rows, to see what it gains or loses by sharing
            the encoder. Without ``scenarios``, everything trains together in the only other scenario.
        ray_address: Address of a cluster of Ray, or ``"auto"`` for the one of this machine. Each training is a task of
            it with its share of cores and GPUs; ``processes`` is the number that a node trains at a time. All nodes
            see folder, data and encoder at the same paths. Needs the extra ``ray``.

    Returns:
        The results of the study; None in all but the main process of a launcher.

    Raises:
        ValueError: If config, data or arguments are invalid, ``output`` contains the study of another config, or the
            study was stopped before its first run was finished.
        FileExistsError: If ``output`` contains something else.
        ImportError: If a package that the reports or Ray need is missing.
        OSError: If the disk is full, or a process was killed.
    """
    check_packages("reports", "a report")
    check_call(processes, time_budget, ray_address)
    end = None if time_budget is None else time.time() + 60 * time_budget
    plan, data = plan_study(config, output, scenarios, seeds, sizes, epochs, minutes, alone)
    is_main = PartialState().is_main_process
    limit = StudyLimit(plan.folder / STOP_NAME if stop_file is None else Path(stop_file), end)
    write_settings(plan)
    finished = 0

    def report(run: PlannedRun) -> None:
        nonlocal finished
        finished += 1
        record = read_record(plan, run)
        if on_run is not None and is_main and record is not None:
            on_run(run.name, record.result, finished, len(plan.runs))

    run_all(plan, data, processes, report, limit, ray_address)
    if not is_main:
        return None
    study = summarize(plan, data.tasks)
    with explain_full_disk(plan.folder):
        study.save()
        write_reports(study)
    # Runs that are added later compute the states again, which takes less time than a run.
    shutil.rmtree(plan.folder / STATES_FOLDER, ignore_errors=True)
    return study
