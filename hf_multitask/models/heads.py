"""The heads that stand on the encoder."""

import torch
from torch import nn

from .tasks import TaskConfig


class LinearHead(nn.Module):
    """Dropout and one linear layer, for whole texts and for words alike.

    Args:
        task: The task; its labels give the number of outputs.
        hidden_size: Width of the encoder's states.
    """

    def __init__(self, task: TaskConfig, hidden_size: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(task.dropout)
        self.classifier = nn.Linear(hidden_size, task.num_labels)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Map states (..., hidden) to logits (..., num_labels)."""
        return self.classifier(self.dropout(states))
