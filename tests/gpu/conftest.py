"""Fixtures of the tests on a device."""

import os

# cuBLAS reads it once; deterministic algorithms need it.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import pytest
import torch
from transformers.utils.import_utils import enable_tf32

from tests.gpu.devices import DEVICES


@pytest.fixture(params=DEVICES)
def device(request):
    """Each test with this fixture runs on the CPU and on a CUDA device, as only the device differs."""
    return request.param


@pytest.fixture(autouse=True)
def without_tf32():
    """Compute products of float32 in float32. LSTMs of cuDNN have a setting of their own, which is TF32 by default."""
    settings = [item for item in (torch.backends, torch.backends.cudnn.rnn) if hasattr(item, "fp32_precision")]
    before = [item.fp32_precision for item in settings]
    enable_tf32(False)
    for item in settings:
        item.fp32_precision = "ieee"
    yield
    for item, precision in zip(settings, before, strict=True):
        item.fp32_precision = precision


@pytest.fixture
def deterministic():
    """Let operations that have no deterministic kernel raise an error."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
