"""Runs of a study on a cluster of Ray: each is a task with cores and GPUs, done again if its node is lost."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch

from ..models import TaskConfig
from ..runs.preparation import prepare_run_data
from ..runtime.quiet import warnings_only
from .limits import StudyLimit, TimeIsUpError
from .records import claim, is_finished, plain_error
from .run_training import train_run
from .study_plan import PlannedRun, StudyPlan
from .subsets import StudyData

if TYPE_CHECKING:
    from ray import ObjectRef

POLL_SECONDS = 0.5
# How often a run is done again whose process or node was lost, before the study ends with an error.
MAX_RETRIES = 5

# Data of the last study, by the digest of its settings: Ray gives a process one task after the other.
_prepared: dict[str, StudyData] = {}


class Share(NamedTuple):
    """What a run gets of a node.

    Args:
        cores: Number of cores, and of threads.
        gpus: Number of GPUs, at most 1; a fraction if several runs share one.
    """

    cores: int
    gpus: float


def run_on_ray(
    address: str,
    plan: StudyPlan,
    tasks: Sequence[TaskConfig],
    processes: int,
    on_run: Callable[[PlannedRun], None],
    limit: StudyLimit,
) -> None:
    """Train the runs of a study that are not finished on a cluster of Ray, within the limit of the study.

    All nodes see the folder of the study, the data and the encoder at the same paths.

    Args:
        address: Address of the cluster, or ``"auto"``.
        plan: The study.
        tasks: The tasks, with their labels.
        processes: Number of runs that a node trains at a time; at least one per GPU.
        on_run: Called once with each run that is finished, before the call too.
        limit: Limit of the study.

    Raises:
        ConnectionError: If there is no cluster at the address.
        ValueError: If a run cannot be trained.
        OSError: If the disk is full.
        ChildProcessError: If a run was lost too often.
    """
    import ray

    with _connected(address):
        share = _share([node["Resources"] for node in ray.nodes() if node["Alive"]], processes)
        train = ray.remote(num_cpus=share.cores, num_gpus=share.gpus, max_retries=MAX_RETRIES)(_train)
        waiting = list(plan.runs)
        submitted: dict[ObjectRef[Exception | None], PlannedRun] = {}
        while waiting or submitted:
            for run in list(waiting):
                if is_finished(plan, run.folder):
                    on_run(run)
                elif run.start_folder is None or is_finished(plan, run.start_folder):
                    submitted[train.remote(plan, run, list(tasks), share.cores, limit, os.getcwd())] = run
                elif limit.may_begin:
                    continue  # until the run that it starts from is finished
                waiting.remove(run)
            ready, _ = ray.wait(list(submitted), timeout=POLL_SECONDS) if submitted else ([], [])
            for reference in ready:
                _raise_problem(reference)
                run = submitted.pop(reference)
                # Without a record, the limit was reached first.
                if is_finished(plan, run.folder):
                    on_run(run)


def _raise_problem(reference: "ObjectRef[Exception | None]") -> None:
    import ray

    try:
        problem = ray.get(reference)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError) as error:
        raise ChildProcessError(
            f"a run was lost {MAX_RETRIES + 1} times, perhaps because memory ran out. The finished runs are kept: run "
            "the same command again, with fewer processes, to continue."
        ) from error
    if problem is not None:
        raise problem


def _train(
    plan: StudyPlan, run: PlannedRun, tasks: Sequence[TaskConfig], threads: int, limit: StudyLimit, folder: str
) -> Exception | None:
    """Train a run in a process of Ray, unless the limit is reached, and return the problem if it cannot be trained."""
    # Relative paths of the study and its config.
    os.chdir(folder)
    torch.set_num_threads(threads)
    try:
        with warnings_only():
            # A process that was taken for lost may still have the claim, until it ends.
            while limit.may_begin and not is_finished(plan, run.folder):
                with claim(plan, run) as is_ours:
                    if is_ours and not is_finished(plan, run.folder):
                        train_run(plan, run, _data(plan, tasks), limit)
                if not is_ours:
                    time.sleep(POLL_SECONDS)
    except TimeIsUpError:
        pass
    except (ValueError, OSError) as error:
        return plain_error(error)
    return None


def _data(plan: StudyPlan, tasks: Sequence[TaskConfig]) -> StudyData:
    if plan.digest not in _prepared:
        _prepared.clear()
        arguments = plan.config.training_arguments()
        _prepared[plan.digest] = StudyData(
            prepare_run_data(plan.config, arguments, plan.config.load_tokenizer(), tasks)
        )
    return _prepared[plan.digest]


def _share(nodes: Sequence[dict[str, float]], processes: int) -> Share:
    """Return what a run gets, so that each node can train it: of the nodes with a GPU, if there are any."""
    with_gpus = [node for node in nodes if node.get("GPU", 0) >= 1]
    usable = with_gpus or [node for node in nodes if node.get("CPU", 0) >= 1]
    gpus = min(node.get("GPU", 0) for node in usable) if usable else 0
    cores = min(node.get("CPU", 0) for node in usable) if usable else 1
    at_a_time = max(processes, int(gpus))
    return Share(max(int(cores) // at_a_time, 1), min(gpus / at_a_time, 1))


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """Connect to a cluster, unless this process is connected, and disconnect at the end."""
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConnectionError(
            f"no cluster of Ray at {address!r}: {error}. Start one with: ray start --head"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
