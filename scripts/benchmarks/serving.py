"""Speed of the server compared with the pipeline, and what it withstands: many, malformed and lost requests."""

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
from transformers import BertConfig, BertModel

from hf_multitask import MultiTaskModel, load_tokenizer
from hf_multitask.export import export_onnx
from hf_multitask.serving.answers import ModelAnswers, PredictKind
from hf_multitask.serving.batch_queue import Job

from .arguments import add_choices, add_encoder, add_numbers
from .inference import trained_model
from .machine import machine_facts
from .serving_processes import Clients, RunningServer, running_server
from .timing import time_in_turns
from .workload import Workload, make_workload, read_rows, silence_libraries

MEASUREMENTS = ("speed", "memory", "malformed", "kill")
BACKENDS = ("torch", "onnx-int8")
THROUGHPUT_BAR, LATENCY_BAR_MS, TAIL_BAR = 0.85, 2.0, 3.0
MEMORY_BAR, SAMPLES = 1.05, 20
# Texts that the pipeline and the one client predict in turns.
SINGLE_TEXTS = 25
HIDDEN_SIZE = 32
SECONDS_OF_LOAD, SECONDS_TO_KILL = 10.0, 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``benchmark.py serving``."""
    parser.add_argument("--data", type=Path, help="folder with test.jsonl (default: generated rows)")
    add_encoder(parser)
    add_numbers(
        parser,
        {
            "rows": (700, "number of texts"),
            "batch-size": (32, "texts per pass"),
            "clients": (32, "clients at the same time"),
            "repeats": (5, "rounds"),
            "threads": (os.cpu_count() or 1, "number of torch threads"),
            "workers": (1, "processes of the server"),
            "long-run": (1_000_000, "requests whose memory is watched"),
            "malformed": (10_000, "malformed requests to be refused"),
        },
    )
    add_choices(parser, "only", MEASUREMENTS, "what to measure")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the server; each part prints its own lines."""
    silence_libraries()
    torch.set_num_threads(arguments.threads)
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # of the server
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    rows = read_rows(arguments.data, arguments.rows, "test")
    work = make_workload(arguments.encoder, rows, arguments.batch_size)
    texts = [" ".join(row["tokens"]) for row in work.rows]
    result: dict[str, Any] = {"benchmark": "serving", "machine": machine_facts(), "texts": len(texts)}
    result |= {name: getattr(arguments, name) for name in ("clients", "workers", "batch_size")}
    load = os.getloadavg()[0]
    print(f"{result['machine']['processor']}, {arguments.threads} threads, load {load:.1f}; {len(texts):,} texts")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "speed" in arguments.only:
            model = _save(trained_model(work, folder / "run"), work, folder / "trained")
            export_onnx(model, int8=True)
            result["speed"] = {backend: _speed(model, backend, texts, arguments) for backend in BACKENDS}
        tiny = _save(_tiny_model(work), work, folder / "tiny")
        parts: dict[str, Callable[..., Any]] = {"memory": _memory, "malformed": _malformed, "kill": _kill}
        for part, measure in parts.items():
            if part in arguments.only:
                result[part] = measure(tiny, folder / f"{part}.log", texts, arguments)
    return result


def _save(model: MultiTaskModel, work: Workload, folder: Path) -> Path:
    model.save_pretrained(folder)
    work.tokenizer.save_pretrained(folder)
    return folder


