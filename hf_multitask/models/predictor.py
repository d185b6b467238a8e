"""Prediction of all tasks for texts: labels, scores and entities with character offsets, from one encoder pass."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from .collator import MultiTaskDataCollator, columns_to_rows
from .configuration_multitask import MultiTaskConfig
from .decoding import decode, label_probabilities, tag_probabilities
from .encoder_loading import max_positions
from .field_types import check_fields
from .heads_crf import CRF
from .heads_scope import SCOPE_END
from .messages import unknown_name_message
from .modeling_base import MultiTaskPreTrainedModel
from .tags_iob2 import OUTSIDE, tag_spans
from .tags_min_score import entity_score, is_sure
from .tags_schemes import from_iob2, scheme_of_name
from .tasks import MULTI_LABEL, REGRESSION, TaskConfig
from .tasks_constraints import constrain_tags, constraining_tasks
from .text_alignment import Aligner
from .text_inputs import TEXT_PAIR_COLUMN, TextInput
from .token_batches import cut_batches, rows_per_batch
from .type_aliases import JsonObject, Row

# Tag scheme of each task's training data.
ORIGINAL = "original"
# Threshold of multi-label tasks, at which a label is predicted from a logit above 0, whatever the temperature.
DEFAULT_THRESHOLD = 0.5
# Number of batches to read ahead, so that texts of similar length can be batched.
BATCHES_READ_AHEAD = 64

# Function from a batch of the collator and the names of tasks to the logits of the tasks, with what the model
# adds to them (see `MultiTaskModel.apply_heads`).
LogitsFunction = Callable[[Mapping[str, torch.Tensor], Sequence[str]], Mapping[str, torch.Tensor]]

# Predictions of one text by task.
Prediction = dict[str, Any]


@dataclass(frozen=True)
class OutputOptions:
    """Content of predictions.

    Args:
        tasks: Names of the tasks to predict; all tasks if None.
        top_k: For single-label and multi-label tasks, number of labels to list with their scores, best first.
        threshold: For multi-label tasks, calibrated probability above which a label is predicted. Calibration does not
            change the labels above 0.5; above another threshold there may be others.
        min_score: For token tasks, score from which an entity is part of the answer, 0 for all. Defaults to the task's
            ``min_score``. The words of others are labeled ``O``.
        word_labels: For token tasks, whether to add the words and their labels.
        tag_scheme: Scheme of these labels; ``"original"`` is the scheme of each task's training data.
    """

    tasks: Sequence[str] | None = None
    top_k: int | None = None
    threshold: float = DEFAULT_THRESHOLD
    min_score: float | None = None
    word_labels: bool = False
    tag_scheme: str = "IOB2"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.tasks is not None and not self.tasks:
            raise ValueError("tasks is empty; expected names of tasks, or None for all.")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, found {self.top_k}.")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be a number in [0, 1], found {self.threshold!r}.")
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score must be a number in [0, 1], found {self.min_score!r}.")
        if self.tag_scheme != ORIGINAL:
            scheme_of_name(self.tag_scheme)


class Predictor:
    """Predicts texts in batches of similar length.

    Args:
        config: Config of the model.
        tokenizer: Tokenizer of the model.
        logits: Function that runs the model on a batch.
        crfs: CRFs by task, for the token tasks that have one: ``model.crfs``.
        device: Device of the batches.
        options: Content of predictions.
        threads: Number of batches to compute at the same time, each on a separate thread.

    Raises:
        ValueError: If the model does not have a task.
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
        # The labels of other tasks may say which entities are likely.
        self.computed = [by_name[name] for name in dict.fromkeys([*names, *constraining_tasks(self.tasks)])]
        self.logits = logits
        self.crfs = crfs
        self.device = device
        self.options = options
        self.threads = threads
        token_tasks = [task for task in config.tasks if task.is_token_task]
        # Texts are split into words as in training, whichever tasks are predicted.
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
            # A tokenizer that the caller has loaded may have no limit.
            max_length=min(tokenizer.model_max_length, max_positions(config) or tokenizer.model_max_length),
            overlap=config.overlap,
            truncate=config.truncate,
            label_subwords=token_tasks[0].label_subword if token_tasks else "first",
        )
        self.collate = MultiTaskDataCollator(tokenizer, config.tasks)

    @classmethod
    def of_model(
        cls, model: MultiTaskPreTrainedModel, tokenizer: PreTrainedTokenizerBase, options: OutputOptions
    ) -> "Predictor":
        """Build the predictor of a model.

        Args:
            model: `MultiTaskModel`; it is set to eval mode.
            tokenizer: Tokenizer of the model.
            options: Content of predictions.
        """
        model.eval()

        def logits(batch: Mapping[str, torch.Tensor], tasks: Sequence[str]) -> Mapping[str, torch.Tensor]:
            return model(**batch, tasks=tasks, packed=True, return_dict=True).logits

        return cls(model.config, tokenizer, logits, model.crfs, model.device, options)

    def stream(self, inputs: Iterable[TextInput], batch_size: int) -> Iterator[Prediction]:
        """Predict a stream of texts.

        Args:
            inputs: Texts; at most `BATCHES_READ_AHEAD` batches are read ahead.
            batch_size: Number of texts per pass.

        Yields:
            Predictions by task, in the order of the texts.
        """
        remaining = iter(inputs)
        while block := list(islice(remaining, batch_size * BATCHES_READ_AHEAD)):
            yield from self.predict(block, batch_size)

    def predict(self, inputs: Sequence[TextInput], batch_size: int) -> list[Prediction]:
        """Predict texts, longest first, in batches of similar length.

        Args:
            inputs: Texts.
            batch_size: Number of texts per pass.

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
    ) -> list[Prediction]:
        """Predict texts that are already tokenized, as `predict` does.

        Args:
            inputs: Texts.
            rows: Tokenized texts, as `prepare_inputs` returns them.
            batch_size: Maximum number of texts per pass.
            max_tokens: Maximum number of tokens per pass, padding included. A longer text is a batch of its own.

        Returns:
            Predictions by task, in the order of the texts.
        """

        def predict_batch(indices: Sequence[int]) -> list[Prediction]:
            return self._predict_batch([inputs[i] for i in indices], self.collate([rows[i] for i in indices]))

        results: list[Prediction] = [{} for _ in inputs]
        batches = _sorted_batches([row["length"] for row in rows], batch_size, max_tokens)
        with ThreadPoolExecutor(self.threads) as pool:
            run = pool.map if self.threads > 1 and len(batches) > 1 else map
            for indices, predictions in zip(batches, run(predict_batch, batches), strict=True):
                for i, prediction in zip(indices, predictions, strict=True):
                    results[i] = prediction
        return results

    @torch.inference_mode()
    def _predict_batch(self, inputs: Sequence[TextInput], batch: Mapping[str, torch.Tensor]) -> list[Prediction]:
        batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        logits = constrain_tags(self.computed, self.logits(batch, [task.name for task in self.computed]))
        by_task = [
            self._task_results(task, inputs, logits[task.name].float(), batch, logits.get(f"{task.name}{SCOPE_END}"))
            for task in self.tasks
        ]
        names = [task.name for task in self.tasks]
        return [dict(zip(names, values, strict=True)) for values in zip(*by_task, strict=True)]

    def _task_results(
        self,
        task: TaskConfig,
        inputs: Sequence[TextInput],
        logits: torch.Tensor,
        batch: Mapping[str, torch.Tensor],
        of_states: torch.Tensor | None,
    ) -> Sequence[object]:
        if not task.is_token_task:
            return _sequence_results(task, logits.cpu(), self.options, None if of_states is None else of_states.cpu())
        positions, crf = batch["tag_positions"], self.crfs.get(task.name)
        ids = decode(task, logits, positions, crf)
        scores = tag_probabilities(task, logits, ids, positions, crf)
        rows = zip(inputs, ids.tolist(), scores.tolist(), strict=True)
        return [self._tag_result(task, text, row_ids, row_scores) for text, row_ids, row_scores in rows]

    def _tag_result(
        self, task: TaskConfig, text_input: TextInput, ids: Sequence[int], scores: Sequence[float]
    ) -> JsonObject:
        text, words = text_input.text, text_input.words
        names = task.labels or []
        labels = [names[i] for i in ids[: len(words)]]
        min_score = task.min_score if self.options.min_score is None else self.options.min_score
        entities = []
        for span in tag_spans(labels):
            if not is_sure(span, scores, min_score):
                labels[span.start : span.end] = [OUTSIDE] * (span.end - span.start)
                continue
            start, end = words[span.start].start, words[span.end - 1].end
            score = entity_score(span, scores)
            entities.append({"label": span.label, "start": start, "end": end, "text": text[start:end], "score": score})
        if not self.options.word_labels:
            return {"entities": entities}
        tags = from_iob2(labels, self.schemes[task.name])
        return {"words": [word.text for word in words], "labels": tags, "entities": entities}


def prepare_inputs(align: Aligner, inputs: Sequence[TextInput]) -> list[Row]:
    """Tokenize texts.

    Args:
        align: Aligner, which tokenizes them.
        inputs: Texts.

    Returns:
        One row per text, as the collator takes it.
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


