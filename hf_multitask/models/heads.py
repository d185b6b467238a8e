"""The heads that stand on the encoder."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import nn

from .encoder_dropout import QuickDropout
from .heads_crf import CRF, word_counts
from .tasks import LSTM_HEAD, TaskConfig


class LayerMix(nn.Module):
    """A learned mix of the states of all layers (Peters et al. 2018, "Deep contextualized word representations", 3.2).

    It starts as their mean.

    Args:
        num_states: Number of states that are mixed: those of each layer, and those that enter the first.
    """

    def __init__(self, num_states: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(num_states))
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, states: Sequence[torch.Tensor]) -> torch.Tensor:
        """Mix the states of all layers, each (..., hidden), to (..., hidden)."""
        if len(states) != len(self.weights):
            raise ValueError(f"mix_layers: expected the states of {len(self.weights)} layers, found {len(states)}.")
        shares = (self.scale.float() * self.weights.float().softmax(0)).to(states[0].dtype)
        mixed = shares[0] * states[0]
        for share, of_layer in zip(shares[1:], states[1:], strict=True):
            mixed = mixed + share * of_layer
        return mixed


class LinearHead(nn.Module):
    """Dropout and one linear layer, for whole texts and for words alike.

    Args:
        task: The task; its labels give the number of outputs.
        hidden_size: Width of the encoder's states.
        num_layers: Number of the encoder's layers.
    """

    def __init__(self, task: TaskConfig, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.mix = LayerMix(num_layers + 1) if task.mix_layers else None
        self.dropout = QuickDropout(task.dropout)
        self.classifier = nn.Linear(hidden_size, task.num_labels)
        self.crf = CRF(task.num_labels) if task.crf else None

    def forward(self, states: torch.Tensor, present: torch.Tensor | None = None) -> torch.Tensor:
        """Map states to logits.

        Args:
            states: States (..., hidden).
            present: For token tasks, which words are no padding and have a state (batch, num_words); all where None.

        Returns:
            Logits (..., num_labels).
        """
        return self.classifier(self.dropout(states))


class LSTMHead(LinearHead):
    """A bidirectional LSTM over the words of a text in front of a `LinearHead`; each direction half as wide.

    The directions are modules of their own, so that the second can start at each row's last word without the packed
    sequences for which the lengths would have to be read back from the device.
    """

    def __init__(self, task: TaskConfig, hidden_size: int, num_layers: int) -> None:
        width = hidden_size // 2
        super().__init__(task, 2 * width, num_layers)
        self.forwards = nn.LSTM(hidden_size, width, batch_first=True)
        self.backwards = nn.LSTM(hidden_size, width, batch_first=True)

    def forward(self, states: torch.Tensor, present: torch.Tensor | None = None) -> torch.Tensor:
        """Map states to logits; see `LinearHead.forward`.

        What is behind a row's last word changes nothing in front of it; a word without a state has one of zeros.
        """
        if present is None:
            present = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
        states = states.masked_fill(~present.unsqueeze(-1), 0.0)
        # Each row's words from the last to the first, and what is behind them as it is.
        counts = word_counts(present).unsqueeze(1)
        places = torch.arange(states.size(1), device=states.device).expand_as(present)
        turned = torch.where(places < counts, counts - 1 - places, places).unsqueeze(-1)
        # cuDNN has no backward pass of an LSTM in eval mode, where a frozen head is while the encoder below it trains.
        without = states.requires_grad and not self.training
        with torch.backends.cudnn.flags(enabled=False) if without else nullcontext():
            ahead, _ = self.forwards(states)
            back, _ = self.backwards(states.gather(1, turned.expand_as(states)))
        return super().forward(torch.cat([ahead, back.gather(1, turned.expand_as(back))], dim=-1))


def build_head(task: TaskConfig, hidden_size: int, num_layers: int) -> LinearHead:
    """Build a task's head.

    Args:
        task: The task, with its labels.
        hidden_size: Width of the encoder's states.
        num_layers: Number of the encoder's layers.

    Returns:
        The head.
    """
    head_class = LSTMHead if task.head == LSTM_HEAD else LinearHead
    return head_class(task, hidden_size, num_layers)
