"""Predictions of all tasks for texts, from one pass of the encoder: labels, scores, entities with their characters."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .collator import MultiTaskDataCollator, columns_to_rows
from .configuration_multitask import MultiTaskConfig
from .decoding import decode, tag_probabilities
from .heads_crf import CRF
from .messages import unknown_name_message
from .tags_iob2 import tag_spans
from .tags_schemes import from_iob2, scheme_of_name
from .tasks import MULTI_LABEL, REGRESSION, TaskConfig
from .text_alignment import Aligner
from .text_inputs import TEXT_PAIR_COLUMN, TextInput
from .token_batches import cut_batches, rows_per_batch

# Writes tags in the scheme of a task's training data.
ORIGINAL = "original"
# Batches that are read ahead, so that texts of like length come together.
BATCHES_READ_AHEAD = 64

# From a batch, as the collator makes it, and the names of tasks to their logits.
LogitsFunction = Callable[[Mapping[str, torch.Tensor], Sequence[str]], Mapping[str, torch.Tensor]]


@dataclass(frozen=True)
class OutputOptions:
    """What predictions hold.

    Args:
        tasks: Names of the tasks to predict; all where None.
        top_k: For tasks with one label or several, list so many labels with their scores, the best first.
        threshold: For tasks with several labels, the probability above which a label is given.
        word_labels: For token tasks, give the words and the label of each one too.
        tag_scheme: Scheme to write those labels in; ``"original"`` is that of each task's training data.
    """

    tasks: Sequence[str] | None = None
    top_k: int | None = None
    threshold: float = 0.5
    word_labels: bool = False
    tag_scheme: str = "IOB2"

    def __post_init__(self) -> None:
        if self.top_k is not None and (isinstance(self.top_k, bool) or not isinstance(self.top_k, int)):
            raise ValueError(f"top_k must be a whole number, found {self.top_k!r}.")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, found {self.top_k}.")
        if not isinstance(self.threshold, (int, float)) or not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be a number in [0, 1], found {self.threshold!r}.")
        if self.tag_scheme != ORIGINAL:
            scheme_of_name(self.tag_scheme)


class Predictor:
    """Predicts texts in batches of like length.

    Args:
        config: Config of the model.
        tokenizer: Its tokenizer.
        logits: What runs the model on a batch.
        crfs: The CRFs of its token tasks that have one, by task: ``model.crfs``.
        device: Where batches go.
        options: What predictions hold.
        threads: Threads that each have a batch of their own.

    Raises:
        ValueError: If there is no such task.
    """

    def __init__(
        self,
        config: MultiTaskConfig,
        tokenizer: PreTrainedTokenizerBase,
        logits: LogitsFunction,
        crfs: Mapping[str, CRF],
        device: torch.device,
        options: OutputOptions,
        threads: int = 1,
    ) -> None:
        by_name = {task.name: task for task in config.tasks}
        names = list(by_name) if options.tasks is None else list(options.tasks)
        for name in names:
            if name not in by_name:
                raise ValueError(f"tasks: {unknown_name_message('task', name, by_name)}")
        self.tasks: list[TaskConfig] = [by_name[name] for name in names]
        self.logits = logits
        self.crfs = crfs
        self.device = device
        self.options = options
        self.threads = threads
        token_tasks = [task for task in config.tasks if task.is_token_task]
        # The words that the encoder was trained on, whichever tasks are asked for.
        self.splits_words = bool(token_tasks)
        self.schemes = {
            task.name: task.tag_scheme or "IOB2"
            if options.tag_scheme == ORIGINAL
            else scheme_of_name(options.tag_scheme)
            for task in token_tasks
        }
        self.align = Aligner(
            tokenizer,
            config.tasks,
            overlap=config.overlap,
            truncate=config.truncate,
            label_subwords=token_tasks[0].label_subword if token_tasks else "first",
        )
        self.collate = MultiTaskDataCollator(tokenizer, config.tasks)

    @classmethod
    def of_model(
        cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, options: OutputOptions
    ) -> "Predictor":
        """Return what predicts with a model.

        Args:
            model: The `MultiTaskModel`; it is put into eval mode.
            tokenizer: Its tokenizer.
            options: What predictions hold.
        """
        model.eval()

        def logits(batch: Mapping[str, torch.Tensor], tasks: Sequence[str]) -> Mapping[str, torch.Tensor]:
            return model(**batch, tasks=tasks).logits

        return cls(model.config, tokenizer, logits, model.crfs, model.device, options)

    def stream(self, inputs: Iterable[TextInput], batch_size: int) -> Iterator[dict[str, Any]]:
        """Predict texts one block after the other.

        Args:
            inputs: The texts; no more are read ahead than `BATCHES_READ_AHEAD` batches.
            batch_size: Texts a pass.

        Yields:
            Predictions by task, in the order of the texts.
        """
        remaining = iter(inputs)
        while block := list(islice(remaining, batch_size * BATCHES_READ_AHEAD)):
            yield from self.predict(block, batch_size)

    def predict(self, inputs: Sequence[TextInput], batch_size: int) -> list[dict[str, Any]]:
        """Predict texts, the longest first and in batches of like length.

        Args:
            inputs: The texts.
            batch_size: Texts a pass.

        Returns:
            Predictions by task, in the order of the texts.
        """
        return self.predict_prepared(inputs, prepare_inputs(self.align, inputs), batch_size)

    def predict_prepared(
        self,
        inputs: Sequence[TextInput],
        rows: Sequence[Mapping[str, Any]],
        batch_size: int,
        max_tokens: int | None = None,
    ) -> list[dict[str, Any]]:
        """Predict texts that are tokenized already, as `predict` does.

        Args:
            inputs: The texts.
            rows: What `prepare_inputs` made of them.
            batch_size: The most texts a pass.
            max_tokens: The most tokens a pass, padding included; a text that has more goes alone.

        Returns:
            Predictions by task, in the order of the texts.
        """

        def predict_batch(chosen: Sequence[int]) -> list[dict[str, Any]]:
            return self._predict_batch([inputs[i] for i in chosen], self.collate([rows[i] for i in chosen]))

        results: list[dict[str, Any]] = [{} for _ in inputs]
        batches = _sorted_batches([row["length"] for row in rows], batch_size, max_tokens)
        with ThreadPoolExecutor(self.threads) as pool:
            run = pool.map if self.threads > 1 and len(batches) > 1 else map
            for chosen, found in zip(batches, run(predict_batch, batches), strict=True):
                for i, result in zip(chosen, found, strict=True):
                    results[i] = result
        return results

    @torch.inference_mode()
    def _predict_batch(self, inputs: Sequence[TextInput], batch: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
        batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        logits = self.logits(batch, [task.name for task in self.tasks])
        by_task = [self._results(task, inputs, logits[task.name].float(), batch) for task in self.tasks]
        names = [task.name for task in self.tasks]
        return [dict(zip(names, values, strict=True)) for values in zip(*by_task, strict=True)]

    def _results(
        self, task: TaskConfig, inputs: Sequence[TextInput], logits: torch.Tensor, batch: Mapping[str, torch.Tensor]
    ) -> list[Any]:
        if not task.is_token_task:
            return _sequence_results(task, logits.cpu(), self.options)
        positions, crf = batch["tag_positions"], self.crfs.get(task.name)
        ids = decode(task, logits, positions, crf)
        scores = tag_probabilities(task, logits, ids, positions, crf)
        rows = zip(inputs, ids.tolist(), scores.tolist(), strict=True)
        return [self._tag_result(task, text, row_ids, row_scores) for text, row_ids, row_scores in rows]

    def _tag_result(
        self, task: TaskConfig, given: TextInput, ids: Sequence[int], scores: Sequence[float]
    ) -> dict[str, Any]:
        text, words = given.text, given.words
        names = task.labels or []
        labels = [names[i] for i in ids[: len(words)]]
        entities = []
        for span in tag_spans(labels):
            start, end = words[span.start].start, words[span.end - 1].end
            score = sum(scores[span.start : span.end]) / (span.end - span.start)
            entities.append({"label": span.label, "start": start, "end": end, "text": text[start:end], "score": score})
        if not self.options.word_labels:
            return {"entities": entities}
        written = from_iob2(labels, self.schemes[task.name])
        return {"words": [word.text for word in words], "labels": written, "entities": entities}


def prepare_inputs(align: Aligner, inputs: Sequence[TextInput]) -> list[dict[str, Any]]:
    """Tokenize texts.

    Args:
        align: What tokenizes them.
        inputs: The texts.

    Returns:
        A row for each, as the collator takes it.
    """
    words = [[word.text for word in text.words] for text in inputs]
    return columns_to_rows(align({"words": words, TEXT_PAIR_COLUMN: [text.text_pair for text in inputs]}))


def _sorted_batches(lengths: Sequence[int], batch_size: int, max_tokens: int | None) -> list[list[int]]:
    """Return the indices of the rows of each batch, longest rows first."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    sizes = [batch_size] * len(order)
    if max_tokens is not None:
        fitting = rows_per_batch([lengths[i] for i in order], max_tokens)
        sizes = fitting.clip(max=batch_size).tolist()
    return [order[start:end] for start, end in cut_batches(sizes)]


def _sequence_results(task: TaskConfig, logits: torch.Tensor, options: OutputOptions) -> list[Any]:
    names = task.labels or []
    if task.problem_type == REGRESSION:
        if len(names) < 2:
            return [{"value": value} for (value,) in logits.tolist()]
        return [{"values": dict(zip(names, values, strict=True))} for values in logits.tolist()]
    several = task.problem_type == MULTI_LABEL
    scores = logits.sigmoid() if several else logits.softmax(-1)
    if options.top_k is not None:
        best = scores.topk(min(options.top_k, len(names)))
        rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [
            [{"label": names[i], "score": score} for i, score in zip(ids, values, strict=True)] for ids, values in rows
        ]
    if several:
        above = [[i for i, score in enumerate(row) if score > options.threshold] for row in scores.tolist()]
        return [
            {"labels": [names[i] for i in ids], "scores": row[ids].tolist()}
            for ids, row in zip(above, scores, strict=True)
        ]
    highest, ids = scores.max(-1)
    return [{"label": names[i], "score": score} for i, score in zip(ids.tolist(), highest.tolist(), strict=True)]
