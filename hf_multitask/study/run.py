"""A whole study: from a config to ``study.json`` and its reports."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from accelerate import PartialState

from ..runs.config import RunConfig
from ..runtime.atomic_files import write_json
from ..runtime.extras import check_packages
from .disk import explain_full_disk
from .records import read_record
from .report import write_reports
from .study_plan import ALL_ROWS, CONFIG_NAME, STATES_FOLDER, PlannedRun, plan_study
from .study_results import RunResult, Study
from .summary import summarise
from .workers import run_all

# What is called when a run is finished: its name, what it gave, how many are finished, and of how many.
OnRun = Callable[[str, RunResult, int, int], None]


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
) -> Study | None:
    """Train scenarios of freezing on the same data, seeds and budget, and compare them.

    A finished run is kept, so that the same call goes on where one was killed; more scenarios, seeds or sizes add to
    a study.

    Args:
        config: The config of an ordinary run; its ``freeze`` and ``output_dir`` are not used.
        output: Folder of the study.
        scenarios: Their names; all of `list_scenarios` where None. The others are compared with the first.
        seeds: Number of seeds, from the config's own on.
        sizes: Numbers of training rows, or ``"all"``. Smaller ones are parts of larger ones, with each label's share.
        epochs: Epochs of each run; the config's where None.
        minutes: The longest that a run may train; it ends with an evaluation then. Epochs and the course of the
            learning rates stay as they are.
        processes: Processes that work side by side, each on runs of its own; under a launcher that of each of its
            processes.
        on_run: Called when a run is finished, or was before.

    Returns:
        The study; None in the other processes of a launcher.

    Raises:
        ValueError: If something in config, data or arguments is wrong, or ``output`` holds another config's study.
        FileExistsError: If ``output`` holds something else.
        ImportError: If a package that the reports need is missing.
        OSError: If the disk is full, or a process was killed.
    """
    check_packages("reports", "a report")
    if processes < 1:
        raise ValueError(f"processes must be at least 1, found {processes}.")
    plan, data = plan_study(config, output, scenarios, seeds, sizes, epochs, minutes)
    is_main = PartialState().is_main_process
    if is_main:
        with explain_full_disk(plan.folder):
            write_json(plan.folder / CONFIG_NAME, plan.settings)
    done = 0

    def report(run: PlannedRun) -> None:
        nonlocal done
        done += 1
        values = read_record(plan, run)
        if on_run is not None and is_main and values is not None:
            values.pop("rows")
            on_run(run.name, RunResult.from_dict(values), done, len(plan.runs))

    run_all(plan, data, processes, report)
    if not is_main:
        return None
    study = summarise(plan, data.tasks)
    with explain_full_disk(plan.folder):
        study.save()
        write_reports(study)
    # Runs that are added later compute them again, which takes less than a run.
    shutil.rmtree(plan.folder / STATES_FOLDER, ignore_errors=True)
    return study
