"""What runs on a device have in common: precisions, results, operations, memory."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.utils import is_flash_attn_2_available

from hf_multitask import MultiTaskModel
from hf_multitask.models.layer_groups import EMBEDDINGS

from .random_workload import EncoderShape

MIB = 2**20
FLASH = "flash_attention_2"


@dataclass(frozen=True)
class Precision:
    """A precision to compute in.

    Args:
        name: Name in the tables.
        dtype: Type of the products.
        training: Training arguments for it.
        attention: Implementation of attention; the encoder's own if None.
    """

    name: str
    dtype: torch.dtype
    training: dict[str, Any]
    attention: str | None = None


def precisions() -> list[Precision]:
    """Return the precisions that this machine has. TF32 is off, as torch leaves it."""
    found = [
        Precision("fp32", torch.float32, {}),
        Precision("bf16", torch.bfloat16, {"bf16": True}),
    ]
    if torch.cuda.is_available():
        found.append(Precision("fp16", torch.float16, {"fp16": True}))
        if is_flash_attn_2_available():
            found.append(Precision("bf16, flash attention", torch.bfloat16, {"bf16": True}, FLASH))
    return found


@dataclass(frozen=True)
class RunResult:
    """Result of a run.

    Args:
        name: What ran.
        precision: Name of its precision.
        all_rows_per_second: Rows per second of each round.
        peak_bytes: Peak memory of the device; None without one.
        mean_length: Mean number of tokens per row.
        is_stock: Whether it is what others are compared with: classes of transformers, one model per task.
        runs_all_layers: Whether each row runs forward, and in training backward, once through all layers.
    """

    name: str
    precision: str
    all_rows_per_second: Sequence[float]
    peak_bytes: int | None
    mean_length: float
    is_stock: bool = False
    runs_all_layers: bool = True

    @property
    def rows_per_second(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.all_rows_per_second)


def operations_per_token(model: MultiTaskModel, length: int) -> float:
    """Return the floating-point operations of a forward pass on one token.

    2 per weight; embeddings are only looked up. The products of attention have no weights: 4 per layer, unit of the
    hidden size and token of the text.

    Args:
        model: The model.
        length: Number of tokens per text.
    """
    config = model.encoder.config
    return 2 * _num_multiplied(model) + 4 * config.num_hidden_layers * config.hidden_size * length


def shape_in_words(model: MultiTaskModel, shape: EncoderShape) -> str:
    """Return the size of an encoder as a line."""
    millions = _num_multiplied(model) / 1e6
    return f"{shape.layers} layers of width {shape.hidden_size}, {millions:.1f} M weights besides embeddings"


def _num_multiplied(model: MultiTaskModel) -> int:
    return sum(group.num_parameters for group in model.layer_groups() if group.name != EMBEDDINGS)


def reset_peak() -> None:
    """Begin to measure the peak memory of the device, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_bytes() -> int | None:
    """Return the peak memory of the device since `reset_peak`, None without a device."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
