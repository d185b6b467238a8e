"""Search with Optuna in a folder that processes and machines share, and that survives them."""

import json
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from .parameters import Parameter, Value, to_optuna

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

JOURNAL_NAME, LOCK_NAME, CLAIMS_FOLDER = "study.journal", "study.lock", "claims"
STUDY_NAME = "tuning"
POLL_SECONDS = 0.5
# Trials that are drawn at random before Optuna models the space, and trials that finish before it prunes.
RANDOM_TRIALS, UNPRUNED_TRIALS = 8, 3
# User attributes of a trial in the journal.
KILLED, SECONDS = "killed", "seconds"


@dataclass(frozen=True)
class ClaimedTrial:
    """A trial that this process trains.

    Args:
        trial: The trial of Optuna.
        values: Values by key of the config.
        is_base: Whether it is the config that the search starts from.
        end: Time of `time.monotonic` at which the time of the search is up.
    """

    trial: "Trial"
    values: Mapping[str, Value]
    is_base: bool
    end: float = math.inf


class Search:
    """A search whose trials are kept in a journal file.

    Args:
        folder: Folder of the search.
        parameters: Parameters with their values in the config that the search starts from, which is the first trial.
        maximize: Whether a greater value is better.
        seed: Seed of the sampler.
        second: Values by key of the second trial. The sampler chooses if None.
    """

    def __init__(
        self,
        folder: Path,
        parameters: Sequence[Parameter],
        maximize: bool,
        seed: int,
        second: Mapping[str, Value] | None = None,
    ) -> None:
        import optuna
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder = folder
        self.parameters = {parameter.key: parameter for parameter in parameters}
        self.seed = seed
        self._lock = FileLock(folder / LOCK_NAME)
        (folder / CLAIMS_FOLDER).mkdir(parents=True, exist_ok=True)
        with self._lock:
            storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / JOURNAL_NAME)))
            self.study: Study = optuna.create_study(
                study_name=STUDY_NAME,
                storage=storage,
                load_if_exists=True,
                direction="maximize" if maximize else "minimize",
                pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED_TRIALS),
            )
            if not self.study.get_trials(deepcopy=False):
                base = {key: item.base for key, item in self.parameters.items()}
                for values in (base, second):
                    if values is not None:
                        self.study.enqueue_trial({key: to_optuna(value) for key, value in values.items()})

    def run(
        self,
        train: Callable[[ClaimedTrial], float],
        num_trials: int,
        seconds: float,
        on_finished: Callable[[int], None],
    ) -> None:
        """Train trials until there are enough, finished by this process or by others, or the time is up.

        Args:
            train: Function that trains a trial and returns its value. It raises ``optuna.TrialPruned`` to stop.
            num_trials: Number of finished trials of the whole search.
            seconds: Time after which this process begins no other trial, and stops the one that it trains.
            on_finished: Called with the number of each trial that this process has finished.
        """
        import optuna

        end = time.monotonic() + seconds
        while True:
            # A search without a finished trial has no result, so that the first one does not depend on the time.
            may_begin = time.monotonic() < end or not self.finished()
            with self._claim(num_trials if may_begin else 0, end) as claimed:
                if claimed is not None:
                    start = time.perf_counter()
                    state, value = optuna.trial.TrialState.COMPLETE, None
                    try:
                        value = train(claimed)
                    except optuna.TrialPruned:
                        state = optuna.trial.TrialState.PRUNED
                    with self._lock:
                        claimed.trial.set_user_attr(SECONDS, time.perf_counter() - start)
                        self.study.tell(claimed.trial, value, state)
                    on_finished(claimed.trial.number)
                    continue
            if not self._running():
                return
            time.sleep(POLL_SECONDS)  # others are training, and may be killed

    def finished(self) -> list["FrozenTrial"]:
        """Return the trials that were trained to their end or pruned, in the order in which they began."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.name in ("COMPLETE", "PRUNED")]

    def values_of(self, trial: "FrozenTrial | Trial") -> dict[str, Value]:
        """Return the values of a trial by key of the config."""
        return {key: parameter.decode(trial.params[key]) for key, parameter in self.parameters.items()}

    @contextmanager
    def _claim(self, num_trials: int, end: float) -> Iterator[ClaimedTrial | None]:
        """Begin a trial that no other process trains; None if enough have begun.

        The claim is a file lock, which the system releases when the process ends, even if it is killed.
        """
        with self._lock:
            running = self._running()
            if len(self.finished()) + len(running) >= num_trials:
                trial = None
            else:
                self.study.sampler = self._sampler(len(self.study.get_trials(deepcopy=False)))
                trial = self.study.ask({key: item.distribution() for key, item in self.parameters.items()})
                claim = self._claim_file(trial.number)
                claim.acquire(timeout=0)
        if trial is None:
            yield None
            return
        try:
            values = self.values_of(trial)
            is_base = all(values[key] == parameter.base for key, parameter in self.parameters.items())
            yield ClaimedTrial(trial, values, is_base, end)
        finally:
            claim.release()

    def _running(self) -> list["FrozenTrial"]:
        """Return the trials that a process trains. Those of killed processes fail, and are put in line again."""
        running = []
        with self._lock:
            for trial in self.study.get_trials(deepcopy=False):
                if trial.state.name != "RUNNING":
                    continue
                claim = self._claim_file(trial.number)
                try:
                    claim.acquire(timeout=0)
                except Timeout:
                    running.append(trial)
                    continue
                self._begin_again(trial)
                claim.release()
        return running

    def _begin_again(self, trial: "FrozenTrial") -> None:
        import optuna

        self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        self.study.enqueue_trial(trial.params, user_attrs={KILLED: trial.number})

    def _claim_file(self, number: int) -> FileLock:
        return FileLock(self.folder / CLAIMS_FOLDER / f"{number}.lock")

    def _sampler(self, num_trials: int) -> "BaseSampler":
        """Return a sampler whose draws depend on the seed and the trials so far, not on the process."""
        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(
                seed=self.seed + num_trials, n_startup_trials=RANDOM_TRIALS, multivariate=True, constant_liar=True
            )


def describe(values: Mapping[str, Value], base: Mapping[str, Value]) -> str:
    """Return the values that differ from those of the config that the search starts from, as a phrase."""
    changed = [f"{key} {format_value(value)}" for key, value in values.items() if value != base[key]]
    return ", ".join(changed) or "the config as it is"


def format_value(value: Value) -> str:
    """Return a value as it is printed."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value)
