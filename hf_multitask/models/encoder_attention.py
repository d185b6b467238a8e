"""Attention of the encoder: masks built without synchronization, and checks of the implementation."""

import copy
from collections.abc import Mapping

import torch
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask, create_bidirectional_sliding_window_mask

from .type_aliases import Batch

# Model types that accept a prepared mask and are covered by tests. Others of transformers may accept one too.
ACCEPT_MASK = ("albert", "bert", "camembert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta")
ACCEPT_MASK_PER_LAYER_TYPE = ("modernbert",)

# Implementations that need no package besides torch.
TORCH_ATTENTION = ("eager", "sdpa", "flex_attention")

# Types of devices whose tensors can be read without waiting.
HOST = ("cpu",)


def build_attention_masks(encoder: PreTrainedModel, inputs: Mapping[str, torch.Tensor]) -> Batch:
    """Build the attention masks of an encoder without checking whether the batch is padded.

    Encoders of transformers check it in each forward pass, to skip the mask if no text of the batch is padded. On a
    GPU the check waits for all queued work. The masks built here are those that the encoder builds for padded texts.

    Args:
        encoder: Encoder.
        inputs: Inputs of the encoder.

    Returns:
        The inputs, with ``attention_mask`` replaced if that saves a synchronization.
    """
    if torch.compiler.is_compiling():
        return dict(inputs)  # a compiled encoder does not check
    mask, config = inputs.get("attention_mask"), encoder.config
    per_layer_type = config.model_type in ACCEPT_MASK_PER_LAYER_TYPE
    if mask is None or mask.dim() != 2 or mask.device.type in HOST:
        return dict(inputs)
    if config._attn_implementation not in ("sdpa", "eager") or getattr(config, "is_decoder", False):
        return dict(inputs)
    if not per_layer_type and config.model_type not in ACCEPT_MASK:
        return dict(inputs)
    # Only the shape, type and device of the embeddings are read.
    embeddings = torch.empty(1, dtype=encoder.dtype, device=mask.device).expand(*mask.shape, 1)
    full = create_bidirectional_mask(config, embeddings, mask, allow_is_bidirectional_skip=False)
    if not per_layer_type:
        return {**inputs, "attention_mask": full}
    sliding = create_bidirectional_sliding_window_mask(config, embeddings, mask, allow_is_bidirectional_skip=False)
    return {**inputs, "attention_mask": {"full_attention": full, "sliding_attention": sliding}}


def check_attention(config: PreTrainedConfig, attn_implementation: str) -> None:
    """Raise if an encoder does not support an attention implementation or this machine cannot compute it.

    Args:
        config: Config of the encoder.
        attn_implementation: Name of the implementation in transformers.

    Raises:
        ValueError: If transformers refuses it. The message gives the reason and the implementations that work here.
    """
    reason = _refusal(config, attn_implementation)
    if reason is not None:
        allowed = ", ".join(name for name in TORCH_ATTENTION if _refusal(config, name) is None)
        raise ValueError(
            f"attn_implementation={attn_implementation!r}: this machine or encoder ({config.model_type}) does not "
            f"support it. Allowed here: {allowed}; flash_attention_2 and similar on a GPU with their package. {reason}"
        )


def _refusal(config: PreTrainedConfig, attn_implementation: str) -> str | None:
    """Return the reason why transformers refuses an attention implementation, or None if it accepts it."""
    try:
        # The meta device allocates no weights.
        with torch.device("meta"):
            AutoModel.from_config(copy.deepcopy(config), attn_implementation=attn_implementation)
    except (ValueError, ImportError) as error:
        return str(error)
    return None
