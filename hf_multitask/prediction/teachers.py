"""Teachers: trained models whose scores a student is trained on."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from ..data.tokenization import aligner_fingerprint
from ..models.collator import MultiTaskDataCollator, columns_to_rows
from ..models.configuration_multitask import MultiTaskConfig
from ..models.decoding import log_tag_probabilities
from ..models.encoder_loading import find_model, load_config, load_tokenizer
from ..models.encoder_pooling import mean_of_windows
from ..models.encoder_vocabulary import check_vocabulary
from ..models.loading import load_model
from ..models.modeling_multitask import MultiTaskModel, gather_words
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ..models.text_alignment import NO_POSITION, Aligner
from ..models.text_inputs import TEXT_COLUMN, TEXT_PAIR_COLUMN, TOKENS_COLUMN
from ..models.text_words import split_words
from ..models.type_aliases import Batch
from ..models.weights_digest import weights_digest
from .teacher_labels import LabelMap, map_labels, map_stock_tags

# Endings of the architectures of stock models, and the Auto classes that load them.
TOKEN_MODEL, SEQUENCE_MODEL = "ForTokenClassification", "ForSequenceClassification"
# Entries of a batch that a stock model does not take.
_NOT_STOCK = ("tag_positions", "row_windows")

# Function from a batch of the collator to the scores by task.
ScoresFunction = Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]


@dataclass
class Teacher:
    """A model that scores rows in the labels of a student's tasks.

    Args:
        name: Folder or hub name.
        model: The model, in eval mode.
        align: Tokenizes words.
        collate: Collator of the tokenized words.
        splits_words: Whether to split texts into words.
        scores: Function that runs the model on a batch.
        label_maps: By task that the teacher has, the conversion of its labels to the student's.
    """

    name: str
    model: PreTrainedModel
    align: Aligner
    collate: MultiTaskDataCollator
    splits_words: bool
    scores: ScoresFunction
    label_maps: Mapping[str, LabelMap]

    def digest(self) -> str:
        """Return a text that is equal for teachers with equal scores."""
        config = self.model.config.to_diff_dict()
        maps = {name: label_map.description for name, label_map in self.label_maps.items()}
        parts = [weights_digest(self.model), config, aligner_fingerprint(self.align), self.splits_words, maps]
        return json.dumps(parts, sort_keys=True, default=str)

    @torch.inference_mode()
    def predict(self, columns: Mapping[str, Sequence[Any]], batch_size: int) -> dict[str, list[np.ndarray]]:
        """Score rows, longest first.

        Args:
            columns: Columns ``text``, ``text_pair`` and ``tokens`` of the rows.
            batch_size: Number of rows per pass.

        Returns:
            By task, the scores of each row, in float32: (num_labels,) or (num_words, num_labels). They are
            log-probabilities, log-odds for a multi-label task, and numbers for a regression; NaN for a word that the
            teacher does not see.
        """
        texts = zip(columns[TEXT_COLUMN], columns[TOKENS_COLUMN], strict=True)
        words = [self._words(text, tokens) for text, tokens in texts]
        rows = columns_to_rows(self.align({"words": words, TEXT_PAIR_COLUMN: columns[TEXT_PAIR_COLUMN]}))
        order = sorted(range(len(rows)), key=lambda i: rows[i]["length"], reverse=True)
        found: dict[str, list[np.ndarray]] = {name: [np.empty(0)] * len(rows) for name in self.label_maps}
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = self.collate([rows[i] for i in chosen])
            batch = {name: tensor.to(self.model.device) for name, tensor in batch.items()}
            for name, scores in self.scores(batch).items():
                converted = self._converted(name, scores.float(), batch)
                for i, row in zip(chosen, converted.cpu().numpy(), strict=True):
                    found[name][i] = row[: len(words[i])] if converted.dim() > 2 else row
        return found

    def _words(self, text: str | None, tokens: Sequence[str] | None) -> list[str]:
        if tokens:
            return list(tokens)
        return [word.text for word in split_words(str(text))] if self.splits_words else [str(text)]

    def _converted(self, name: str, scores: torch.Tensor, batch: Batch) -> torch.Tensor:
        converted = self.label_maps[name](scores)
        if converted.dim() < 3:
            return converted
        return converted.masked_fill((batch["tag_positions"] == NO_POSITION).unsqueeze(-1), torch.nan)


def check_teacher(name: str | Path) -> None:
    """Raise if a folder or hub name is not that of a model that can teach, before anything is loaded.

    Raises:
        ValueError: If there is no such model, or it is neither a multi-task model nor a stock model for tokens or
            sequences.
    """
    _kind(name, load_config(find_model(name)))


def load_teacher(name: str | Path, tasks: Sequence[TaskConfig]) -> Teacher:
    """Load a teacher.

    Args:
        name: Folder or hub name of a multi-task model, or of a stock model for token or sequence classification with
            its tokenizer.
        tasks: Tasks of the student that are to be taught, with their labels.

    Returns:
        The teacher, on the CPU. It has the tasks of the same name; a stock model has the task with its labels.

    Raises:
        ValueError: If the model cannot be loaded, or its labels are not those of the student. The message names the
            difference.
    """
    config = load_config(find_model(name))
    kind = _kind(name, config)
    teacher = _load_multitask(name, tasks) if not kind else _load_stock(name, config, kind, tasks)
    teacher.model.eval()
    return teacher


def mean_scores(task: TaskConfig, scores: Sequence[np.ndarray]) -> np.ndarray:
    """Return the scores of an ensemble: those of the mean of the members' probabilities.

    Args:
        task: The task.
        scores: Scores of a row by each member, as `Teacher.predict` returns them.

    Returns:
        Scores of the same shape. An item that one member does not see is scored by the others.
    """
    if len(scores) == 1:
        return scores[0]
    members = torch.from_numpy(np.stack(scores))
    if task.problem_type == REGRESSION:
        return members.mean(0).numpy()
    seen = ~members.isnan()
    if task.problem_type == MULTI_LABEL:
        yes, no = (functional.logsigmoid(sign * members).logsumexp(0) for sign in (1, -1))
        return (yes - no).numpy()
    total = members.masked_fill(~seen, -torch.inf).logsumexp(0) - seen.sum(0).log()
    return total.masked_fill(~seen.any(0), torch.nan).numpy()


def _kind(name: str | Path, config: PreTrainedConfig) -> str | None:
    """Return the ending of a stock model's architecture, None for a multi-task model."""
    if isinstance(config, MultiTaskConfig):
        return None
    architectures = config.architectures or []
    for kind in (TOKEN_MODEL, SEQUENCE_MODEL):
        if any(architecture.endswith(kind) for architecture in architectures):
            return kind
    raise ValueError(
        f"teacher {str(name)!r}: expected a multi-task model, or a stock model for token or sequence classification, "
        f"found {', '.join(architectures) or 'a model without an architecture'} of type {config.model_type!r}."
    )


