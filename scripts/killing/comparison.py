"""Comparison of two runs, bit for bit."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from hf_multitask.models.type_aliases import JsonObject
from hf_multitask.runs.output_dir import METRICS_NAME

from .runs import OUTCOME_NAME

PARTS = ("weights", "optimizer", "history", "metrics")
# Times, and what is computed from them.
_TIMES = ("runtime", "per_second", "preparation_time", "seconds")


def compare(whole: Path, resumed: Path) -> dict[str, list[str]]:
    """Compare a resumed run with an uninterrupted one.

    Args:
        whole: Folder that has the uninterrupted run as ``out``.
        resumed: Folder of the other run.

    Returns:
        By part, the names of what differs.
    """
    expected, found = _read(whole), _read(resumed)
    return {part: _differences(expected[part], found[part], part) for part in PARTS}


def _read(folder: Path) -> dict[str, object]:
    outcome = torch.load(folder / OUTCOME_NAME, weights_only=False)
    history = [
        {name: value for name, value in entry.items() if not name.endswith(_TIMES)} for entry in outcome.pop("history")
    ]
    metrics: JsonObject = json.loads((folder / "out" / METRICS_NAME).read_text(encoding="utf-8"))
    return {
        "weights": load_file(folder / "out" / "model.safetensors"),
        "optimizer": outcome,
        "history": history,
        "metrics": metrics,
    }


def _differences(expected: object, found: object, name: str) -> list[str]:
    """Return the names of values that differ, of nested ones those of the innermost."""
    if isinstance(expected, dict) and isinstance(found, dict):
        missing = object()
        names = dict.fromkeys((*expected, *found))
        pairs = [(expected.get(key, missing), found.get(key, missing), f"{name}.{key}") for key in names]
    elif isinstance(expected, (list, tuple)) and isinstance(found, (list, tuple)) and len(expected) == len(found):
        pairs = [(one, other, f"{name}.{i}") for i, (one, other) in enumerate(zip(expected, found, strict=True))]
    else:
        return [] if _equal(expected, found) else [f"{name}: {_short(expected)}, resumed {_short(found)}"]
    return [difference for pair in pairs for difference in _differences(*pair)]


def _equal(expected: object, found: object) -> bool:
    if type(expected) is not type(found):
        return False
    if isinstance(expected, torch.Tensor) and isinstance(found, torch.Tensor):
        return expected.dtype == found.dtype and torch.equal(expected, found)
    if isinstance(expected, np.ndarray) and isinstance(found, np.ndarray):
        return expected.dtype == found.dtype and np.array_equal(expected, found)
    return expected == found or (expected != expected and found != found)


def _short(value: object) -> str:
    return f"{value}".replace("\n", " ")[:200]
