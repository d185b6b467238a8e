"""LSTMs of heads as ONNX operators.

The exporter would trace an LSTM step by step, which fixes the number of words.
"""

import copy

import torch
from torch import nn

from ..models import MultiTaskModel


class OnnxLSTM(nn.Module):
    """One direction of an LSTM as the ONNX operator ``LSTM``. It computes outputs only in an exported graph.

    The order of the gates is input, output, forget, cell in ONNX, and input, forget, cell, output in torch; see the
    operator ``LSTM`` in the ONNX specification and `torch.nn.LSTM`.

    Args:
        lstm: An LSTM with one layer and ``batch_first``.
    """

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.width = lstm.hidden_size
        weights, recurrent_weights, *biases = (
            _in_onnx_order(lstm.get_parameter(f"{name}_l0"))
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        # The first axis is the direction; there is one.
        self.weights = nn.Buffer(weights.unsqueeze(0))
        self.recurrent_weights = nn.Buffer(recurrent_weights.unsqueeze(0))
        self.biases = nn.Buffer(torch.cat(biases).unsqueeze(0))

    def forward(self, states: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the outputs, as ``nn.LSTM`` does.

        Args:
            states: Hidden states of shape ``(batch, num_words, hidden)``.

        Returns:
            Outputs of shape ``(batch, num_words, width)``, and None in place of the last states.
        """
        states_by_word = states.transpose(0, 1)
        outputs = torch.onnx.ops.symbolic(
            "LSTM",
            [states_by_word, self.weights, self.recurrent_weights, self.biases],
            {"hidden_size": self.width},
            dtype=states.dtype,
            shape=(states_by_word.shape[0], 1, states_by_word.shape[1], self.width),
        )
        return outputs.squeeze(1).transpose(0, 1), None


def with_onnx_lstms(model: MultiTaskModel) -> MultiTaskModel:
    """Return a copy of a model with ONNX operators in place of the LSTMs of its heads. It can only be exported.

    Args:
        model: The model, which is not changed.
    """
    model = copy.deepcopy(model)
    for module in list(model.heads.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.LSTM):
                setattr(module, name, OnnxLSTM(child))
    return model


def _in_onnx_order(gates: torch.Tensor) -> torch.Tensor:
    input_gate, forget_gate, cell, output_gate = gates.detach().chunk(4)
    return torch.cat([input_gate, output_gate, forget_gate, cell])
