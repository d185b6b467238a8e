"""Type aliases for rows, batches and JSON objects."""

from typing import Any

Row = dict[str, Any]
"""One row of a dataset: values by column."""

Batch = dict[str, Any]
"""A batch of the collator, the input of ``forward``: tensors by argument, ``labels`` by task."""

JsonObject = dict[str, Any]
"""A JSON object, such as a config or the content of a result file."""
