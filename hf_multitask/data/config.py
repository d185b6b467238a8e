"""Config of a dataset: source of its rows and reading options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pandas as pd

from ..models.field_types import check_fields
from ..models.messages import unknown_name_message
from ..models.tags_schemes import scheme_of_name
from ..models.text_alignment import LABEL_SUBWORDS
from ..runtime.dataclass_yaml import changed_fields
from .labels.values import LabelOptions
from .readers.reading_options import ReadingOptions
from .readers.sources import Source, frame_rows, load_hub_split
from .readers.spans import SPAN_MISMATCH
from .readers.word_spans import SPAN_UNITS

SPLITS = ("train", "validation", "test")
UNSEEN_LABELS = ("error", "ignore")


@dataclass
class DataConfig:
    """Source of the rows of one dataset, and reading options.

    Args:
        train: Training rows: a file, a folder of ``save_to_disk``, a dataset of ``datasets``, a data frame of pandas,
            which becomes a list of rows, or such a list; the name of the split if ``name`` is given.
        validation: Validation rows, given in the same way. The best epoch is selected on them.
        test: Test rows, given in the same way.
        out_of_scope: More rows, which belong to no label of the tasks that abstain: rows of train, given in the same
            way, or a mapping of splits to rows. Only their texts are read.
        tasks: Names of the tasks that the rows have labels for. Defaults to all tasks.
        name: Hub name of a dataset, or a folder that ``datasets`` can read.
        config: Configuration of the hub dataset.
        revision: Revision of the hub dataset.
        streaming: Whether to read the training rows during training instead of all before; needs ``max_steps``.
        format: Format of the files, such as ``"conll"``. Defaults to the format of their extension.
        columns: Names of columns in the files, or their numbers in CoNLL files and tables without a header, by our
            names, such as ``text_pair``.
        delimiter: See `ReadingOptions`, as for ``encoding``, ``quoting`` and ``header``.
        encoding: Encoding of text files.
        quoting: How a quote is written in a quoted cell of a table.
        header: Whether the first line of a table names the columns.
        sheet: Name of the sheet of an Excel file. Defaults to the first.
        label_separator: Separator of several labels in a text, as in ``news|work``.
        missing_labels: Texts that mean that a row has no label, such as ``nan``.
        tag_scheme: Scheme of the tags. Defaults to the scheme of the task, or else to the recognized one.
        outside_tag: Tag of words outside of all entities, besides ``O``. Defaults to the recognized one.
        span_unit: What the offsets of spans count: ``"characters"``, or words, ``"words"`` if the end is the first
            word after the span and ``"words_inclusive"`` if it is its last word.
        span_mismatch: Treatment of a span that starts or ends inside a word: ``"widen"``, ``"error"``, or ``"drop"``
            (its words count for no loss and no score).
        unseen_labels: Treatment of a label that does not occur in train: ``"error"``, or ``"ignore"`` (no loss
            counts it, and evaluations count it as wrong).
        validation_split: Share of train to use as validation, stratified by the labels, if there is no validation.
        folds: Number of folds for cross-validation on train, stratified by the labels, if there is no validation.
        group: Column whose rows with the same value are in the same fold, such as a document or a speaker.
        max_length: Maximum sequence length in subwords. Defaults to the maximum of the tokenizer. Longer rows are cut
            into windows.
        overlap: Number of subwords that consecutive windows share. Defaults to a quarter of ``max_length``.
        truncate: Whether to truncate rows longer than ``max_length`` instead.
        label_subwords: Subwords of a word that have a label in training: ``"first"``, ``"all"`` (I- after the first)
            or ``"last"``. Prediction reads the first subword, or the last. If None, a run chooses it, and
            `prepare_datasets` takes ``"first"``.
        num_proc: Number of processes that tokenize.

    Raises:
        ValueError: If a value is not allowed.
    """

    # `Any`, so that `_check_source` and not the strict type check reports a wrong value.
    train: Any = None
    validation: Any = None
    test: Any = None
    out_of_scope: Any = None
    tasks: list[str] | None = None
    name: str | None = None
    config: str | None = None
    revision: str | None = None
    streaming: bool = False
    format: str | None = None
    columns: dict[str, str | int] = field(default_factory=dict)
    delimiter: str | None = None
    encoding: str | None = None
    quoting: str | None = None
    header: bool | None = None
    sheet: str | None = None
    label_separator: str | None = None
    missing_labels: list[str] = field(default_factory=list)
    tag_scheme: str | None = None
    outside_tag: str | None = None
    span_unit: str | None = None
    span_mismatch: str = "widen"
    unseen_labels: str = "error"
    validation_split: float | None = None
    folds: int | None = None
    group: str | None = None
    max_length: int | None = None
    overlap: int | None = None
    truncate: bool = False
    label_subwords: str | None = None
    num_proc: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        check_fields(self)
        for split in SPLITS:
            if isinstance(source := getattr(self, split), pd.DataFrame):
                setattr(self, split, frame_rows(source))
            _check_source(split, getattr(self, split))
        self._check_out_of_scope()
        self._check_values()
        self.reading_options()
        if self.tag_scheme is not None:
            self.tag_scheme = scheme_of_name(self.tag_scheme)
        if self.truncate and self.overlap is not None:
            raise ValueError("truncate and overlap exclude each other: windows keep what truncate drops.")
        if self.validation_split is not None:
            if self.validation is not None:
                raise ValueError("validation and validation_split exclude each other.")
            if self.streams_train:
                raise ValueError("validation_split needs all rows of train: leave out streaming, or give validation.")
        self._check_folds()

    def __repr__(self) -> str:
        """Return the fields that differ from their default. Of rows, only their number is shown."""
        shown = ", ".join(f"{name}={_short(value)}" for name, value in changed_fields(self).items())
        return f"{type(self).__name__}({shown})"

    def _check_out_of_scope(self) -> None:
        for split, source in self.out_of_scope_sources().items():
            if split not in SPLITS:
                raise ValueError(f"out_of_scope: {unknown_name_message('split', split, SPLITS)}")
            if source is None:
                raise ValueError(
                    f"data.out_of_scope.{split}: expected a file, a dataset or a list of rows, found none."
                )
            _check_source(f"out_of_scope.{split}", source)
            if getattr(self, split) is None:
                raise ValueError(f"data.out_of_scope has rows for {split}, which is not given; give {split} too.")
            if split == "train" and self.streams_train:
                raise ValueError(
                    "data.out_of_scope: rows of train that are streamed cannot be mixed with rows of another file; "
                    "leave out streaming, or mark the rows by a label, which `out_of_scope` of the task names."
                )

    def _check_values(self) -> None:
        for key, least in (("max_length", 1), ("overlap", 0), ("num_proc", 1)):
            if (value := getattr(self, key)) is not None and value < least:
                raise ValueError(f"{key} must be at least {least}, found {value}.")
        for key, allowed in (
            ("span_mismatch", SPAN_MISMATCH),
            ("unseen_labels", UNSEEN_LABELS),
            ("label_subwords", LABEL_SUBWORDS),
        ):
            if getattr(self, key) not in (*allowed, None):
                raise ValueError(unknown_name_message(key, getattr(self, key), allowed))
        if self.span_unit is not None and self.span_unit not in SPAN_UNITS:
            raise ValueError(unknown_name_message("span_unit", self.span_unit, SPAN_UNITS))
        for key in ("label_separator", "outside_tag"):
            if getattr(self, key) == "":
                raise ValueError(f"{key} must be a text that is not empty, found ''.")

    def _check_folds(self) -> None:
        if self.folds is None:
            if self.group is not None:
                raise ValueError(f"group={self.group!r} has no effect without folds; add folds, such as folds: 5.")
            return
        if self.folds < 2:
            raise ValueError(f"folds must be at least 2, found {self.folds}.")
        for name in ("validation", "validation_split"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"folds and {name} exclude each other: each fold is the validation rows of one training. Leave "
                    f"out {name} to cross-validate on train, or leave out folds to validate on {name}."
                )
        if self.streams_train:
            raise ValueError(
                "folds needs all rows of train: leave out streaming to cross-validate, or leave out folds and give "
                "validation."
            )

    @property
    def has_validation(self) -> bool:
        """Whether a training has validation rows: a split, a share of train, or the folds."""
        return any(value is not None for value in (self.validation, self.validation_split, self.folds))

    @property
    def streams_train(self) -> bool:
        """Whether the training rows are read during training."""
        return self.streaming or isinstance(self.train, datasets.IterableDataset)

    def reading_options(self) -> ReadingOptions:
        """Return what is known about the form of the files."""
        return ReadingOptions(self.delimiter, self.encoding, self.quoting, self.header, self.sheet)

    def label_options(self) -> LabelOptions:
        """Return how labels are written."""
        return LabelOptions(self.label_separator, self.missing_labels, self.outside_tag)

    def out_of_scope_sources(self) -> dict[str, Source]:
        """Return the source of the rows out of scope of each split that has any."""
        given = self.out_of_scope
        if given is None:
            return {}
        return dict(given) if isinstance(given, Mapping) else {SPLITS[0]: given}

    def sources(self) -> dict[str, Source]:
        """Return the source of each split that is given.

        Raises:
            ValueError: If ``name`` is not a dataset, or the dataset does not have a split.
        """
        given = {split: getattr(self, split) for split in SPLITS if getattr(self, split) is not None}
        if self.name is None:
            return given
        return {
            split: load_hub_split(self.name, name, self.config, self.revision, self.streaming)
            for split, name in given.items()
        }


def data_configs(
    data: Mapping[str, Source] | DataConfig | Sequence[DataConfig], options: Mapping[str, Any]
) -> list[DataConfig]:
    """Return the config of each dataset.

    Args:
        data: Sources by split; or one or several `DataConfig`.
        options: Further fields of `DataConfig`, if ``data`` is a mapping.

    Raises:
        ValueError: If there is no dataset or split, a split or option is unknown, rows are given without their split,
            or datasets differ in a setting that must be the same in all of them.
    """
    if isinstance(data, Mapping):
        return [_config_of_splits(data, options)]
    configs = [data] if isinstance(data, DataConfig) else list(data)
    if not all(isinstance(config, DataConfig) for config in configs):
        raise ValueError(
            f"data: expected rows by split, such as {{'train': rows, 'validation': more_rows}}, or DataConfig, found "
            f"{type(data).__name__}."
        )
    if options:
        raise ValueError(f"{', '.join(options)}: give these in each DataConfig.")
    if not configs:
        raise ValueError("data is empty; expected at least one dataset.")
    for key in ("max_length", "overlap", "truncate", "label_subwords"):
        values = {getattr(config, key) for config in configs}
        if len(values) > 1:
            raise ValueError(
                f"data: {key} must be the same in all datasets, as the model predicts with it; found "
                f"{', '.join(sorted(map(str, values)))}."
            )
    folds = {config.folds for config in configs}
    if len(folds) > 1:
        raise ValueError(
            "data: folds must be the same in all datasets, as a fold has rows of each; found "
            f"{', '.join(sorted(map(str, folds)))}."
        )
    return configs


def _config_of_splits(data: Mapping[str, Any], options: Mapping[str, Any]) -> DataConfig:
    for split in data:
        if split not in SPLITS:
            raise ValueError(unknown_name_message("split", split, SPLITS))
    if not data:
        raise ValueError("data has no split; expected at least one, such as {'train': 'train.jsonl'}.")
    for option in options:
        if option not in DataConfig.__dataclass_fields__:
            raise ValueError(unknown_name_message("option", option, DataConfig.__dataclass_fields__))
    return DataConfig(**data, **options)


def _short(value: object) -> str:
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
        return f"<{len(value):,} rows>"
    return f"<{len(value):,} rows>" if isinstance(value, datasets.Dataset) else repr(value)


def _check_source(split: str, source: object) -> None:
    allowed = (str, Path, datasets.Dataset, datasets.IterableDataset, list, tuple)
    if source is not None and not isinstance(source, allowed):
        raise ValueError(
            f"data.{split}: expected a file, a split's name, a dataset, a data frame or a list of rows, found "
            f"{source!r:.80}."
        )
