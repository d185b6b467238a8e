"""Inference with a model's exported ONNX graph by onnxruntime."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.utils import cached_file

from .heads_scope import SCOPE_END
from .messages import unknown_name_message
from .tasks import TaskConfig
from .text_alignment import NO_POSITION
from .weights_digest import weights_digest

TORCH = "torch"
# File of the graph in a model's folder, by backend.
ONNX_FILES = {"onnx": "onnx/model.onnx", "onnx-int8": "onnx/model_int8.onnx"}
BACKENDS = (TORCH, *ONNX_FILES)

# Key of the graph's metadata under which it stores the digest of the weights that it was exported from.
WEIGHTS_KEY = "hf_multitask.weights"
# Key under which it stores, as JSON, the temperatures that its logits are divided by.
TEMPERATURES_KEY = "hf_multitask.temperatures"
# Inputs with one item per text; all other inputs of a graph have one item per window.
_PER_TEXT = ("row_windows", "tag_positions")


def graph_inputs(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Convert a batch to the form that an exported graph takes: texts in windows.

    Args:
        batch: Batch of the collator.

    Returns:
        The batch with ``row_windows`` (batch, num_windows), even if each text has one window, and ``tag_positions``
        (batch, num_words) that count through all windows.
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


def graph_temperatures(tasks: Sequence[TaskConfig]) -> dict[str, float]:
    """Return the temperatures that an exported graph divides logits by, without those of 1.

    Args:
        tasks: Tasks of the model. The temperature of a CRF belongs to marginals, which a graph does not compute.
    """
    return {task.name: task.temperature for task in tasks if task.temperature != 1 and not task.crf}


class OnnxSession:
    """Computes logits with an exported graph on the CPU, with the number of threads of torch; a `LogitsFunction`.

    In small batches threads wait for each other. It is faster to compute one batch per thread at the same time, each
    in a separate call.

    Args:
        path: Graph, as ``hf-multitask export`` writes it.

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
        # Spinning threads would take CPU time from the batches that are computed at the same time.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input_names = [value.name for value in self.session.get_inputs()]
        self.output_names = [value.name for value in self.session.get_outputs()]
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.weights = metadata.get(WEIGHTS_KEY)
        # Undone in `__call__`: the model may have been calibrated again, and losses are those of the model's logits.
        self.temperatures: dict[str, float] = json.loads(metadata.get(TEMPERATURES_KEY, "{}"))

    @classmethod
    def of_model(cls, model: PreTrainedModel, backend: str) -> "OnnxSession":
        """Open the exported graph of a model.

        Args:
            model: Model, loaded from a folder or the hub.
            backend: ``"onnx"`` or ``"onnx-int8"``.

        Returns:
            The session.

        Raises:
            ValueError: If the backend is unknown, or the graph was exported from other weights.
            FileNotFoundError: If the model has no such graph. The message names the command that exports it.
            ImportError: If onnxruntime is not installed.
        """
        if backend not in ONNX_FILES:
            raise ValueError(unknown_name_message("backend", backend, ONNX_FILES))
        source, filename = str(model.name_or_path), ONNX_FILES[backend]
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
                f"{command} makes it again."
            )
        return session

    def __call__(self, batch: Mapping[str, torch.Tensor], tasks: Sequence[str]) -> dict[str, torch.Tensor]:
        """Compute the logits of some tasks.

        Args:
            batch: Batch of the collator.
            tasks: Names of the tasks.

        Returns:
            The model's logits by task, without temperature (batch, num_labels) or (batch, num_words, num_labels); and
            its statistics of states, see `MultiTaskModel.apply_heads`.
        """
        inputs = {name: value for name, value in graph_inputs(batch).items() if name in self.input_names}
        # Long texts run one at a time, so that memory never contains more windows than the longest text has.
        batches = _split_texts(inputs) if "row_windows" in batch else [inputs]
        names = [*tasks, *(scope for name in tasks if (scope := f"{name}{SCOPE_END}") in self.output_names)]
        outputs = [
            self.session.run(names, {name: value.numpy() for name, value in inputs.items()}) for inputs in batches
        ]
        logits = [torch.cat([torch.from_numpy(array) for array in arrays]) for arrays in zip(*outputs, strict=True)]
        # No name of a statistic has a temperature.
        return {name: values * self.temperatures.get(name, 1.0) for name, values in zip(names, logits, strict=True)}


def _split_texts(inputs: Mapping[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """Split a batch of texts in windows into batches of one text."""
    texts = []
    seq_len = inputs["input_ids"].size(1)
    for i, windows in enumerate(inputs["row_windows"]):
        text = {name: value[windows] for name, value in inputs.items() if name not in _PER_TEXT}
        text["row_windows"] = windows[windows].unsqueeze(0)
        if "tag_positions" in inputs:
            positions = inputs["tag_positions"][i : i + 1]
            first = windows.nonzero()[0] * seq_len
            text["tag_positions"] = (positions - first).where(positions != NO_POSITION, positions)
        texts.append(text)
    return texts
