"""Small files of JSON that one process writes while another reads them."""

import json
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, values: Any) -> None:
    """Write a file that is always whole, for whoever reads it meanwhile.

    Args:
        path: The file.
        values: What JSON can hold.
    """
    half = path.with_name(f"{path.name}.tmp")
    half.write_text(json.dumps(values) + "\n", encoding="utf-8")
    os.replace(half, path)


def read_json(path: Path) -> Any:
    """Read a file that `write_json` has written; None where there is none or it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
