"""Processes that train the runs of a study: one, several, or the processes of a launcher."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import torch
from accelerate import PartialState
from torch.multiprocessing import ProcessExitedException, spawn

from ..data import PreparedData
from ..models import TaskConfig
from ..runs.preparation import prepare_run_data
from ..runtime.quiet import warnings_only
from .limits import StudyLimit, TimeIsUpError
from .ray_workers import run_on_ray
from .records import claim, is_finished, plain_error
from .run_training import train_run
from .study_plan import PlannedRun, StudyPlan
from .subsets import StudyData

POLL_SECONDS = 0.5
# A process with these variables takes itself for one of several that train a model together.
LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
DEVICES_VARIABLE = "CUDA_VISIBLE_DEVICES"

OnRun = Callable[[PlannedRun], None]


def run_all(
    plan: StudyPlan,
    data: PreparedData,
    processes: int,
    on_run: OnRun,
    limit: StudyLimit,
    ray_address: str | None = None,
) -> None:
    """Train the runs of a study that are not finished, within its limit.

    Each process takes the next run that no other process works on, so that any number of them, also of several
    machines with a shared disk, share a study. The processes of a launcher (``torchrun``, ``accelerate launch``) each
    take separate runs instead of training one together.

    Args:
        plan: The study.
        data: The prepared data.
        processes: Number of processes; under a launcher, per process of the launcher.
        on_run: Called once with each run that is finished: before the call, by this process or by another.
        limit: Limit of the study.
        ray_address: Address of a cluster of Ray that trains the runs instead; see `run_on_ray`.

    Raises:
        ValueError: If a run cannot be trained.
        OSError: If the disk is full.
        ChildProcessError: If a process was killed.
    """
    state = PartialState()
    if ray_address is not None:
        if state.num_processes > 1:
            raise ValueError("ray_address: a cluster of Ray starts its own processes; leave out the launcher.")
        run_on_ray(ray_address, plan, data.tasks, processes, on_run, limit)
        return
    if processes == 1 and state.num_processes == 1:
        with warnings_only():
            worker_loop(plan, StudyData(data), limit, on_run)
        return
    on_this_machine = int(os.environ.get("LOCAL_WORLD_SIZE", state.num_processes)) * processes
    threads = max((os.cpu_count() or 1) // on_this_machine, 1)
    first = state.local_process_index * processes
    devices = [_device(number) for number in range(first, first + processes)]
    errors: SimpleQueue[Exception] = multiprocessing.get_context("spawn").SimpleQueue()
    with _without_launcher_env():
        workers = spawn(_run_worker, (plan, data.tasks, threads, devices, errors, limit), nprocs=processes, join=False)
    reported: set[Path] = set()
    try:
        finished = False
        while not finished:
            finished = workers.join(timeout=POLL_SECONDS)
            _report_finished(plan, reported, on_run)
    except ProcessExitedException:
        if not errors.empty():
            raise errors.get() from None
        raise ChildProcessError(
            "a process of the study was killed, perhaps because memory ran out. The finished runs are kept: run the "
            "same command again, with fewer processes, to continue."
        ) from None
    finally:
        for process in workers.processes:
            process.terminate()


def worker_loop(plan: StudyPlan, data: StudyData, limit: StudyLimit, on_run: OnRun | None = None) -> None:
    """Train runs until all are finished, by this process or by others, or the limit is reached.

    Args:
        plan: The study.
        data: The data of the study.
        limit: Limit of the study.
        on_run: Called with each run that is finished.
    """
    parent = multiprocessing.parent_process()
    unfinished = list(plan.runs)
    while unfinished:
        before = len(unfinished)
        for run in list(unfinished):
            # A study that was killed must not train on in the background.
            if parent is not None and not parent.is_alive():
                return
            try:
                is_done = _is_done(plan, run, data, limit)
            except TimeIsUpError:
                return
            if is_done:
                unfinished.remove(run)
                if on_run is not None:
                    on_run(run)
        if not limit.may_begin:
            return  # All runs were looked at, so those that are finished are reported.
        if len(unfinished) == before:
            time.sleep(POLL_SECONDS)  # others work on the runs that are left, or on the runs that these start from


def _run_worker(
    index: int,
    plan: StudyPlan,
    tasks: Sequence[TaskConfig],
    threads: int,
    devices: Sequence[str | None],
    errors: "SimpleQueue[Exception]",
    limit: StudyLimit,
) -> None:
    """Run a worker in a process that the main process has spawned."""
    # Ctrl-C reaches every process of a terminal. The main process handles it and terminates its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    device = devices[index]
    if device is not None:
        os.environ[DEVICES_VARIABLE] = device
    torch.set_num_threads(threads)
    try:
        with warnings_only():
            # The main process has prepared the data, so `datasets` reads the tokenized rows from its cache.
            tokenizer = plan.config.load_tokenizer()
            data = prepare_run_data(plan.config, plan.config.training_arguments(), tokenizer, tasks)
            worker_loop(plan, StudyData(data), limit)
    except (ValueError, OSError) as error:
        errors.put(plain_error(error))
        raise SystemExit(1) from None


def _is_done(plan: StudyPlan, run: PlannedRun, data: StudyData, limit: StudyLimit) -> bool:
    """Train a run if this process can and the limit is not reached, and return whether it is finished."""
    if is_finished(plan, run.folder):
        return True
    if not limit.may_begin or (run.start_folder is not None and not is_finished(plan, run.start_folder)):
        return False
    with claim(plan, run) as is_ours:
        # Another process may have finished the run between the first look and the claim.
        if is_ours and not is_finished(plan, run.folder):
            train_run(plan, run, data, limit)
        return is_ours


def _report_finished(plan: StudyPlan, reported: set[Path], on_run: OnRun) -> None:
    for run in plan.runs:
        if run.folder not in reported and is_finished(plan, run.folder):
            reported.add(run.folder)
            on_run(run)


def _device(number: int) -> str | None:
    """Return the name of a worker's accelerator, or None if all workers share one or none."""
    count = torch.cuda.device_count()
    if count < 2:
        return None
    visible = os.environ.get(DEVICES_VARIABLE)
    names = visible.split(",") if visible else [str(i) for i in range(count)]
    return names[number % len(names)]


@contextmanager
def _without_launcher_env() -> Iterator[None]:
    """Remove the launcher's variables, so that processes started inside do not join its training."""
    hidden = {name: os.environ.pop(name) for name in LAUNCHER_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
