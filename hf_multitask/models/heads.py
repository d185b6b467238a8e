"""Heads on the encoder."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import nn

from .encoder_dropout import QuickDropout
from .heads_crf import CRF, word_counts
from .heads_scope import build_statistic
from .tasks import LSTM_HEAD, TaskConfig


class LayerMix(nn.Module):
    """Learned mix of the states of all layers (Peters et al. 2018, "Deep contextualized word representations", 3.2).

    The mix starts as the mean of the states.

    Args:
        num_states: Number of states to mix: the output of each layer, and the input of the first layer.
    """

    def __init__(self, num_states: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(num_states))
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, states: Sequence[torch.Tensor]) -> torch.Tensor:
        """Mix the states of all layers, each (..., hidden), into one (..., hidden)."""
        if len(states) != len(self.weights):
            raise ValueError(f"mix_layers: expected the states of {len(self.weights)} layers, found {len(states)}.")
        shares = (self.scale.float() * self.weights.float().softmax(0)).to(states[0].dtype)
        mixed = shares[0] * states[0]
        for share, layer_states in zip(shares[1:], states[1:], strict=True):
            mixed = mixed + share * layer_states
        return mixed


class LinearHead(nn.Module):
    """Dropout and one linear layer, for sequence tasks and token tasks.

    Args:
        task: Task; its labels determine the number of outputs.
        hidden_size: Hidden size of the encoder.
        num_layers: Number of layers of the encoder.
    """

    def __init__(self, task: TaskConfig, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.mix = LayerMix(num_layers + 1) if task.mix_layers else None
        self.dropout = QuickDropout(task.dropout)
        self.classifier = nn.Linear(hidden_size, task.num_labels)
        self.crf = CRF(task.num_labels) if task.crf else None
        self.scope = build_statistic(task, hidden_size)

    def forward(self, states: torch.Tensor, present: torch.Tensor | None = None) -> torch.Tensor:
        """Map states to logits.

        Args:
            states: States (..., hidden).
            present: For token tasks, mask of the words that are not padding and have a state (batch, num_words); all
                words if None.

        Returns:
            Logits (..., num_labels).
        """
        return self.classifier(self.dropout(states))


class LSTMHead(LinearHead):
    """Bidirectional LSTM over the words of a text, followed by a `LinearHead`.

    Each direction has half the hidden size. The directions are separate modules, so that the backward one can start at
    the last word of each row without packed sequences, whose lengths would have to be copied from the device to the
    host.
    """

    def __init__(self, task: TaskConfig, hidden_size: int, num_layers: int) -> None:
        width = hidden_size // 2
        super().__init__(task, 2 * width, num_layers)
        self.forwards = nn.LSTM(hidden_size, width, batch_first=True)
        self.backwards = nn.LSTM(hidden_size, width, batch_first=True)

    def forward(self, states: torch.Tensor, present: torch.Tensor | None = None) -> torch.Tensor:
        """Map states to logits; see `LinearHead.forward`.

        Padding after the last word of a row does not change the logits of its words. A word without a state reads
        zeros.
        """
        if present is None:
            present = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
        states = states.masked_fill(~present.unsqueeze(-1), 0.0)
        # The words of each row from last to first; the padding after them stays in place.
        counts = word_counts(present).unsqueeze(1)
        positions = torch.arange(states.size(1), device=states.device).expand_as(present)
        reversed_positions = torch.where(positions < counts, counts - 1 - positions, positions).unsqueeze(-1)
        # cuDNN has no backward pass for an LSTM in eval mode; a frozen head is in eval mode while the encoder trains.
        disable_cudnn = states.requires_grad and not self.training
        with _without_cudnn() if disable_cudnn else nullcontext():
            ahead, _ = self.forwards(states)
            back, _ = self.backwards(states.gather(1, reversed_positions.expand_as(states)))
        back = back.gather(1, reversed_positions.expand_as(back))
        return super().forward(torch.cat([ahead, back], dim=-1))


@contextmanager
def _without_cudnn() -> Iterator[None]:
    """Compute without cuDNN in this context.

    ``torch.backends.cudnn.flags`` would also read the flag of TF32, an error once ``torch.backends.fp32_precision`` is
    set.
    """
    enabled = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = enabled


def build_head(task: TaskConfig, hidden_size: int, num_layers: int) -> LinearHead:
    """Build the head of a task.

    Args:
        task: Task with its labels.
        hidden_size: Hidden size of the encoder.
        num_layers: Number of layers of the encoder.

    Returns:
        The head.
    """
    head_class = LSTMHead if task.head == LSTM_HEAD else LinearHead
    return head_class(task, hidden_size, num_layers)
