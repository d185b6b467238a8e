"""Answers to a batch of requests, from the pipeline of the model."""

from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from ..models.encoder_sentences import encode
from ..models.pipeline_multitask import MultiTaskPipeline
from ..models.predictor import Prediction, Predictor, prepare_inputs
from ..models.text_inputs import TextInput
from ..models.type_aliases import Row
from .batch_queue import Job, Outcome
from .offsets import to_utf16

# What one more pass costs on a CPU, in tokens: a pass is divided if that saves more padding.
PASS_TOKENS = 48
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
    """Computes the answers to the jobs of a batch, which are of one kind.

    Args:
        pipeline: Pipeline of the model.
        max_batch: Maximum number of texts per pass.
    """

    def __init__(self, pipeline: MultiTaskPipeline, max_batch: int) -> None:
        self.pipeline = pipeline
        self.max_batch = max_batch

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
            vectors = encode(self.pipeline.model, texts, self.pipeline.tokenizer, self.max_batch, kind.prompt_name)
            return _divide(vectors.tolist(), [len(job.texts) for job in jobs])
        if not isinstance(kind, PredictKind):
            raise TypeError(f"unknown kind of job {kind!r}")
        predictor = self.pipeline.predictor(**dict(kind.options))
        read = [self._read(job) for job in jobs]
        inputs = [text for texts in read if isinstance(texts, list) for text in texts]
        predictions = self._predict(predictor, inputs)
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

    def _predict(self, predictor: Predictor, inputs: Sequence[TextInput]) -> list[Prediction]:
        """Predict texts in passes of like lengths."""
        rows = prepare_inputs(predictor.align, inputs) if inputs else []
        threads = predictor.threads
        lengths = [row["length"] for row in rows]
        passes = divide_by_length(lengths, self.max_batch, threads) if self._is_on_cpu else [list(range(len(rows)))]

        def predict(indices: Sequence[int]) -> list[Prediction]:
            chosen_rows: list[Row] = [rows[i] for i in indices]
            return predictor.predict_prepared([inputs[i] for i in indices], chosen_rows, self.max_batch, MAX_TOKENS)

        predictions: list[Prediction] = [{} for _ in inputs]
        with ThreadPoolExecutor(threads) as pool:
            run = pool.map if threads > 1 and len(passes) > 1 else map
            for indices, answers in zip(passes, run(predict, passes), strict=True):
                for i, answer in zip(indices, answers, strict=True):
                    predictions[i] = answer
        return predictions

    @property
    def _is_on_cpu(self) -> bool:
        return self.pipeline.device.type == "cpu"


def divide_by_length(lengths: Sequence[int], max_batch: int, threads: int = 1) -> list[list[int]]:
    """Divide texts into passes of like lengths.

    Args:
        lengths: Tokens of each text.
        max_batch: Maximum number of texts per pass.
        threads: Number of passes that are computed at the same time.

    Returns:
        Indices of the texts of each pass, longest first. A pass ends where another text would bring more padding than
        `PASS_TOKENS`.
    """
    size = min(max_batch, max(1, -(-len(lengths) // threads)))
    passes: list[list[int]] = []
    padding = 0
    for i in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        padding += lengths[passes[-1][0]] - lengths[i] if passes else 0
        if not passes or len(passes[-1]) == size or padding > PASS_TOKENS:
            passes.append([])
            padding = 0
        passes[-1].append(i)
    return passes


def _divide(values: Sequence[object], sizes: Sequence[int]) -> list[list[object]]:
    """Divide values into consecutive lists."""
    remaining = iter(values)
    return [[next(remaining) for _ in range(size)] for size in sizes]
