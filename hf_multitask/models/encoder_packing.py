"""Several texts in one row of the encoder, so that hardly anything is padding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from .encoder_attention import HOST
from .type_aliases import Batch

# Model types with absolute positions that accept a prepared mask.
PACKED_TYPES = ("albert", "bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta")
PACKING_NEEDS = f"it needs a CPU, attention of torch (sdpa), no torch.compile, and one of {', '.join(PACKED_TYPES)}."
# Tokens per row, if no text is longer. Attention costs more in longer rows, since a token looks at other texts too,
# before they are masked.
ROW_TOKENS = 48
# Texts are packed if this share of their tokens with padding is left at most. What is gathered costs little.
WORTHWHILE_SHARE = 0.9
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class PackedTexts:
    """Texts of a batch in fewer rows, without most of the padding.

    Args:
        inputs: Inputs of the encoder (num_rows, row_tokens), with positions that start again in each text, and a mask
            (num_rows, 1, row_tokens, row_tokens) that keeps texts apart.
        places: Place of each token in the rows, one after the other (batch, seq_len); that of padding is any.
        sources: Place in the texts, one after the other, of each token of the rows (num_rows, row_tokens).
    """

    inputs: Batch
    places: torch.Tensor
    sources: torch.Tensor

    def pack(self, states: torch.Tensor) -> torch.Tensor:
        """Return states of the texts (batch, seq_len, hidden) as those of the rows (num_rows, row_tokens, hidden)."""
        return _select(states, self.sources)

    def unpack(self, states: torch.Tensor) -> torch.Tensor:
        """Return states of the rows (num_rows, row_tokens, hidden) as those of the texts (batch, seq_len, hidden)."""
        return _select(states, self.places)


def can_pack(encoder: PreTrainedModel) -> bool:
    """Return whether texts can share a row of an encoder: on the CPU, with known positions and masks.

    Args:
        encoder: Encoder.
    """
    return (
        encoder.config.model_type in PACKED_TYPES
        and encoder.config._attn_implementation == "sdpa"
        and encoder.device.type in HOST
        and not torch.compiler.is_compiling()
    )


def pack_texts(encoder: PreTrainedModel, inputs: Mapping[str, torch.Tensor]) -> PackedTexts | None:
    """Put several texts of a batch into one row.

    Args:
        encoder: Encoder, which `can_pack` has accepted.
        inputs: Inputs of the encoder, padded on the right.

    Returns:
        The packed texts, whose states are those of the texts in the batch up to rounding. None if there are other
        inputs, texts are not padded on the right, or packing saves too little.
    """
    ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
    if ids is None or mask is None or mask.dim() != 2 or set(inputs) - set(INPUTS):
        return None
    lengths = mask.sum(1)
    columns = torch.arange(mask.shape[1])
    if not torch.equal(mask, (columns < lengths[:, None]).to(mask)):
        return None
    rows = fill_rows(lengths.tolist(), ROW_TOKENS)
    row_tokens = max((sum(int(lengths[i]) for i in row) for row in rows), default=0)
    if not rows or len(rows) * row_tokens > WORTHWHILE_SHARE * mask.numel():
        return None
    starts = torch.zeros_like(lengths)
    for number, row in enumerate(rows):
        start = number * row_tokens
        for i in row:
            starts[i] = start
            start += int(lengths[i])
    is_token = mask.bool()
    places = torch.where(is_token, starts[:, None] + columns, 0)

    def packed(values: torch.Tensor, filler: int = 0) -> torch.Tensor:
        flat = values.new_full((len(rows) * row_tokens,), filler)
        flat[places[is_token]] = values[is_token]
        return flat.view(len(rows), row_tokens)

    texts = packed(torch.arange(len(lengths))[:, None].expand_as(mask), -1)
    # No state of padding is read: any token and position will do.
    filled = {name: packed(value) for name, value in inputs.items() if name != "attention_mask"}
    filled["position_ids"] = packed(_positions(encoder, ids))
    filled["attention_mask"] = texts[:, None, :, None] == texts[:, None, None, :]
    return PackedTexts(filled, places, sources=packed(torch.arange(mask.numel()).view_as(mask)))


def fill_rows(lengths: Sequence[int], row_tokens: int) -> list[list[int]]:
    """Divide texts into rows of the encoder: the longest first, each into the first row that has room for it.

    Args:
        lengths: Tokens of each text.
        row_tokens: Maximum number of tokens per row; that of the longest text if it has more.

    Returns:
        Indices of the texts of each row.
    """
    row_tokens = max(row_tokens, max(lengths, default=0))
    rows: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        row = next((number for number, left in enumerate(room) if left >= lengths[i]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(row_tokens)
        rows[row].append(i)
        room[row] -= lengths[i]
    return rows


def _select(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return the states at some places. The gradient of ``index_select`` is faster than that of an index."""
    return states.flatten(0, 1).index_select(0, places.flatten()).view(*places.shape, -1)


def _positions(encoder: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """Return the positions of the tokens of each text, as the encoder would count them."""
    embeddings: Any = encoder.embeddings
    if hasattr(embeddings, "create_position_ids_from_input_ids"):  # RoBERTa and its kin start after the padding's
        return embeddings.create_position_ids_from_input_ids(ids, embeddings.padding_idx)
    return torch.arange(ids.shape[1]).expand_as(ids)
