"""Requests that wait for the model, and the threads that compute them in batches."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from .errors import RequestError

logger = logging.getLogger(__name__)

# Requests of like length are looked for among this many batches' worth of those that wait.
BATCHES_LOOKED_AT = 4
# Weight of the last batch in the mean time per text.
_NEW_SHARE = 0.2


@dataclass(eq=False)
class Job:
    """Texts of one request.

    Args:
        kind: Requests of the same kind can share a batch: what is computed, with its options.
        texts: Texts.
        length: Length of the longest text, in characters.
        result: Where the answers are delivered. If it is canceled, they are not computed.
    """

    kind: Hashable
    texts: Sequence[object]
    length: int
    result: "asyncio.Future[Sequence[object]]"
    arrived: float = field(default_factory=time.monotonic)


# Answers of a job, or the exception that it raises.
Outcome = Sequence[object] | Exception
Compute = Callable[[Sequence[Job]], Sequence[Outcome]]


class BatchQueue:
    """A bounded queue and the threads that empty it.

    A batch begins with the job that has waited longest and is filled with those whose lengths are nearest. Free
    threads share what waits. While several jobs arrive at a time, a free thread waits until as many texts are there as
    the last batch had, but at most ``max_wait`` seconds. If there is one thread, it waits for as many besides those
    that came during its last batch: whoever gets an answer is likely to ask again, and fuller batches of more like
    lengths cost less. A job that comes alone does not wait.

    Args:
        compute: Function that computes a batch, on a thread.
        max_batch: Maximum number of texts per batch. A job with more is a batch of its own.
        max_wait: Seconds.
        max_texts: Maximum number of texts that wait.
        on_batch: Called on the thread with the number of texts and the seconds of each batch.
        threads: Number of batches that are computed at the same time.
    """

    def __init__(
        self,
        compute: Compute,
        max_batch: int,
        max_wait: float,
        max_texts: int,
        on_batch: Callable[[int, float], None] = lambda texts, seconds: None,
        threads: int = 1,
    ) -> None:
        self._compute = compute
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._max_texts = max_texts
        self._on_batch = on_batch
        self._changed = threading.Condition()
        self._turn = threading.Lock()  # of the thread that waits for the next batch
        self._waiting: list[Job] = []
        self._num_texts = 0
        self._expected = 1
        self._seconds_per_text = 0.0
        self._closed = False
        self._num_free = threads
        self._threads = [threading.Thread(target=self._run, name="model", daemon=True) for _ in range(threads)]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Compute what waits, and end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        for thread in self._threads:
            thread.join()

    @property
    def is_running(self) -> bool:
        """Whether the threads compute what is put into the queue."""
        return all(thread.is_alive() for thread in self._threads) and not self._closed

    @property
    def num_texts(self) -> int:
        """Number of texts that wait."""
        return self._num_texts

    def put(self, job: Job) -> None:
        """Add a job; its result is delivered in the event loop of its future.

        Args:
            job: Job.

        Raises:
            RequestError: If the queue is full, with the seconds after which to try again: status 429.
        """
        with self._changed:
            if self._num_texts + len(job.texts) > self._max_texts:
                seconds = max(1, math.ceil(self._num_texts * self._seconds_per_text))
                raise RequestError(
                    429,
                    f"{self._num_texts} texts wait already, of at most {self._max_texts}; try again in {seconds} s.",
                    {"Retry-After": str(seconds)},
                )
            self._waiting.append(job)
            self._num_texts += len(job.texts)
            if len(self._waiting) == 1 or self._num_texts >= self._expected:
                self._changed.notify()

    def drop(self, job: Job) -> None:
        """Take a job out that nobody waits for any more, if it is not computed yet; others have its place."""
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                self._num_texts -= len(job.texts)

    def _run(self) -> None:
        while batch := self._take():
            if wanted := [job for job in batch if not job.result.cancelled()]:
                self._compute_batch(wanted)
            with self._changed:
                self._num_free += 1

    def _compute_batch(self, jobs: Sequence[Job]) -> None:
        start = time.monotonic()
        results = self._compute(jobs)
        seconds, texts = time.monotonic() - start, sum(len(job.texts) for job in jobs)
        self._seconds_per_text += _NEW_SHARE * (seconds / max(texts, 1) - self._seconds_per_text)
        self._on_batch(texts, seconds)
        if len(self._threads) == 1:
            with self._changed:
                # Before the answers are delivered: a client that asks again at once would be counted twice.
                self._expected = min(self._max_batch, texts + self._num_texts)
        jobs[0].result.get_loop().call_soon_threadsafe(_deliver, jobs, results)

    def _take(self) -> list[Job]:
        """Wait for jobs and return the next batch; none if the queue is closed and empty."""
        with self._turn, self._changed:
            free_since = time.monotonic()
            while (seconds := self._seconds_to_wait(free_since)) is None or seconds > 0:
                self._changed.wait(seconds)
            if not self._waiting:
                return []
            batch = self._choose(min(self._max_batch, -(-self._num_texts // self._num_free)))
            self._num_free -= 1
            chosen = set(map(id, batch))
            self._waiting = [job for job in self._waiting if id(job) not in chosen]
            taken = sum(len(job.texts) for job in batch)
            self._num_texts -= taken
            self._expected = min(self._max_batch, taken)
            return batch

    def _seconds_to_wait(self, free_since: float) -> float | None:
        """Return how long a thread waits until it takes a batch; None if it must be woken up."""
        if self._closed or (self._waiting and self._num_texts >= self._expected):
            return 0
        if not self._waiting:
            return None
        return max(free_since, self._waiting[0].arrived) + self._max_wait - time.monotonic()

    def _choose(self, max_texts: int) -> list[Job]:
        """Return the oldest job with those of its kind whose lengths are nearest."""
        first, *others = islice(self._waiting, BATCHES_LOOKED_AT * self._max_batch)
        others = [job for job in others if job.kind == first.kind]
        others.sort(key=lambda job: abs(job.length - first.length))
        batch, room = [first], max_texts - len(first.texts)
        for job in others:
            if len(job.texts) <= room:
                batch.append(job)
                room -= len(job.texts)
        return batch


def _deliver(jobs: Sequence[Job], results: Sequence[Outcome]) -> None:
    """Set the results of jobs, in the event loop."""
    for job, result in zip(jobs, results, strict=True):
        if job.result.done():
            continue
        if isinstance(result, Exception):
            job.result.set_exception(result)
        else:
            job.result.set_result(result)
