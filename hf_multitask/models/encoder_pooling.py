"""Pooling of token states to one vector per text."""

import torch

from .messages import unknown_name_message

# Under the names of sentence-transformers.
POOLING_MODES = ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
_SHORT = {"last": "lasttoken"}


def find_pooling(name: str) -> str:
    """Return the pooling mode of a name.

    Args:
        name: Name of a mode; ``"last"`` is short for ``"lasttoken"``.

    Returns:
        The name of sentence-transformers.

    Raises:
        ValueError: If there is no such mode.
    """
    mode = _SHORT.get(name, name) if isinstance(name, str) else name
    if mode not in POOLING_MODES:
        raise ValueError(unknown_name_message("pooling", name, POOLING_MODES))
    return mode


def pool(states: torch.Tensor, attention_mask: torch.Tensor | None, mode: str, prompt_length: int = 0) -> torch.Tensor:
    """Reduce the token states of each text to one vector.

    Padding may be on either side.

    Args:
        states: Token states (batch, seq_len, hidden).
        attention_mask: 1 for tokens, 0 for padding (batch, seq_len); all positions are tokens if None.
        mode: ``"mean"``, ``"cls"`` (the first token), ``"lasttoken"``, ``"max"``, ``"mean_sqrt_len_tokens"`` (the sum
            divided by the square root of the number of tokens) or ``"weightedmean"`` (weighted by position).
        prompt_length: Number of tokens at the start of each text that are left out.

    Returns:
        Vectors (batch, hidden).
    """
    if attention_mask is None:
        attention_mask = states.new_ones(states.shape[:2], dtype=torch.long)
    whole = attention_mask
    if prompt_length:
        attention_mask = whole * (whole.cumsum(dim=1) > prompt_length)
    if mode == "cls":
        # int32, because onnxruntime does not take the argmax of int64.
        return _states_at(states, attention_mask.to(torch.int32).argmax(dim=1))
    if mode == "lasttoken":
        return _states_at(states, (attention_mask * whole.cumsum(dim=1)).to(torch.int32).argmax(dim=1))
    mask = attention_mask.unsqueeze(-1)
    if mode == "max":
        return states.masked_fill(mask == 0, torch.finfo(states.dtype).min).max(dim=1).values
    if mode == "weightedmean":
        # The weights count the tokens of the prompt, as in sentence-transformers.
        mask = mask * whole.cumsum(dim=1).unsqueeze(-1)
    mask = mask.to(states.dtype)
    count = mask.sum(dim=1).clamp(min=1e-9)
    return (states * mask).sum(dim=1) / (count.sqrt() if mode == "mean_sqrt_len_tokens" else count)


def _states_at(states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return the state at one position of each text."""
    return states.gather(1, positions.long().view(-1, 1, 1).expand(-1, 1, states.size(-1))).squeeze(1)


def mean_of_windows(
    logits: torch.Tensor, attention_mask: torch.Tensor | None, row_windows: torch.Tensor
) -> torch.Tensor:
    """Reduce the logits of the windows of each text to their mean, weighted by the number of tokens per window.

    Args:
        logits: Logits of the windows (num_windows, num_labels).
        attention_mask: 1 for tokens, 0 for padding (num_windows, seq_len); all windows have equal weight if None.
        row_windows: Mask of the windows of each text (batch, num_windows).

    Returns:
        Logits of the texts (batch, num_labels).
    """
    weights = row_windows.to(logits.dtype)
    if attention_mask is not None:
        weights = weights * attention_mask.sum(dim=1).to(logits.dtype)
    return (weights @ logits) / weights.sum(dim=1, keepdim=True)
