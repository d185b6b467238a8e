"""Where prepared rows come from, as a model card tells it."""

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
ROWS_LOOKED_AT = 100
# What a pipeline takes: a text, or both texts of a pair.
Example: TypeAlias = str | dict[str, str]


@dataclass
class DataProvenance:
    """Where prepared rows come from.

    Args:
        sources: By split, the names of the files or of the datasets on the hub that hold its rows.
        hub_datasets: Names of the datasets that came from the hub.
        examples: At most 3 short texts of the training rows, pairs with ``text`` and ``text_pair``.
    """

    sources: dict[str, list[str]] = field(default_factory=dict)
    hub_datasets: list[str] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)


def data_origin(loaded: Sequence[DatasetLoader]) -> DataProvenance:
    """Say where the rows of datasets come from.

    Args:
        loaded: The datasets, read; of a stream the first rows are read here.

    Returns:
        The names, without the folders of files, and some texts of each dataset in turn.
    """
    configs = [data_set.config for data_set in loaded]
    sources = {
        split: [_source(data_set.config, split) for data_set in loaded if split in data_set.sources]
        for split in SPLITS
    }
    short = [_short_texts(data_set) for data_set in loaded]
    in_turn = _different(text for text in chain.from_iterable(zip_longest(*short)) if text is not None)
    return DataProvenance(
        sources={split: list(dict.fromkeys(names)) for split, names in sources.items() if names},
        hub_datasets=list(dict.fromkeys(str(config.name) for config in configs if _is_on_hub(config))),
        examples=in_turn[:MAX_EXAMPLES],
    )


def _source(config: DataConfig, split: str) -> str:
    source = getattr(config, split)
    if source is None:  # a share of train
        return f"{config.validation_split:.0%} of {_source(config, TRAIN)}"
    if config.name is not None:
        name = config.name if _is_on_hub(config) else Path(config.name).name
        return f"{name} ({', '.join(part for part in (config.config, f'split {source}') if part)})"
    return Path(source).name if isinstance(source, (str, Path)) else "rows in memory"


def _is_on_hub(config: DataConfig) -> bool:
    return config.name is not None and not Path(config.name).exists()


def _short_texts(data_set: DatasetLoader) -> list[Example]:
    """Return the first short texts and pairs of the training rows; of rows that are only words, these joined."""
    if TRAIN not in data_set.sources:
        return []
    rows: Iterable[Row] = (
        islice(data_set.rows[TRAIN].rows, ROWS_LOOKED_AT)
        if TRAIN in data_set.rows
        else (located.row for located in islice(data_set.open(TRAIN), ROWS_LOOKED_AT))
    )
    texts = (
        (row.get(TEXT_COLUMN) or " ".join(row.get(TOKENS_COLUMN) or []), row.get(TEXT_PAIR_COLUMN)) for row in rows
    )
    return _different(
        text if pair is None else {TEXT_COLUMN: text, TEXT_PAIR_COLUMN: pair}
        for text, pair in texts
        if 0 < len(f"{text}{pair or ''}") <= MAX_EXAMPLE_LENGTH
    )[:MAX_EXAMPLES]


def _different(examples: Iterable[Example]) -> list[Example]:
    found: list[Example] = []
    for example in examples:
        if example not in found:
            found.append(example)
    return found
