"""Predictions of a model for rows of text: labels, scores, and entities with their characters."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from .data import MultiTaskDataCollator, Rows
from .data.alignment import Aligner
from .data.checks import check_inputs
from .data.rows import TEXT_COLUMN, TOKENS_COLUMN, batch_rows
from .data.words import Word, join_words, locate_words, split_words
from .models import MultiTaskModel, TaskConfig
from .models.decoding import decode
from .models.tag_conversion import from_iob2, scheme_of_name
from .models.tag_schemes import tag_spans
from .models.tasks import MULTI_LABEL, REGRESSION

# Writes tags in the scheme of a task's training data.
ORIGINAL = "original"


def predict(
    model: MultiTaskModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Rows | Sequence[str | Mapping[str, Any]],
    batch_size: int = 32,
    tag_scheme: str = "IOB2",
) -> Iterator[dict[str, Any]]:
    """Predict all tasks for each row, in one pass of the encoder.

    A row longer than the tokenizer's ``model_max_length`` is cut into windows, as `MultiTaskConfig` says.

    Args:
        model: The model; it is put into eval mode.
        tokenizer: Its tokenizer.
        rows: Texts, or rows with ``text`` or ``tokens``. A text is split into words as `split_words` does. With both,
            the words are looked up in the text.
        batch_size: Rows a pass.
        tag_scheme: Scheme to write the tags of token tasks in; ``"original"`` is that of each task's training data.

    Yields:
        By task, in the order of the rows. Sequence tasks: ``{"label", "score"}`` with the label's probability;
        several labels: ``{"labels", "scores"}`` of those above 0.5; regression: ``{"value"}``, or ``{"values"}`` by
        name. Token tasks: ``{"labels", "entities"}`` with one tag a word and for each entity ``label``, ``start``,
        ``end``, ``text`` and ``score``, where ``text`` is the row's text from character ``start`` to ``end`` (of the
        tokens joined by spaces where no text was given) and ``score`` the mean probability of its words' tags.

    Raises:
        ValueError: If a row has neither words nor text, or a word that does not occur in its text, or there is no
            such tag scheme.
    """
    if not isinstance(rows, Rows):
        rows = Rows("input", [{TEXT_COLUMN: row} if isinstance(row, str) else dict(row) for row in rows])
    check_inputs(rows)
    model.eval()
    predictor = _Predictor(model, tokenizer, tag_scheme)
    places = [_words(rows, i, predictor.has_token_task) for i in range(len(rows.rows))]
    for start in range(0, len(places), batch_size):
        yield from predictor.predict(places[start : start + batch_size])


def _words(rows: Rows, i: int, split: bool) -> tuple[str, list[Word]]:
    """Return a row's text and its words with their places in it; the whole text is one word if not ``split``."""
    text, tokens = rows.rows[i].get(TEXT_COLUMN), rows.rows[i].get(TOKENS_COLUMN)
    if tokens is None:
        text = str(text)
        return text, split_words(text) if split else [Word(text, 0, len(text))]
    if text is None:
        return join_words(tokens)
    try:
        return text, locate_words(tokens, text)
    except ValueError as error:
        raise ValueError(f"{rows.place(i)}: {error}") from error


class _Predictor:
    """What is the same for every batch."""

    def __init__(self, model: MultiTaskModel, tokenizer: PreTrainedTokenizerBase, tag_scheme: str) -> None:
        self.model = model
        self.tasks: list[TaskConfig] = model.config.tasks
        token_tasks = [task for task in self.tasks if task.is_token_task]
        self.has_token_task = bool(token_tasks)
        self.schemes = {
            task.name: task.tag_scheme or "IOB2" if tag_scheme == ORIGINAL else scheme_of_name(tag_scheme)
            for task in token_tasks
        }
        self.align = Aligner(
            tokenizer,
            self.tasks,
            overlap=model.config.overlap,
            truncate=model.config.truncate,
            label_subwords=token_tasks[0].label_subword if token_tasks else "first",
        )
        self.collate = MultiTaskDataCollator(tokenizer, self.tasks)

    @torch.no_grad()
    def predict(self, rows: Sequence[tuple[str, list[Word]]]) -> list[dict[str, Any]]:
        columns = self.align({"words": [[word.text for word in row_words] for _, row_words in rows]})
        batch = {name: tensor.to(self.model.device) for name, tensor in self.collate(batch_rows(columns)).items()}
        logits = self.model(**batch).logits
        results: list[dict[str, Any]] = [{} for _ in rows]
        for task in self.tasks:
            scores = logits[task.name].float()
            found = decode(task, scores, batch["tag_positions"]).cpu()
            if task.is_token_task:
                probabilities = _probabilities_of(scores.softmax(-1).cpu(), found, batch["tag_positions"].cpu())
                values: list[Any] = [
                    self._tag_result(task, text, row_words, found[i].tolist(), probabilities[i].tolist())
                    for i, (text, row_words) in enumerate(rows)
                ]
            else:
                values = [_sequence_result(task, scores[i].cpu(), found[i]) for i in range(len(rows))]
            for result, value in zip(results, values, strict=True):
                result[task.name] = value
        return results

    def _tag_result(
        self, task: TaskConfig, text: str, words: Sequence[Word], ids: Sequence[int], probabilities: Sequence[float]
    ) -> dict[str, Any]:
        names = task.labels or []
        labels = [names[i] for i in ids[: len(words)]]
        entities = []
        for span in tag_spans(labels):
            start, end = words[span.start].start, words[span.end - 1].end
            score = sum(probabilities[span.start : span.end]) / (span.end - span.start)
            entities.append({"label": span.label, "start": start, "end": end, "text": text[start:end], "score": score})
        return {"labels": from_iob2(labels, self.schemes[task.name]), "entities": entities}


def _probabilities_of(probabilities: torch.Tensor, ids: torch.Tensor, tag_positions: torch.Tensor) -> torch.Tensor:
    """Pick the probability of each word's tag (batch, num_words); 1 for the ``O`` of a word without a subword."""
    picked = probabilities.gather(-1, ids.unsqueeze(-1)).squeeze(-1)
    return picked.masked_fill(tag_positions < 0, 1.0)


def _sequence_result(task: TaskConfig, scores: torch.Tensor, found: torch.Tensor) -> dict[str, Any]:
    names = task.labels or []
    if task.problem_type == REGRESSION:
        if len(names) < 2:
            return {"value": found[0].item()}
        return {"values": dict(zip(names, found.tolist(), strict=True))}
    if task.problem_type == MULTI_LABEL:
        chosen = found.nonzero().flatten().tolist()
        return {"labels": [names[i] for i in chosen], "scores": scores.sigmoid()[chosen].tolist()}
    return {"label": names[int(found)], "score": scores.softmax(-1)[int(found)].item()}
