"""Answers to a batch of requests, from the pipeline of the model."""

import threading
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import torch

from ..models.encoder_packing import ROW_TOKENS, can_pack
from ..models.encoder_sentences import encode
from ..models.onnx_session import TORCH
from ..models.pipeline_multitask import MultiTaskPipeline
from ..models.predictor import Prediction, Predictor, prepare_inputs
from ..models.text_inputs import TextInput
from ..models.type_aliases import Row
from .batch_queue import Job, Outcome
from .offsets import to_utf16

# What a pass costs on a thread besides its tokens, in tokens: of a small encoder with torch, and as a graph.
TORCH_PASS, GRAPH_PASS = 40, 15
# Batches that a graph computes at the same time: what one of them does in Python would leave cores without work.
GRAPH_BATCHES = 2
# Tokens per pass: a long text in windows is a pass of its own.
MAX_TOKENS = 16_384


class PredictKind(NamedTuple):
    """Predictions with some options, as sorted pairs of name and value; with offsets in UTF-16 code units or not."""

    options: tuple[tuple[str, Hashable], ...]
    utf16: bool


class EmbedKind(NamedTuple):
    """Sentence embeddings with a prompt."""

    prompt_name: str | None


class ModelAnswers:
    """Computes the answers to the jobs of a batch, which are of one kind; can be called on several threads at a time.

    Args:
        pipeline: Pipeline of the model.
        max_batch: Maximum number of texts per pass.
        backend: Backend of the pipeline.
        workers: Number of processes that share the threads of the machine.
    """

    def __init__(self, pipeline: MultiTaskPipeline, max_batch: int, backend: str = TORCH, workers: int = 1) -> None:
        self.pipeline = pipeline
        self.max_batch = max_batch
        self.is_torch = backend == TORCH
        self.threads = torch.get_num_threads()
        self.all_threads = self.threads * workers
        # Each thread that calls torch has a team of OpenMP threads. As soon as the teams have more threads than there
        # are cores, all of them sleep when they wait, and a pass of one text takes twice as long.
        self.batches_at_once = 1 if self.is_torch else min(GRAPH_BATCHES, self.threads)
        self._num_running = 0
        self._counting = threading.Lock()
        # Tokenizers cannot be used by two threads at a time.
        self._tokenizing = threading.Lock()

    def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Compute a batch.

        Args:
            jobs: Jobs of the same kind.

        Returns:
            For each job the list of its answers, or the exception that it raises: `ValueError` if its texts or
            options are invalid. The other jobs get their answers.
        """
        try:
            return list(self._answer(jobs))
        except Exception as error:  # whatever a text of one request causes, the others are not to blame
            return [error] if len(jobs) == 1 else [result for job in jobs for result in self([job])]

    def _answer(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        kind = jobs[0].kind
        if isinstance(kind, EmbedKind):
            texts = [str(text) for job in jobs for text in job.texts]
            with self._tokenizing, self._divided_threads(len(texts)):
                vectors = encode(self.pipeline.model, texts, self.pipeline.tokenizer, self.max_batch, kind.prompt_name)
            return _divide(vectors.tolist(), [len(job.texts) for job in jobs])
        if not isinstance(kind, PredictKind):
            raise TypeError(f"unknown kind of job {kind!r}")
        with self._tokenizing:
            predictor = self.pipeline.predictor(**dict(kind.options))
            read = [self._read(job) for job in jobs]
            inputs = [text for texts in read if isinstance(texts, list) for text in texts]
            rows = prepare_inputs(predictor.align, inputs) if inputs else []
        with self._divided_threads(len(rows)) as threads:
            predictions = self._predict(predictor, inputs, rows, threads)
        if kind.utf16:
            predictions = [to_utf16(answer, text.text) for answer, text in zip(predictions, inputs, strict=True)]
        sizes = [len(texts) if isinstance(texts, list) else 0 for texts in read]
        answers = _divide(predictions, sizes)
        return [own if isinstance(texts, list) else texts for texts, own in zip(read, answers, strict=True)]

    def _read(self, job: Job) -> list[TextInput] | ValueError:
        places = ["inputs"] if len(job.texts) == 1 else [f"inputs.{i}" for i in range(len(job.texts))]
        try:
            return [self.pipeline.preprocess(text, place) for text, place in zip(job.texts, places, strict=True)]
        except ValueError as error:
            return error

    @contextmanager
    def _divided_threads(self, num_texts: int) -> Iterator[int]:
        """Count a batch, and yield the threads that it may use: all if nothing else is computed."""
        if self.is_torch and self._is_on_cpu:
            # Other workers are likely to be idle when a text comes alone.
            threads = self.all_threads if num_texts == 1 else self.threads
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
        with self._counting:
            self._num_running += 1
            is_alone = self._num_running == 1
        try:
            yield self.threads if is_alone else max(1, self.threads // self.batches_at_once)
        finally:
            with self._counting:
                self._num_running -= 1

    def _predict(
        self, predictor: Predictor, inputs: Sequence[TextInput], rows: Sequence[Row], threads: int
    ) -> list[Prediction]:
        """Predict texts in passes of like lengths."""
        passes = self._divide([row["length"] for row in rows], threads)

        def predict(indices: Sequence[int]) -> list[Prediction]:
            chosen_rows: list[Row] = [rows[i] for i in indices]
            return predictor.predict_prepared([inputs[i] for i in indices], chosen_rows, self.max_batch, MAX_TOKENS)

        predictions: list[Prediction] = [{} for _ in inputs]
        with ThreadPoolExecutor(threads) as pool:
            run = map if self.is_torch or threads == 1 or len(passes) == 1 else pool.map
            for indices, answers in zip(passes, run(predict, passes), strict=True):
                for i, answer in zip(indices, answers, strict=True):
                    predictions[i] = answer
        return predictions

    def _divide(self, lengths: Sequence[int], threads: int) -> list[list[int]]:
        if not self._is_on_cpu:
            return [list(range(len(lengths)))] if lengths else []
        if self.is_torch:  # a pass uses all threads
            packed = ROW_TOKENS if can_pack(self.pipeline.model.encoder) else 0
            return divide_by_length(lengths, self.max_batch, TORCH_PASS * threads, packed)
        return divide_by_length(lengths, min(self.max_batch, max(1, -(-len(lengths) // threads))), GRAPH_PASS)

    @property
    def _is_on_cpu(self) -> bool:
        return self.pipeline.device.type == "cpu"


def divide_by_length(
    lengths: Sequence[int], max_batch: int, pass_tokens: int, packed_tokens: int = 0
) -> list[list[int]]:
    """Divide texts into the passes of like lengths that cost least.

    Args:
        lengths: Tokens of each text.
        max_batch: Maximum number of texts per pass.
        pass_tokens: What a pass costs besides its tokens and its padding, in tokens.
        packed_tokens: Tokens of the longest text in a pass without padding, because texts share rows.

    Returns:
        Indices of the texts of each pass, longest first.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    # Of the texts from each one on: their tokens, what they cost at least, and where their first pass ends.
    tokens, costs, ends = [0] * (len(order) + 1), [0] * (len(order) + 1), [0] * len(order)
    for start in reversed(range(len(order))):
        longest = lengths[order[start]]
        tokens[start] = longest + tokens[start + 1]
        is_packed = longest <= packed_tokens
        costs[start], ends[start] = min(
            (pass_tokens + (tokens[start] - tokens[end] if is_packed else longest * (end - start)) + costs[end], end)
            for end in range(start + 1, min(start + max_batch, len(order)) + 1)
        )
    passes, start = [], 0
    while start < len(order):
        passes.append(order[start : ends[start]])
        start = ends[start]
    return passes


def _divide(values: Sequence[object], sizes: Sequence[int]) -> list[list[object]]:
    """Divide values into consecutive lists."""
    remaining = iter(values)
    return [[next(remaining) for _ in range(size)] for size in sizes]
