"""Cache keys: a digest of everything that cached states depend on."""

import json
from collections.abc import Iterator, Sequence

import datasets
import numpy as np
import pyarrow as pa
import transformers
import xxhash
from transformers import PreTrainedModel

from ...models.encoder_adapters import settings_of
from ...models.encoder_partial_forward import HEADS
from ...models.layer_groups import LayerGroups
from ...models.weights_digest import add_tensor

# Entries of an encoder's config that have no effect on what it computes.
_ORIGIN = ("_name_or_path", "architectures", "transformers_version", "dtype")
_ROWS_PER_BATCH = 10_000
# Form of the files of a store, so that those of another form are never read.
_FORM = "checksum per row"


def layer_digests(encoder: PreTrainedModel, groups: LayerGroups) -> dict[str, str]:
    """Digest what computes the states that enter each layer group: config, buffers and the weights below it.

    Args:
        encoder: The encoder.
        groups: Layer groups of the model, from the bottom up.

    Returns:
        Digests by the group that the states enter; ``heads`` for the output of the encoder.
    """
    config = {key: value for key, value in encoder.config.to_dict().items() if key not in _ORIGIN}
    config["attn_implementation"] = encoder.config._attn_implementation
    if adapters := settings_of(encoder):
        config["adapters"] = adapters
    digest = xxhash.xxh3_128(json.dumps([config, transformers.__version__], sort_keys=True, default=str).encode())
    for name, buffer in encoder.named_buffers():
        add_tensor(digest, name, buffer)
    digests = {}
    for group in groups:
        if group.is_shared:
            digests[group.name] = digest.hexdigest()
            for name, weight in group.parameters.items():
                add_tensor(digest, name, weight)
    return {**digests, HEADS: digest.hexdigest()}


def digest_rows(dataset: datasets.Dataset, columns: Sequence[str]) -> tuple[str, np.ndarray]:
    """Digest the tokenized rows of a dataset and count their tokens.

    Args:
        dataset: Tokenized rows, with ``attention_mask``.
        columns: Columns that the states depend on: the encoder's inputs and the lengths of windows.

    Returns:
        The digest, and the number of tokens per row (num_rows), at least 1: a row without tokens is encoded as one
        token of padding.
    """
    digests = {name: xxhash.xxh3_128(str(dataset.features[name]).encode()) for name in columns}
    lengths = []
    for table in _tables(dataset, columns):
        for name in columns:
            column = table[name].combine_chunks()
            values, ends = column.flatten().to_numpy(zero_copy_only=False), column.value_lengths().to_numpy()
            digests[name].update(np.ascontiguousarray(values).data)
            digests[name].update(ends.astype(np.int64).data)
            if name == "attention_mask":
                counted = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
                bounds = np.concatenate([[0], np.cumsum(ends, dtype=np.int64)])
                lengths.append(counted[bounds[1:]] - counted[bounds[:-1]])
    total = xxhash.xxh3_128(json.dumps([[name, found.hexdigest()] for name, found in digests.items()]).encode())
    return total.hexdigest(), np.maximum(np.concatenate(lengths or [np.empty(0, np.int64)]), 1)


def store_key(layers: str, rows: str, dtype: str, computed_in: str) -> str:
    """Return the key of a store, which is the name of its folder.

    Args:
        layers: Digest of the layers that compute the states, see `layer_digests`.
        rows: Digest of the rows, see `digest_rows`.
        dtype: Type of the cached states.
        computed_in: Mixed precision in which they are computed.
    """
    return xxhash.xxh3_128_hexdigest(json.dumps([_FORM, layers, rows, [dtype, computed_in]]).encode())


def _tables(dataset: datasets.Dataset, columns: Sequence[str]) -> Iterator[pa.Table]:
    yield from dataset.select_columns(list(columns)).with_format("arrow").iter(_ROWS_PER_BATCH)
