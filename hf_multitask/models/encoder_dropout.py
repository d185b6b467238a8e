"""Dropout that takes a third of the time of PyTorch's on a CPU."""

import torch
from torch import nn

# A 16-bit random number decides for each value: each 64-bit number that torch draws serves four values.
_STEPS = 2**16
_NUMBERS_PER_DRAW = 4


class QuickDropout(nn.Dropout):
    """``nn.Dropout`` that draws one random number per four values on a CPU.

    PyTorch draws one number per value, on one thread, which takes a seventh of the training time of a small encoder.
    The probability of keeping a value is rounded to a multiple of 1/65,536, and kept values are scaled by its inverse,
    so that the mean stays exact. The numbers come from torch's generator: a seed and the random state of a checkpoint
    determine them.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Drop values in training mode.

        Args:
            input: Any tensor.

        Returns:
            Tensor of the same shape: dropped values are zero, the others are scaled.
        """
        if not self.training:
            return input  # early: an encoder has many dropouts, and one text takes only milliseconds
        kept = round((1 - self.p) * _STEPS)
        if not 0 < kept < _STEPS or input.device.type != "cpu":
            return super().forward(input)
        # torch.compile cannot trace random_.
        draws = torch.randint(-(2**63), 2**63 - 1, (-(-input.numel() // _NUMBERS_PER_DRAW),), dtype=torch.int64)
        numbers = draws.view(torch.int16)[: input.numel()].view(input.shape)
        mask = (numbers < kept - _STEPS // 2).to(input.dtype).mul_(_STEPS / kept)
        return input * mask


def use_quick_dropout(module: nn.Module) -> None:
    """Replace each ``nn.Dropout`` in a module by a `QuickDropout`.

    Args:
        module: Module to change in place.
    """
    for parent in module.modules():
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, QuickDropout(child.p))
