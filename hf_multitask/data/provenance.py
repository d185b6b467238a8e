"""Provenance of prepared rows, for the model card."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import TypeAlias

from ..models.text_inputs import TEXT_COLUMN, TEXT_PAIR_COLUMN, TOKENS_COLUMN
from ..models.type_aliases import Row
from .config import SPLITS, DataConfig
from .dataset_loader import TRAIN, DatasetLoader

MAX_EXAMPLES = 3
MAX_EXAMPLE_LENGTH = 100  # characters
MAX_ROWS_READ = 100
# An input of a pipeline: a text, or both texts of a pair.
Example: TypeAlias = str | dict[str, str]


@dataclass
class DataProvenance:
    """Sources and examples of prepared rows.

    Args:
        sources: By split, the names of its files or hub datasets.
        hub_datasets: Names of the datasets from the hub.
        examples: At most 3 short texts of the training rows, pairs with ``text`` and ``text_pair``.
    """

    sources: dict[str, list[str]] = field(default_factory=dict)
    hub_datasets: list[str] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)


def find_provenance(loaders: Sequence[DatasetLoader]) -> DataProvenance:
    """Find the sources of datasets and some examples of their training rows.

    Args:
        loaders: The loaded datasets. The first rows of a stream are read here.

    Returns:
        The names of the sources, without the folders of files, and texts of each dataset in turn.
    """
    configs = [loader.config for loader in loaders]
    sources = {
        split: [_source_name(loader.config, split) for loader in loaders if split in loader.sources]
        for split in SPLITS
    }
    texts = [_short_texts(loader) for loader in loaders]
    in_turn = _unique(text for text in chain.from_iterable(zip_longest(*texts)) if text is not None)
    return DataProvenance(
        sources={split: list(dict.fromkeys(names)) for split, names in sources.items() if names},
        hub_datasets=list(dict.fromkeys(str(config.name) for config in configs if _is_on_hub(config))),
        examples=in_turn[:MAX_EXAMPLES],
    )


def _source_name(config: DataConfig, split: str) -> str:
    source = getattr(config, split)
    if source is None:  # a share of train
        return f"{config.validation_split:.0%} of {_source_name(config, TRAIN)}"
    if config.name is not None:
        name = config.name if _is_on_hub(config) else Path(config.name).name
        return f"{name} ({', '.join(part for part in (config.config, f'split {source}') if part)})"
    return Path(source).name if isinstance(source, (str, Path)) else "rows in memory"


def _is_on_hub(config: DataConfig) -> bool:
    return config.name is not None and not Path(config.name).exists()


def _short_texts(loader: DatasetLoader) -> list[Example]:
    """Return the first short texts and pairs of the training rows; the words of rows without a text are joined."""
    if TRAIN not in loader.sources:
        return []
    rows: Iterable[Row] = (
        islice(loader.splits[TRAIN].rows.rows, MAX_ROWS_READ)
        if TRAIN in loader.splits
        else (located.row for located in islice(loader.open(TRAIN), MAX_ROWS_READ))
    )
    texts = (
        (row.get(TEXT_COLUMN) or " ".join(row.get(TOKENS_COLUMN) or []), row.get(TEXT_PAIR_COLUMN)) for row in rows
    )
    return _unique(
        text if pair is None else {TEXT_COLUMN: text, TEXT_PAIR_COLUMN: pair}
        for text, pair in texts
        if 0 < len(f"{text}{pair or ''}") <= MAX_EXAMPLE_LENGTH
    )[:MAX_EXAMPLES]


def _unique(examples: Iterable[Example]) -> list[Example]:
    unique: list[Example] = []
    for example in examples:
        if example not in unique:
            unique.append(example)
    return unique