def _sequence_results(
    task: TaskConfig, logits: torch.Tensor, options: OutputOptions, of_states: torch.Tensor | None = None
) -> Sequence[object]:
    names = task.labels or []
    if task.problem_type == REGRESSION:
        if len(names) < 2:
            return [{"value": value} for (value,) in logits.tolist()]
        return [{"values": dict(zip(names, values, strict=True))} for values in logits.tolist()]
    scores = label_probabilities(task, logits)
    # Labels are chosen by logits: rounded probabilities may be equal where logits are not.
    if options.top_k is not None:
        ids = logits.topk(min(options.top_k, len(names))).indices
        rows = zip(ids.tolist(), scores.gather(1, ids).tolist(), strict=True)
        return [
            [{"label": names[i], "score": score} for i, score in zip(ids, values, strict=True)] for ids, values in rows
        ]
    if task.problem_type == MULTI_LABEL:
        is_above = logits > 0 if options.threshold == DEFAULT_THRESHOLD else scores > options.threshold
        above = [row.nonzero().squeeze(1).tolist() for row in is_above]
        return [
            {"labels": [names[i] for i in ids], "scores": row[ids].tolist()}
            for ids, row in zip(above, scores, strict=True)
        ]
    best = logits.argmax(-1, keepdim=True)
    answers = list(zip(best.squeeze(1).tolist(), scores.gather(1, best).squeeze(1).tolist(), strict=True))
    if task.abstention is None:
        return [{"label": names[i], "score": score} for i, score in answers]
    statistic = task.abstention.statistic(logits, of_states)
    rejected, in_scope = task.abstention.rejects(statistic).tolist(), task.abstention.in_scope(statistic).tolist()
    return [
        {
            "label": task.out_of_scope if is_rejected else names[i],
            "score": score,
            "best_label": names[i],
            "in_scope": scope,
        }
        for (i, score), is_rejected, scope in zip(answers, rejected, in_scope, strict=True)
    ]
