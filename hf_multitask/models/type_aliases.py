"""Names for the mappings that pass through the library."""

from typing import Any

Row = dict[str, Any]
"""One row of a dataset: its values by column."""

Batch = dict[str, Any]
"""What the collator returns and ``forward`` takes: tensors by argument, ``labels`` by task."""

JsonObject = dict[str, Any]
"""A JSON object, as a config or a result file contains it."""
