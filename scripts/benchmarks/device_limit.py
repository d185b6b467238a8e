"""The limit of a device: what its largest matrix products reach."""

import time

import torch

from .timing import wait_for_device

WARM_UP, PRODUCTS = 3, 20


def matrix_product_flops(size: int) -> float:
    """Return the floating-point operations per second of products of square bf16 matrices.

    Args:
        size: Rows and columns of the matrices.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    left, right = (torch.randn(size, size, device=device).to(torch.bfloat16) for _ in range(2))
    for _ in range(WARM_UP):
        left @ right
    wait_for_device()
    start = time.perf_counter()
    for _ in range(PRODUCTS):
        left @ right
    wait_for_device()
    return PRODUCTS * 2 * size**3 / (time.perf_counter() - start)
