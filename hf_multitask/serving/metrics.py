"""Metrics of the server in the format of Prometheus."""

import os
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

# Folder in which several processes keep their metrics; the client library reads it when it is imported.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class ServerMetrics:
    """Counts of requests and batches. With several processes, those of all."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self.requests = Counter(
            "hf_multitask_requests", "Requests by endpoint and status.", ["endpoint", "status"], registry=registry
        )
        self.seconds = Histogram(
            "hf_multitask_request_seconds",
            "Seconds from a request to its answer.",
            ["endpoint"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.dropped = Counter(
            "hf_multitask_dropped_requests", "Requests whose client had gone before the answer.", registry=registry
        )
        self.errors = Counter("hf_multitask_errors", "Requests that failed by a fault of ours.", registry=registry)
        self.batch_texts = Histogram(
            "hf_multitask_batch_texts", "Texts of a batch.", registry=registry, buckets=_TEXTS
        )
        self.batch_seconds = Histogram(
            "hf_multitask_batch_seconds", "Seconds of a batch.", registry=registry, buckets=_SECONDS
        )
        self.waiting = Gauge(
            "hf_multitask_waiting_texts",
            "Texts that wait for the model.",
            registry=registry,
            multiprocess_mode="livesum",
        )

    def on_batch(self, texts: int, seconds: float) -> None:
        """Count a batch."""
        self.batch_texts.observe(texts)
        self.batch_seconds.observe(seconds)

    def to_text(self) -> bytes:
        """Return the metrics as Prometheus reads them."""
        if FOLDER not in os.environ:
            return generate_latest(self._registry)
        forget_dead_processes()
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        return generate_latest(registry)


def forget_dead_processes() -> None:
    """Leave out what waited in processes that were killed; what they have counted stays."""
    pids = {path.stem.rpartition("_")[2] for path in Path(os.environ[FOLDER]).glob("gauge_live*.db")}
    for pid in pids:
        if not psutil.pid_exists(int(pid)):
            multiprocess.mark_process_dead(int(pid))
