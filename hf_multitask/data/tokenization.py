"""Tokenization of whole splits, cached on disk for later runs."""

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import datasets
import pyarrow as pa
from datasets.features.features import FeatureType
from datasets.fingerprint import Hasher

from ..models import text_alignment, text_windows
from ..models.tasks import MULTI_LABEL, REGRESSION, TaskConfig
from ..models.text_alignment import Aligner
from ..models.text_inputs import TEXT_PAIR_COLUMN
from ..models.type_aliases import Batch, JsonObject
from .cached_rows import load_or_compute

# Code that tokenizes and aligns is part of the cache key, so that rows made by another version are made again.
_CODE = [Path(str(module.__file__)).read_bytes() for module in (text_alignment, text_windows)]
_VERSIONS = [version("tokenizers"), version("transformers"), Hasher.hash(_CODE)]


def tokenize(
    batch: Batch, tasks: Sequence[TaskConfig], aligner: Aligner, num_proc: int | None = None, name: str = "rows"
) -> datasets.Dataset:
    """Tokenize and align rows, or load them from the cache of an earlier run.

    The cache is in the folder of the ``datasets`` cache. Its key is made of the texts, the labels, the tokenizer and
    the settings of the aligner. ``datasets.disable_caching()`` turns it off.

    Args:
        batch: The columns that `Aligner` takes: ``words``; ``text_pair``, None for rows without a second text; and
            ``labels``, the label ids of each row by task.
        tasks: All tasks of the model.
        aligner: The aligner.
        num_proc: Number of processes that tokenize.
        name: Name of the rows in the progress bar.

    Returns:
        The dataset, with the columns that `Aligner` returns and ``labels``.
    """
    features = datasets.Features(
        {
            "words": datasets.List(datasets.Value("string")),
            TEXT_PAIR_COLUMN: datasets.Value("string"),
            "labels": {task.name: _label_feature(task) for task in tasks},
        }
    )
    # `Dataset.from_dict` would encode each item in Python.
    table = pa.Table.from_pydict(batch, schema=features.arrow_schema)
    rows = datasets.Dataset(table, info=datasets.DatasetInfo(features=features))
    inputs = [column for column in batch if column != "labels"]
    options: JsonObject = {"batched": True, "remove_columns": inputs, "desc": f"Aligning {name}"}
    if not datasets.is_caching_enabled():
        return rows.map(aligner, num_proc=num_proc, new_fingerprint=Hasher.hash(name), **options)
    key = Hasher.hash((rows._fingerprint, aligner_fingerprint(aligner)))
    return load_or_compute(
        key,
        lambda path: rows.map(aligner, num_proc=num_proc, new_fingerprint=key, cache_file_name=path, **options),
    )


def aligner_fingerprint(aligner: Aligner) -> str:
    """Return a text that is equal for equal aligners, in every process."""
    tokenizer = aligner.tokenizer
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # Set by each call of the tokenizer, so that they only describe its last call.
    state |= {"truncation": None, "padding": None}
    # Settings outside of the backend that a call reads.
    call_settings = [tokenizer.model_input_names, tokenizer.split_special_tokens]
    tags = [(task.name, task.labels) for task in aligner.token_tasks]
    settings = [aligner.max_length, aligner.overlap, aligner.truncate, aligner.label_subwords, tags, *_VERSIONS]
    return json.dumps([state, call_settings, settings], sort_keys=True)


def _label_feature(task: TaskConfig) -> FeatureType:
    if task.is_token_task:
        return datasets.List(datasets.Value("int64"))
    if task.problem_type in (MULTI_LABEL, REGRESSION):
        return datasets.List(datasets.Value("float32"))
    return datasets.Value("int64")
