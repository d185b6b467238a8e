"""A model's ONNX graph, run by onnxruntime in the place of the model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import cached_file

from .messages import unknown_name_message
from .text_alignment import NO_POSITION
from .weights_digest import weights_digest

TORCH = "torch"
# By backend, the graph's file in the folder of a model.
ONNX_FILES = {"onnx": "onnx/model.onnx", "onnx-int8": "onnx/model_int8.onnx"}
BACKENDS = (TORCH, *ONNX_FILES)

# The graph's own note of the weights that it was made from.
WEIGHTS_KEY = "hf_multitask.weights"
# What a batch has one of a text; all else that a graph takes it has one of a window.
_OF_ROWS = ("row_windows", "tag_positions")


def graph_inputs(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Bring a batch into the one form that an exported graph takes: that of texts in windows.

    Args:
        batch: What the collator makes of rows.

    Returns:
        The batch with ``row_windows`` (batch, num_windows), where texts of one window each have their own, and
        ``tag_positions`` (batch, num_words) that count through all windows.
    """
    if "row_windows" in batch:
        return dict(batch)
    rows, seq_len = batch["input_ids"].shape
    inputs = {**batch, "row_windows": torch.eye(rows, dtype=torch.bool)}
    if "tag_positions" in batch:
        positions = batch["tag_positions"]
        shifted = positions + torch.arange(rows).unsqueeze(1) * seq_len
        inputs["tag_positions"] = shifted.where(positions != NO_POSITION, positions)
    return inputs


class OnnxSession:
    """Computes logits by an exported graph on the CPU, with as many threads as torch has; a `LogitsFunction`.

    Small batches leave threads waiting for each other: it is quicker to compute as many batches side by side as there
    are threads, each in a call of its own.

    Args:
        path: The graph, as ``hf-multitask export`` writes it.

    Raises:
        ImportError: If onnxruntime is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError("an ONNX graph needs onnxruntime: pip install 'hf-multitask[onnx]'") from error
        self.threads = torch.get_num_threads()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        # Threads that wait by counting would take the processor from the batch beside theirs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input_names = [value.name for value in self.session.get_inputs()]
        self.weights = self.session.get_modelmeta().custom_metadata_map.get(WEIGHTS_KEY)

    @classmethod
    def of_model(cls, model: PreTrainedModel, backend: str) -> "OnnxSession":
        """Open the graph that lies beside a model.

        Args:
            model: The model, loaded from a folder or the hub.
            backend: ``"onnx"`` or ``"onnx-int8"``.

        Returns:
            The session.

        Raises:
            ValueError: If there is no such backend, or the graph was made from other weights.
            FileNotFoundError: If the model has no such graph. The message names the command that makes it.
            ImportError: If onnxruntime is not installed.
        """
        if backend not in ONNX_FILES:
            raise ValueError(unknown_name_message("backend", backend, ONNX_FILES))
        source, filename = model.name_or_path, ONNX_FILES[backend]
        command = f"`hf-multitask export {source} --{'int8' if backend == 'onnx-int8' else 'onnx'}`"
        path = cached_file(
            source,
            filename,
            revision=getattr(model.config, "_commit_hash", None),
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if path is None:
            raise FileNotFoundError(f"backend {backend!r}: {source!r} has no {filename}; {command} makes it.")
        session = cls(path)
        if session.weights != weights_digest(model):
            raise ValueError(
                f"backend {backend!r}: {filename} of {source!r} was made from other weights than the model has now; "
                f"{command} makes it anew."
            )
        return session

    def __call__(self, batch: Mapping[str, torch.Tensor], tasks: Sequence[str]) -> dict[str, torch.Tensor]:
        """Compute the logits of some tasks.

        Args:
            batch: What the collator makes of rows.
            tasks: Names of the tasks.

        Returns:
            By task, logits (batch, num_labels) or (batch, num_words, num_labels).
        """
        inputs = {name: value for name, value in graph_inputs(batch).items() if name in self.input_names}
        # One text at a time where they are long, so that no more windows are in memory than the longest has.
        parts = _texts(inputs) if "row_windows" in batch else [inputs]
        outputs = [
            self.session.run(list(tasks), {name: value.numpy() for name, value in part.items()}) for part in parts
        ]
        joined = [torch.cat([torch.from_numpy(part) for part in of_task]) for of_task in zip(*outputs, strict=True)]
        return dict(zip(tasks, joined, strict=True))


def _texts(inputs: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
    """Part a batch of texts in windows into its texts."""
    parts = []
    seq_len = inputs["input_ids"].size(1)
    for i, windows in enumerate(inputs["row_windows"]):
        part = {name: value[windows] for name, value in inputs.items() if name not in _OF_ROWS}
        part["row_windows"] = windows[windows].unsqueeze(0)
        if "tag_positions" in inputs:
            positions = inputs["tag_positions"][i : i + 1]
            first = windows.nonzero()[0] * seq_len
            part["tag_positions"] = (positions - first).where(positions != NO_POSITION, positions)
        parts.append(part)
    return parts
