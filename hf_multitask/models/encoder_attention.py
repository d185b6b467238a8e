"""The attention that an encoder has: its masks, and which of them a machine can compute."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask, create_bidirectional_sliding_window_mask

# Encoders whose layers take a mask that is ready. Others of transformers do too, but none that the tests have seen.
TAKE_READY_MASKS = ("albert", "bert", "camembert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta")
TAKE_READY_MASKS_BY_LAYER = ("modernbert",)

# What needs no package beside torch.
OF_TORCH = ("eager", "sdpa", "flex_attention")

# Where a tensor's value can be read without waiting for a device.
HOST = ("cpu",)


def build_attention_masks(encoder: PreTrainedModel, inputs: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Make an encoder's attention masks from the padding, without looking whether there is any.

    On its own an encoder looks, to do without a mask where no text of a batch is padded. On a GPU that waits for all
    that is queued there, in each forward pass. The masks are those that it would make for padded texts.

    Args:
        encoder: The encoder.
        inputs: Its inputs.

    Returns:
        The inputs, ``attention_mask`` replaced where that saves a wait.
    """
    if torch.compiler.is_compiling():
        return dict(inputs)  # compiled, an encoder does not look
    mask, config = inputs.get("attention_mask"), encoder.config
    by_layer = config.model_type in TAKE_READY_MASKS_BY_LAYER
    if mask is None or mask.dim() != 2 or mask.device.type in HOST:
        return dict(inputs)
    if config._attn_implementation not in ("sdpa", "eager") or getattr(config, "is_decoder", False):
        return dict(inputs)
    if not by_layer and config.model_type not in TAKE_READY_MASKS:
        return dict(inputs)
    # Only shape, type and device of the embeddings are looked at.
    like = torch.empty(1, dtype=encoder.dtype, device=mask.device).expand(*mask.shape, 1)
    known: dict[str, Any] = {
        "config": config,
        "inputs_embeds": like,
        "attention_mask": mask,
        "allow_is_bidirectional_skip": False,
    }
    masks: Any = create_bidirectional_mask(**known)
    if by_layer:
        masks = {"full_attention": masks, "sliding_attention": create_bidirectional_sliding_window_mask(**known)}
    return {**inputs, "attention_mask": masks}


def check_attention(config: PreTrainedConfig, attn_implementation: str) -> None:
    """Refuse an attention that an encoder does not have or this machine cannot compute.

    Args:
        config: The encoder's config.
        attn_implementation: Its name, as transformers has it.

    Raises:
        ValueError: If it is refused. The message says why and names what works here.
    """
    reason = _refusal(config, attn_implementation)
    if reason is not None:
        allowed = ", ".join(name for name in OF_TORCH if _refusal(config, name) is None)
        raise ValueError(
            f"attn_implementation={attn_implementation!r}: this machine or encoder ({config.model_type}) does not "
            f"have it. Allowed here: {allowed}; flash_attention_2 and its like on a GPU with their package. {reason}"
        )


def _refusal(config: PreTrainedConfig, attn_implementation: str) -> str | None:
    """Return why transformers refuses an attention, None where it takes it."""
    try:
        # Built without weights.
        with torch.device("meta"):
            AutoModel.from_config(copy.deepcopy(config), attn_implementation=attn_implementation)
    except (ValueError, ImportError) as error:
        return str(error)
    return None
