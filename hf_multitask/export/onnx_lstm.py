"""LSTMs as the operator that ONNX has for them: traced step by step, a graph would have a fixed number of words."""

import copy

import torch
from torch import nn

from ..models import MultiTaskModel


class OnnxLSTM(nn.Module):
    """One direction of an LSTM as the ONNX operator; computes something only in an exported graph.

    ONNX has the gates in the order input, output, forget, cell and torch input, forget, cell, output; see the operator
    ``LSTM`` in the ONNX specification and `torch.nn.LSTM`.

    Args:
        lstm: An LSTM with one layer, ``batch_first``.
    """

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.width = lstm.hidden_size
        weights, recurrent_weights, *biases = (
            _reordered(lstm.get_parameter(f"{name}_l0")) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        # In front an axis for directions, of which there is one.
        self.weights = nn.Buffer(weights.unsqueeze(0))
        self.recurrent_weights = nn.Buffer(recurrent_weights.unsqueeze(0))
        self.biases = nn.Buffer(torch.cat(biases).unsqueeze(0))

    def forward(self, states: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the outputs (batch, num_words, width) for states (batch, num_words, hidden), as ``nn.LSTM`` does."""
        by_word = states.transpose(0, 1)
        outputs = torch.onnx.ops.symbolic(
            "LSTM",
            [by_word, self.weights, self.recurrent_weights, self.biases],
            {"hidden_size": self.width},
            dtype=states.dtype,
            shape=(by_word.shape[0], 1, by_word.shape[1], self.width),
        )
        return outputs.squeeze(1).transpose(0, 1), None


def with_onnx_lstms(model: MultiTaskModel) -> MultiTaskModel:
    """Return a copy of a model that can only be exported: the LSTMs of its heads are ONNX operators.

    Args:
        model: The model; it stays as it is.
    """
    model = copy.deepcopy(model)
    for module in list(model.heads.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.LSTM):
                setattr(module, name, OnnxLSTM(child))
    return model


def _reordered(gates: torch.Tensor) -> torch.Tensor:
    input_gate, forget_gate, cell, output_gate = gates.detach().chunk(4)
    return torch.cat([input_gate, output_gate, forget_gate, cell])
