"""Scores of a teacher as a column of the training rows, computed once and cached on disk."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from datasets.fingerprint import Hasher

from ..data import PreparedData, TrainingStream
from ..data.batches.numpy_rows import with_numpy_rows
from ..data.cached_rows import load_or_compute
from ..data.preparation_report import TeacherReport
from ..models.collator import TEACHER_COLUMN
from ..models.losses import IGNORE_INDEX
from ..models.messages import unknown_name_message
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ..models.text_alignment import TAG_WORDS_COLUMN
from ..models.type_aliases import JsonObject, Row
from ..prediction import teacher_labels, teachers
from ..prediction.teachers import Teacher, load_teacher, mean_scores

logger = logging.getLogger(__name__)

TRAIN = "train"
ROWS_AT_ONCE = 1000
# Code that computes scores is part of the cache key.
_CODE = Hasher.hash([Path(str(module.__file__)).read_bytes() for module in (teachers, teacher_labels)])


def add_teacher_targets(
    data: PreparedData,
    teacher: str | Path | Sequence[str | Path],
    tasks: Sequence[str] | None = None,
    batch_size: int = 32,
    device: torch.device | None = None,
) -> PreparedData:
    """Let a teacher score all training rows, for a student that is trained on the scores and the labels.

    The teacher reads the words of a row with its own tokenizer, so that it can be of any architecture. Its scores
    belong to rows and words and are mapped to the student's labels by name. They are kept in the folder of the
    ``datasets`` cache; the key is made of the teacher and the texts. `MultiTaskTrainer` recognizes the column.

    Args:
        data: Data of the student, prepared with ``train_texts=True``. Rows without labels can be among the training
            rows: give them as a `DataConfig` with ``tasks=[]``.
        teacher: Folder or hub name of a multi-task model, or of a stock model for token or sequence classification
            with the labels of one task. Several are an ensemble: the student learns the mean of their probabilities,
            by task over those that have the task.
        tasks: Names of the tasks to teach. Defaults to all tasks that the teachers have.
        batch_size: Number of rows per pass of a teacher.
        device: Device to run the teachers on. Defaults to the CPU.

    Returns:
        The data, with the scores in the column ``teacher`` of the training rows and a report on them.

    Raises:
        ValueError: If the training rows are streamed, have folds, or their texts were not kept; if a teacher cannot be
            loaded, or its labels are not those of the tasks.
    """
    rows, texts = data.get(TRAIN), data.texts.get(TRAIN)
    if data.folds is not None:
        raise ValueError("a teacher may have been trained on the rows of a fold: data with folds has no teacher.")
    if isinstance(rows, TrainingStream):
        raise ValueError("a teacher scores all training rows before the training: streamed rows have no teacher.")
    if rows is None or texts is None or len(texts) != len(rows):
        raise ValueError("the teacher needs the texts of all training rows: prepare_datasets(…, train_texts=True).")
    taught = _chosen(data.tasks, tasks)
    names = [teacher] if isinstance(teacher, (str, Path)) else list(teacher)
    if not names:
        raise ValueError("teacher is empty; expected at least one model.")
    members = [load_teacher(name, taught) for name in names]
    table = datasets.Dataset(texts.table)
    scores = _score(table, members, [task for task in taught if _has(members, task)], batch_size, device)
    if TEACHER_COLUMN in rows.column_names:
        rows = rows.remove_columns(TEACHER_COLUMN)
    scored = datasets.concatenate_datasets([rows, scores], axis=1)
    report = _report(scored, data.tasks)
    logger.info("Teacher: %s.", report)
    return dataclasses.replace(data, splits={**data.splits, TRAIN: scored}, teacher=report)


def _chosen(tasks: Sequence[TaskConfig], names: Sequence[str] | None) -> list[TaskConfig]:
    for name in names or []:
        if name not in [task.name for task in tasks]:
            raise ValueError(f"tasks: {unknown_name_message('task', name, [task.name for task in tasks])}")
    return [task for task in tasks if names is None or task.name in names]


def _has(members: Sequence[Teacher], task: TaskConfig) -> bool:
    return any(task.name in member.label_maps for member in members)


def _score(
    texts: datasets.Dataset,
    members: Sequence[Teacher],
    tasks: Sequence[TaskConfig],
    batch_size: int,
    device: torch.device | None,
) -> datasets.Dataset:
    """Return the column of scores, from the cache if it is there. One process per machine computes it."""
    features = datasets.Features(
        {
            TEACHER_COLUMN: {
                task.name: datasets.List(datasets.Value("float32" if task.problem_type == REGRESSION else "float16"))
                for task in tasks
            }
        }
    )

    def score(columns: Mapping[str, Sequence[Any]]) -> pa.Table:
        for member in members:
            # transformers wraps `to` in a way that loses the type of its receiver.
            member.model.to(device or torch.device("cpu"))  # type: ignore[arg-type]
        by_member = [member.predict(columns, batch_size) for member in members]
        arrays = []
        for task in tasks:
            of_task = zip(*(scores[task.name] for scores in by_member if task.name in scores), strict=True)
            arrays.append(_as_lists([mean_scores(task, row) for row in of_task], features[TEACHER_COLUMN][task.name]))
        structs = pa.StructArray.from_arrays(arrays, names=[task.name for task in tasks])
        return pa.table({TEACHER_COLUMN: structs})

    digests = [member.digest() for member in members]
    of_tasks = [(task.name, task.problem_type, task.labels) for task in tasks]
    key = Hasher.hash([texts._fingerprint, digests, of_tasks, _CODE])
    options: JsonObject = {
        "batched": True,
        "batch_size": ROWS_AT_ONCE,
        "features": features,
        "remove_columns": texts.column_names,
        "new_fingerprint": key,
        "desc": "Scoring by the teacher",
    }
    if not datasets.is_caching_enabled():
        return texts.map(score, **options)
    return load_or_compute(f"teacher-{key}", lambda path: texts.map(score, cache_file_name=path, **options))


def _as_lists(rows: Sequence[np.ndarray], feature: datasets.List) -> pa.ListArray:
    """Return the scores of rows as an Arrow column of flat lists."""
    ends = np.cumsum([0, *(row.size for row in rows)], dtype=np.int32)
    values = np.concatenate([row.ravel() for row in rows]).astype(feature.feature.dtype)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(values))


def _report(rows: datasets.Dataset, tasks: Sequence[TaskConfig]) -> TeacherReport:
    """Compare the teacher with the labels of the rows that have some."""
    taught = [task for task in tasks if task.name in rows.features[TEACHER_COLUMN]]
    labeled = {task.name: 0 for task in taught}
    right, counted = dict.fromkeys(labeled, 0), dict.fromkeys(labeled, 0)
    arrays = with_numpy_rows(rows, ["labels", TEACHER_COLUMN, TAG_WORDS_COLUMN])
    for start in range(0, len(rows), ROWS_AT_ONCE):
        for row in arrays.__getitems__(range(start, min(start + ROWS_AT_ONCE, len(rows)))):
            for task in taught:
                agrees = _agreement(task, row)
                labeled[task.name] += len(agrees) > 0
                right[task.name] += int(agrees.sum())
                counted[task.name] += len(agrees)
    shown = [task.name for task in taught if task.problem_type != REGRESSION and counted[task.name]]
    return TeacherReport(len(rows), labeled, {name: right[name] / counted[name] for name in shown})


def _agreement(task: TaskConfig, row: Row) -> np.ndarray:
    """Return for each labeled item of a row whether the teacher predicts its label; empty without labels."""
    labels = np.atleast_1d(row["labels"][task.name])
    scores = np.asarray(row[TEACHER_COLUMN][task.name])
    if task.problem_type in (MULTI_LABEL, REGRESSION):
        if np.isnan(labels).any():
            return np.zeros(0, bool)
        return np.array([task.problem_type == MULTI_LABEL and bool(((scores > 0) == labels).all())])
    if TAG_WORDS_COLUMN in row and task.is_token_task:
        # The label of a word is that of its first subword.
        labels = labels[np.unique(row[TAG_WORDS_COLUMN], return_index=True)[1]]
    scores = scores.reshape(-1, task.num_labels)
    counts = (labels != IGNORE_INDEX) & ~np.isnan(scores).any(-1)
    return scores.argmax(-1)[counts] == labels[counts]
