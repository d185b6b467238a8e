"""Bundled sentences with a config, and a sentence to try."""

from pathlib import Path

QUICKSTART_CONFIG = Path(__file__).parent / "config.yaml"
QUICKSTART_SENTENCE = "Amazon showed the new Lumora Watch in Paris last Friday, and Jordan Reyes was thrilled."

__all__ = ["QUICKSTART_CONFIG", "QUICKSTART_SENTENCE"]
