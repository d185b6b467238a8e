"""Who works on which run: one process, several, or those that a launcher has started."""

import logging
import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import datasets
import torch
import transformers
from accelerate import PartialState

from ..data import PreparedData, prepare_datasets
from ..models import TaskConfig, load_tokenizer
from .records import claimed, is_finished
from .run_training import StudyData, train_run
from .study_plan import PlannedRun, StudyPlan

POLL_SECONDS = 0.5
# What tells a process that it is one of several of a launcher.
LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
DEVICES_VARIABLE = "CUDA_VISIBLE_DEVICES"

OnRun = Callable[[PlannedRun], None]


def work_through(plan: StudyPlan, data: PreparedData, processes: int, on_run: OnRun) -> None:
    """Train the runs of a study that are not finished.

    Each process takes the next run that no other works on, so that any number of them, also of several machines with
    one disk, share a study. The processes of a launcher (``torchrun``, ``accelerate launch``) each take runs of their
    own instead of training one together.

    Args:
        plan: The study.
        data: Its prepared data.
        processes: Processes of each process of the launcher, or without one in all.
        on_run: Called with each run that is finished, by whomever, and with those that were before.

    Raises:
        ValueError: If a run cannot be trained.
        OSError: If the disk is full.
        ChildProcessError: If a process was killed.
    """
    state = PartialState()
    if processes == 1 and state.num_processes == 1:
        with _quiet():
            work(plan, StudyData(data), on_run)
        return
    on_this_machine = int(os.environ.get("LOCAL_WORLD_SIZE", state.num_processes)) * processes
    threads = max((os.cpu_count() or 1) // on_this_machine, 1)
    first = state.local_process_index * processes
    workers = []
    try:
        with _alone():
            for number in range(first, first + processes):
                workers.append(_Worker(plan, data.tasks, threads, _device(number)))
        told: set[Path] = set()
        working = True
        while working:
            # Each is asked, as one may have failed while others work.
            working = True in [worker.is_working() for worker in workers]
            _tell(plan, told, on_run)
            time.sleep(POLL_SECONDS)
    finally:
        for worker in workers:
            worker.process.terminate()


def work(plan: StudyPlan, data: StudyData, on_run: OnRun | None = None) -> None:
    """Train runs until all are finished.

    Args:
        plan: The study.
        data: Its data.
        on_run: Called with each run that is finished.
    """
    parent = multiprocessing.parent_process()
    waiting = list(plan.runs)
    while waiting:
        before = len(waiting)
        for run in list(waiting):
            if parent is not None and not parent.is_alive():
                return
            if _is_done(plan, run, data):
                waiting.remove(run)
                if on_run is not None:
                    on_run(run)
        if len(waiting) == before:
            time.sleep(POLL_SECONDS)  # others work on what is left, or on what it starts from


class _Worker:
    """A process that works on runs of its own.

    Args:
        plan: The study.
        tasks: The tasks, with their labels.
        threads: Threads that it computes with.
        device: The one accelerator that it sees; all where None.
    """

    def __init__(self, plan: StudyPlan, tasks: Sequence[TaskConfig], threads: int, device: str | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.receiver, sender = context.Pipe(duplex=False)
        arguments = (plan, tasks, threads, device, sender)
        self.process: SpawnProcess = context.Process(target=_work_in_process, args=arguments)
        self.process.start()
        sender.close()

    def is_working(self) -> bool:
        """Tell whether it works still.

        Raises:
            Exception: What it failed with.
        """
        if self.process.is_alive():
            return True
        if self.process.exitcode == 0:
            return False
        try:
            error = self.receiver.recv()
        except EOFError:
            raise ChildProcessError(
                "a process of the study was killed, perhaps for want of memory. The finished runs are kept: the same "
                "command, with fewer processes, goes on from here."
            ) from None
        raise error


def _work_in_process(
    plan: StudyPlan, tasks: Sequence[TaskConfig], threads: int, device: str | None, sender: Connection
) -> None:
    # Who interrupts the study interrupts the process that has started this one, and that ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if device is not None:
        os.environ[DEVICES_VARIABLE] = device
    torch.set_num_threads(threads)
    try:
        with _quiet():
            # Tokenized rows are in the cache of `datasets` by now.
            data = prepare_datasets(plan.config.data_configs, load_tokenizer(plan.config.encoder), tasks)
            work(plan, StudyData(data))
    except (ValueError, OSError) as error:
        # Some errors cannot be made again from their message alone.
        sender.send((ValueError if isinstance(error, ValueError) else OSError)(str(error)))
        raise SystemExit(1) from None


def _is_done(plan: StudyPlan, run: PlannedRun, data: StudyData) -> bool:
    """Train a run if it can be; tell whether it is finished."""
    if is_finished(plan, run.folder):
        return True
    if run.start_folder is not None and not is_finished(plan, run.start_folder):
        return False
    with claimed(plan, run) as is_ours:
        # Another may have finished it since.
        if is_ours and not is_finished(plan, run.folder):
            train_run(plan, run, data)
        return is_ours


def _tell(plan: StudyPlan, told: set[Path], on_run: OnRun) -> None:
    for run in plan.runs:
        if run.folder not in told and is_finished(plan, run.folder):
            told.add(run.folder)
            on_run(run)


def _device(number: int) -> str | None:
    """Return the accelerator of a worker, where there are several."""
    count = torch.cuda.device_count()
    if count < 2:
        return None
    visible = os.environ.get(DEVICES_VARIABLE)
    names = visible.split(",") if visible else [str(i) for i in range(count)]
    return names[number % len(names)]


@contextmanager
def _alone() -> Iterator[None]:
    """Let processes that are started inside not take part in a launcher's training."""
    hidden = {name: os.environ.pop(name) for name in LAUNCHER_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextmanager
def _quiet() -> Iterator[None]:
    """Let runs say nothing but warnings: there are many of them."""
    package = logging.getLogger(__name__.split(".")[0])
    level = package.level
    loads_with_bars = transformers.logging.is_progress_bar_enabled()
    maps_with_bars = not datasets.are_progress_bars_disabled()
    package.setLevel(logging.WARNING)
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            # Said by each data loader of each run on a machine without an accelerator.
            warnings.filterwarnings("ignore", message=".*pin_memory. argument is set as true")
            yield
    finally:
        package.setLevel(level)
        if loads_with_bars:
            transformers.logging.enable_progress_bar()
        if maps_with_bars:
            datasets.enable_progress_bars()