def _load_multitask(name: str | Path, tasks: Sequence[TaskConfig]) -> Teacher:
    model, tokenizer = load_model(name)
    own = {task.name: task for task in model.config.tasks}
    taught = [task for task in tasks if task.name in own]
    if not taught:
        raise ValueError(
            f"teacher {str(name)!r} has none of the tasks {', '.join(task.name for task in tasks)}; it has "
            f"{', '.join(own)}."
        )
    maps = {}
    for task in taught:
        _check_kinds(name, task, own[task.name].type, own[task.name].problem_type)
        maps[task.name] = map_labels(str(name), task, own[task.name].labels)
    token_tasks = [task for task in own.values() if task.is_token_task]
    config = model.config
    align = Aligner(
        tokenizer,
        config.tasks,
        overlap=config.overlap,
        truncate=config.truncate,
        label_subwords=token_tasks[0].label_subword if token_tasks else "first",
    )

    def scores(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        logits = model(**batch, tasks=list(maps), return_dict=True).logits
        return {task: log_probabilities(own[task], logits[task], batch.get("tag_positions"), model) for task in maps}

    collate = MultiTaskDataCollator(tokenizer, config.tasks)
    return Teacher(str(name), model, align, collate, bool(token_tasks), scores, maps)


def log_probabilities(
    task: TaskConfig, logits: torch.Tensor, tag_positions: torch.Tensor | None, model: MultiTaskModel
) -> torch.Tensor:
    """Return the scores of a multi-task model's task, see `Teacher.predict`; marginals for a task with a CRF."""
    if task.is_token_task:
        return log_tag_probabilities(task, logits, tag_positions, model.crfs.get(task.name))
    return logits.float() if task.problem_type in (MULTI_LABEL, REGRESSION) else logits.float().log_softmax(-1)


def _load_stock(name: str | Path, config: PreTrainedConfig, kind: str, tasks: Sequence[TaskConfig]) -> Teacher:
    source, is_token_model = find_model(name), kind == TOKEN_MODEL
    tokenizer = load_tokenizer(source)
    check_vocabulary(tokenizer, config, source)
    task, label_map = _find_task(str(name), config, is_token_model, tasks)
    auto_class = AutoModelForTokenClassification if is_token_model else AutoModelForSequenceClassification
    model = auto_class.from_pretrained(source, dtype=torch.float32, use_safetensors=True)

    def scores(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        inputs = {key: value for key, value in batch.items() if key not in _NOT_STOCK}
        logits, windows = model(**inputs, return_dict=True).logits.float(), batch.get("row_windows")
        if is_token_model:
            logits = gather_words(logits, batch["tag_positions"], windows)
        elif windows is not None:
            logits = mean_of_windows(logits, batch["attention_mask"], windows)
        are_scores = task.problem_type in (MULTI_LABEL, REGRESSION)
        return {task.name: logits if are_scores else logits.log_softmax(-1)}

    align, collate = Aligner(tokenizer, [task]), MultiTaskDataCollator(tokenizer, [task])
    return Teacher(str(name), model, align, collate, is_token_model, scores, {task.name: label_map})


def _find_task(
    name: str, config: PreTrainedConfig, is_token_model: bool, tasks: Sequence[TaskConfig]
) -> tuple[TaskConfig, LabelMap]:
    """Return the task of a stock model: the only one of its type, or the only one with its labels."""
    fitting = [task for task in tasks if task.is_token_task == is_token_model]
    kind = "token" if is_token_model else "sequence"
    if not fitting:
        raise ValueError(f"teacher {name!r} is a model for {kind} classification, but no task to teach is.")
    by_id: Mapping[int, str] = config.id2label  # type: ignore[assignment]  # a loaded config has ids as integers
    labels = [by_id[i] for i in range(len(by_id))]
    found: list[tuple[TaskConfig, LabelMap]] = []
    errors: list[ValueError] = []
    for task in fitting:
        try:
            if not is_token_model and config.problem_type is not None:
                _check_kinds(name, task, task.type, config.problem_type)
            maker = map_stock_tags if is_token_model else map_labels
            found.append((task, maker(name, task, labels)))
        except ValueError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    if len(found) > 1:
        raise ValueError(
            f"teacher {name!r}: the tasks {', '.join(task.name for task, _ in found)} have its labels; name the one "
            "that it teaches in `tasks`."
        )
    return found[0]


def _check_kinds(name: str | Path, task: TaskConfig, task_type: str, problem_type: str | None) -> None:
    """Raise if a teacher's task is of another type than the student's."""
    if (task.type, task.problem_type) != (task_type, problem_type):
        expected, found = task.problem_type or task.type, problem_type or task_type
        raise ValueError(f"teacher {str(name)!r}: task {task.name!r}: expected a {expected}, found a {found}.")
