"""Digests of weights: they are on disk, so that their values must not change."""

import hashlib

import pytest
import torch
import xxhash
from torch import nn

from hf_multitask.models.weights_digest import add_tensor, weights_digest


def make_module():
    module = nn.Module()
    module.scale = nn.Parameter(torch.tensor(0.5))
    module.weight = nn.Parameter(torch.arange(6.0).reshape(2, 3))
    module.empty = nn.Parameter(torch.empty(0, 3))
    module.register_buffer("ids", torch.arange(4))
    return module


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_digest_of_weights_does_not_depend_on_their_type(dtype):
    assert weights_digest(make_module().to(dtype)) == "e88b2d5a607cfb2bcffe090121166188"


@pytest.mark.parametrize("change", ["name", "value"])
def test_the_digest_of_weights_depends_on_names_and_values(change):
    module = make_module()
    if change == "name":
        module.other = module.weight
        del module.weight
    else:
        module.weight.data[0, 0] += 1e-6
    assert weights_digest(module) != weights_digest(make_module())


@pytest.mark.parametrize(
    ("digest", "expected"),
    [
        (xxhash.xxh3_128(b"a"), "fca83dbfd3c4fb2281c2fb3e7124a888"),
        (hashlib.blake2b(b"a", digest_size=16), "0aebc087365d10a4ad3d6f5c1ad8f2b4"),
    ],
    ids=["activation cache", "prediction"],
)
def test_tensors_are_digested_as_they_were(digest, expected):
    for name, tensor in make_module().state_dict().items():
        add_tensor(digest, name, tensor)
    add_tensor(digest, "transposed", torch.arange(12.0).reshape(3, 4).t())
    assert digest.hexdigest() == expected
