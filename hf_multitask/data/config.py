"""Where the rows of a dataset are and how they are read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub.dataclasses import strict

from ..models.messages import unknown_name_message
from ..models.tags_schemes import scheme_of_name
from ..models.text_alignment import LABEL_SUBWORDS
from .readers.sources import Source, load_hub_split
from .readers.spans import SPAN_MISMATCH

SPLITS = ("train", "validation", "test")
UNSEEN_LABELS = ("error", "ignore")


@strict
@dataclass
class DataConfig:
    """One dataset: where its rows are and how they are read.

    Args:
        train: File, folder of ``save_to_disk``, dataset of ``datasets`` or list of rows; the split's name where
            ``name`` is given.
        validation: The same for validation; the best epoch is chosen on it.
        test: The same for test.
        tasks: Names of the tasks that its rows are labelled for; all where None.
        name: Hub name of a dataset, or a folder that ``datasets`` can read.
        config: Configuration of that dataset.
        revision: Revision of that dataset.
        streaming: Read the training rows while they are used, instead of all before; needs ``max_steps``.
        format: Format of the files, such as ``"conll"``; by their extension where None.
        columns: By our name of a column, such as ``text_pair``, its name in the files, or its number in CoNLL files.
        tag_scheme: Scheme of the tags; the task's where None, else recognised.
        span_mismatch: What to do with a span that starts or ends inside a word: ``"widen"`` it, ``"error"``, or
            ``"drop"`` it (its words count for no loss and no score).
        unseen_labels: What to do with a label that train never has: ``"error"``, or ``"ignore"`` (it counts for no
            loss and no score).
        validation_split: Share of train that becomes validation, stratified by the labels, where there is none.
        max_length: Longest sequence in subwords; what the tokenizer says where None. Longer rows become windows.
        overlap: Subwords that a window shares with the one before; a quarter of ``max_length`` where None.
        truncate: Cut off rows longer than ``max_length`` instead.
        label_subwords: Which subwords of a word are trained on: the ``"first"``, ``"all"`` (I- behind the first) or
            the ``"last"``. Prediction reads the first, or the last.
        num_proc: Processes that tokenize.

    Raises:
        ValueError: If a value is not allowed.
    """

    train: Any = None
    validation: Any = None
    test: Any = None
    tasks: list[str] | None = None
    name: str | None = None
    config: str | None = None
    revision: str | None = None
    streaming: bool = False
    format: str | None = None
    columns: dict[str, str | int] = field(default_factory=dict)
    tag_scheme: str | None = None
    span_mismatch: str = "widen"
    unseen_labels: str = "error"
    validation_split: float | None = None
    max_length: int | None = None
    overlap: int | None = None
    truncate: bool = False
    label_subwords: str = "first"
    num_proc: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        for split in SPLITS:
            _check_source(split, getattr(self, split))
        for key, allowed in (
            ("span_mismatch", SPAN_MISMATCH),
            ("unseen_labels", UNSEEN_LABELS),
            ("label_subwords", LABEL_SUBWORDS),
        ):
            if getattr(self, key) not in allowed:
                raise ValueError(unknown_name_message(key, getattr(self, key), allowed))
        if self.tag_scheme is not None:
            self.tag_scheme = scheme_of_name(self.tag_scheme)
        if self.truncate and self.overlap is not None:
            raise ValueError("truncate and overlap exclude each other: windows keep what truncate drops.")
        if self.validation_split is not None:
            if self.validation is not None:
                raise ValueError("validation and validation_split exclude each other.")
            if self.streams_train:
                raise ValueError("validation_split needs all rows of train: leave out streaming, or give validation.")

    @property
    def streams_train(self) -> bool:
        """Whether the training rows are read while they are used."""
        return self.streaming or isinstance(self.train, datasets.IterableDataset)

    def sources(self) -> dict[str, Source]:
        """Return what holds the rows of each split that is given.

        Raises:
            ValueError: If ``name`` has no such dataset or split.
        """
        given = {split: getattr(self, split) for split in SPLITS if getattr(self, split) is not None}
        if self.name is None:
            return given
        return {
            split: load_hub_split(self.name, name, self.config, self.revision, self.streaming)
            for split, name in given.items()
        }


def data_configs(data: Any, options: Mapping[str, Any]) -> list[DataConfig]:
    """Return the datasets that are meant.

    Args:
        data: By split what holds its rows; or a `DataConfig`, or several.
        options: Further fields of `DataConfig`, where ``data`` is a mapping.

    Raises:
        ValueError: If there is none, or a split or option is unknown.
    """
    if isinstance(data, Mapping):
        for split in data:
            if split not in SPLITS:
                raise ValueError(unknown_name_message("split", split, SPLITS))
        if not data:
            raise ValueError("data has no split; expected at least one, such as {'train': 'train.jsonl'}.")
        for option in options:
            if option not in DataConfig.__dataclass_fields__:
                raise ValueError(unknown_name_message("option", option, DataConfig.__dataclass_fields__))
        return [DataConfig(**data, **options)]
    if options:
        raise ValueError(f"{', '.join(options)}: give these in each DataConfig.")
    configs = [data] if isinstance(data, DataConfig) else list(data)
    if not configs:
        raise ValueError("data is empty; expected at least one dataset.")
    for key in ("max_length", "overlap", "truncate", "label_subwords"):
        found = {getattr(config, key) for config in configs}
        if len(found) > 1:
            raise ValueError(
                f"data: {key} must be the same in all datasets, as the model predicts with it; found "
                f"{', '.join(sorted(map(str, found)))}."
            )
    return configs


def _check_source(split: str, source: Any) -> None:
    allowed = (str, Path, datasets.Dataset, datasets.IterableDataset, list, tuple)
    if source is not None and not isinstance(source, allowed):
        raise ValueError(
            f"data.{split}: expected a file, a split's name, a dataset or a list of rows, found {source!r:.80}."
        )
