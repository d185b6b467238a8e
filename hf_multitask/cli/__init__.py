"""Command line: ``hf-multitask``, or ``python -m hf_multitask``."""

from .main import main

__all__ = ["main"]
