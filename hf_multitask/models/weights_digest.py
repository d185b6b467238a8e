"""Digests of weights."""

import hashlib
from typing import Protocol

import torch
from torch import nn


class Hash(Protocol):
    """A hash of ``hashlib`` or ``xxhash`` that is being computed."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Add bytes."""


def add_tensor(digest: Hash, name: str, tensor: torch.Tensor) -> None:
    """Add a tensor's name, shape, type and bits to a hash.

    Args:
        digest: The hash.
        name: Name of the tensor.
        tensor: The tensor, on any device.
    """
    digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
    digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)


def weights_digest(model: nn.Module) -> str:
    """Digest the names and values of a model's weights, whatever type they are stored in.

    An exported graph carries this digest, and its weights are of another type than the model's.

    Args:
        model: The model.

    Returns:
        The digest, in hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, weight in model.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.float().cpu().contiguous().flatten().numpy().data)
    return digest.hexdigest()