def _tiny_model(work: Workload) -> MultiTaskModel:
    """Return a model that costs next to nothing, so that the server itself is what is watched."""
    config = BertConfig(
        vocab_size=len(work.tokenizer),
        hidden_size=HIDDEN_SIZE,
        intermediate_size=HIDDEN_SIZE,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    with tempfile.TemporaryDirectory() as folder:
        BertModel(config).save_pretrained(folder)
        load_tokenizer(work.encoder_folder).save_pretrained(folder)
        return MultiTaskModel.from_encoder(folder, work.data.tasks)


def _bodies(texts: Sequence[str]) -> list[str]:
    return [json.dumps({"inputs": text}) for text in texts]


def _speed(model: Path, backend: str, texts: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare many clients, their batches without HTTP, and one client with the pipeline, in turns."""
    # The overloads of transformers list its own tasks only.
    pipeline: Any = transformers.pipeline(  # type: ignore[call-overload]
        "multi-task", str(model), batch_size=arguments.batch_size, device="cpu", backend=backend
    )
    options = ("--backend", backend, "--workers", str(arguments.workers), "--max-batch", str(arguments.batch_size))
    with running_server(model, model / f"{backend}.log", *options, "--log", "errors") as server:
        many = Clients(server, arguments.clients, processes=2)
        single = Clients(server, 1)
        bodies = _bodies(texts)
        compute = ModelAnswers(pipeline, arguments.batch_size, backend)
        many.send(bodies)
        pipeline(texts)
        cpu: dict[str, list[float]] = {"pipeline": [], "batches": [], "server": [], "clients": []}
        functions = {
            "pipeline": lambda: _measured(lambda: pipeline(texts), {"pipeline": [psutil.Process()]}, cpu),
            "batches": lambda: _measured(
                lambda: _answer_in_batches(compute, texts, arguments.clients), {"batches": [psutil.Process()]}, cpu
            ),
            "server": lambda: _measured(
                lambda: many.send(bodies), {"server": server.workers, "clients": many.processes}, cpu
            ),
        }
        seconds = time_in_turns(functions, arguments.repeats)
        milliseconds = {name: 1000 * statistics.median(values) / len(texts) for name, values in cpu.items()}
        latencies = _latencies(pipeline, single, texts)
        many.close()
        single.close()
    ratios = {
        name: statistics.median(p / s for p, s in zip(seconds["pipeline"], values, strict=True))
        for name, values in seconds.items()
    }
    median = {name: 1000 * statistics.median(values) for name, values in latencies.items()}
    tail = 1000 * sorted(latencies["server"])[int(0.99 * (len(latencies["server"]) - 1))]
    print(f"\n{backend}, {arguments.workers} workers")
    for name, values in seconds.items():
        one = f"   one text {median[name]:6.2f} ms" if name in median else ""
        print(f"{name:<12}{len(texts) / statistics.median(values):8.0f} texts/s   ratio {ratios[name]:.2f}{one}")
    print("processor time per text: " + ", ".join(f"{name} {value:.2f} ms" for name, value in milliseconds.items()))
    _print_bar("throughput, ratio to the pipeline", ratios["server"], THROUGHPUT_BAR, at_least=True)
    _print_bar("one client, ms more than the pipeline", median["server"] - median["pipeline"], LATENCY_BAR_MS)
    _print_bar("one client, p99 / median", tail / median["server"], TAIL_BAR)
    return {"seconds": seconds, "ratios": ratios, "median_ms": median, "p99_ms": tail, "cpu_ms": milliseconds}


def _answer_in_batches(compute: ModelAnswers, texts: Sequence[str], size: int) -> None:
    """Compute answers as the server does, but without HTTP, for as many texts at a time as there are clients."""
    loop = asyncio.new_event_loop()
    kind = PredictKind((), False)
    for start in range(0, len(texts), size):
        jobs = [Job(kind, [text], len(text), loop.create_future()) for text in texts[start : start + size]]
        for outcome in compute(jobs):
            if isinstance(outcome, Exception):
                raise outcome
    loop.close()


def _timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _measured(
    function: Callable[[], object], processes: Mapping[str, Sequence[psutil.Process]], cpu: dict[str, list[float]]
) -> float:
    """Call a function; return its seconds, and add the seconds of processor time of processes."""

    def used(name: str) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in processes[name])

    before = {name: used(name) for name in processes}
    seconds = _timed(function)
    for name in processes:
        cpu[name].append(used(name) - before[name])
    return seconds


def _latencies(pipeline: Any, client: Clients, texts: Sequence[str]) -> dict[str, list[float]]:
    """Return the seconds per single text of the pipeline and of one client, a few texts of each in turns."""
    seconds: dict[str, list[float]] = {"pipeline": [], "server": []}
    for start in range(0, len(texts), SINGLE_TEXTS):
        part = texts[start : start + SINGLE_TEXTS]
        seconds["pipeline"] += [_timed(lambda text=text: pipeline(text)) for text in part]  # type: ignore[misc]
        seconds["server"] += client.send(_bodies(part))[0]["latencies"]
    return seconds


def _memory(model: Path, log: Path, texts: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Watch the resident memory of the server during many requests."""
    with running_server(model, log, "--log", "errors") as server:
        clients = Clients(server, arguments.clients)
        clients.send(_bodies(texts))  # fills caches
        part = max(1, arguments.long_run // SAMPLES)
        bodies = (_bodies(texts) * (part // len(texts) + 1))[:part]
        memory = []
        for _ in range(SAMPLES):
            _check_statuses(clients.send(bodies), part)
            memory.append(server.memory())
            print(f"{part * len(memory):,} requests: {memory[-1]:.0f} MiB", flush=True)
        clients.close()
    growth = statistics.median(memory[-SAMPLES // 4 :]) / statistics.median(memory[: SAMPLES // 4])
    print(f"\n{part * SAMPLES:,} requests: {memory[0]:.0f} MiB after the first {part:,}, {memory[-1]:.0f} at the end")
    _print_bar("memory, last quarter / first quarter", growth, MEMORY_BAR)
    return {"requests": part * SAMPLES, "mib": memory, "growth": growth}


def _check_statuses(results: Sequence[dict[str, Any]], expected: int) -> None:
    statuses = [result["statuses"] for result in results]
    if sum(found.get("200", 0) for found in statuses) != expected:
        raise RuntimeError(f"expected {expected} answers, found {statuses}")


def _malformed(model: Path, log: Path, texts: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Send malformed bodies, and count the statuses of the answers."""
    rng = random.Random(0)
    bodies = [malform(rng, rng.choice(texts)) for _ in range(arguments.malformed)]
    with running_server(model, log, "--log", "errors") as server:
        clients = Clients(server, 8)
        (result,) = clients.send(bodies)
        _check_statuses(clients.send(_bodies(texts)), len(texts))
        clients.close()
    refused = sum(count for status, count in result["statuses"].items() if status.startswith("4"))
    print(f"\n{len(bodies):,} malformed requests: {refused:,} refused with 4xx; statuses {result['statuses']}")
    return {"statuses": result["statuses"], "broken": result["broken"], "refused": refused}


def malform(rng: random.Random, text: str) -> str:
    """Return the body of a request that must be refused.

    Args:
        rng: Random numbers.
        text: A valid text.

    Returns:
        The body; bytes that are not UTF-8 are surrogates, as in names of files.
    """
    body = json.dumps({"inputs": text})
    wrong = rng.choice([None, 3, -1.5, True, {"a": 1}, [[text]], "\ud800", {"text": text, "path": "/etc/passwd"}, " "])
    option = rng.choice(["tasks", "top_k", "threshold", "word_labels", "offsets", "tag_scheme", "model", "__class__"])
    return rng.choice(
        [
            body[: rng.randrange(len(body))],
            body + rng.choice("}],:x"),
            body.replace('"', "'"),
            "".join(chr(0xDC80 + rng.randrange(128)) for _ in range(rng.randrange(1, 40))),
            json.dumps({"inputs": wrong}),
            json.dumps({"inputs": [text, wrong]}),
            json.dumps({"inputs": text, option: rng.choice([[], {}, "no such", -3, [3], 1e308, [None]])}),
            json.dumps({rng.choice(["input", "text", "", "\x00"]): text}),
            "[" * rng.randrange(1, 5000),
            json.dumps([text]),
            json.dumps({"inputs": [text] * 257}),
            json.dumps({"inputs": text * 20_000})[:30_000] + '"}',
        ]
    )


def _kill(model: Path, log: Path, texts: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Kill one of two workers under load, and count the requests that are lost."""
    with running_server(model, log, "--workers", "2", "--log", "errors") as server:
        clients = Clients(server, arguments.clients)
        clients.send(_bodies(texts))
        clients.begin(_bodies(texts), seconds=SECONDS_OF_LOAD)
        time.sleep(SECONDS_TO_KILL)
        server.workers[0].kill()
        (result,) = clients.end()
        clients.close()
        restarted = _wait_for_workers(server, 2)
    answered = sum(result["statuses"].values())
    print(
        f"\nkilled a worker: {result['broken']} of {answered + result['broken']:,} requests lost, {result['statuses']}"
    )
    print(f"a worker was started in its place: {restarted}")
    return {"statuses": result["statuses"], "lost": result["broken"], "restarted": restarted}


def _wait_for_workers(server: RunningServer, count: int) -> bool:
    end = time.monotonic() + 60
    while len(server.workers) < count and time.monotonic() < end:
        time.sleep(0.1)
    return len(server.workers) == count


def _print_bar(name: str, value: float, bar: float, at_least: bool = False) -> None:
    passed = value >= bar if at_least else value <= bar
    print(f"{name:<40}{value:8.2f}  {'>=' if at_least else '<='} {bar:g}{'' if passed else '  missed'}")
