"""Tokenized splits, kept on disk for the next run."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.fingerprint import Hasher

from ..models import text_alignment, text_windows
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ..models.text_alignment import Aligner
from ..models.text_inputs import TEXT_PAIR_COLUMN
from ..runtime.processes import join_processes

CACHE_FOLDER = "hf_multitask"
# What tokenizes and aligns: rows that others have made are made anew.
_CODE = [Path(str(module.__file__)).read_bytes() for module in (text_alignment, text_windows)]
_VERSIONS = [version("tokenizers"), version("transformers"), Hasher.hash(_CODE)]


def tokenize(
    inputs: Mapping[str, Sequence[Any]],
    labels: Sequence[dict[str, Any]],
    tasks: Sequence[TaskConfig],
    aligner: Aligner,
    num_proc: int | None = None,
    name: str = "rows",
) -> datasets.Dataset:
    """Tokenize and align rows, or take them from the cache of an earlier run.

    The cache is that of ``datasets``; what it holds is found by the texts, the labels, the tokenizer and how it is
    used. ``datasets.disable_caching()`` turns it off.

    Args:
        inputs: What `Aligner` takes of the rows: ``words``, and ``text_pair``, which is None where there is none.
        labels: The labels of each row by task.
        tasks: All tasks of the model.
        aligner: What tokenizes.
        num_proc: Processes that tokenize.
        name: What the progress bar calls the rows.

    Returns:
        The dataset, with the columns that `Aligner` makes.
    """
    features = datasets.Features(
        {
            "words": datasets.List(datasets.Value("string")),
            TEXT_PAIR_COLUMN: datasets.Value("string"),
            "labels": {task.name: _label_feature(task) for task in tasks},
        }
    )
    # `Dataset.from_dict` would encode each item in Python.
    table = pa.Table.from_pydict({**inputs, "labels": labels}, schema=features.arrow_schema)
    rows = datasets.Dataset(table, info=datasets.DatasetInfo(features=features))
    options: dict[str, Any] = {"batched": True, "remove_columns": list(inputs), "desc": f"Aligning {name}"}
    if not datasets.is_caching_enabled():
        return rows.map(aligner, num_proc=num_proc, new_fingerprint=Hasher.hash(name), **options)
    key = Hasher.hash((rows._fingerprint, aligner_fingerprint(aligner)))
    folder = Path(datasets.config.HF_DATASETS_CACHE, CACHE_FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    # One process of a machine writes, the others read what it has written.
    with join_processes().local_main_process_first():
        return rows.map(
            aligner, num_proc=num_proc, new_fingerprint=key, cache_file_name=str(folder / f"{key}.arrow"), **options
        )


def aligner_fingerprint(aligner: Aligner) -> str:
    """Return what tells an aligner from others: it is the same in every process."""
    tokenizer = aligner.tokenizer
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # Set by each call of the tokenizer, so they only say what it did last.
    state |= {"truncation": None, "padding": None}
    # What a call takes from around it.
    given = [tokenizer.model_input_names, tokenizer.split_special_tokens]
    tags = [(task.name, task.labels) for task in aligner.token_tasks]
    settings = [aligner.max_length, aligner.overlap, aligner.truncate, aligner.label_subwords, tags, *_VERSIONS]
    return json.dumps([state, given, settings], sort_keys=True)


def _label_feature(task: TaskConfig) -> Any:
    if task.is_token_task:
        return datasets.List(datasets.Value("int64"))
    if task.problem_type in (MULTI_LABEL, REGRESSION):
        return datasets.List(datasets.Value("float32"))
    return datasets.Value("int64")
