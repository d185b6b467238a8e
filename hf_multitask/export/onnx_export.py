"""Export of a trained model to one ONNX graph, compared with the model before it is kept."""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from ..models import MultiTaskModel, find_model, load_model
from ..models.heads_scope import SCOPE_END
from ..models.modeling_adapters import merged_copy
from ..models.onnx_session import (
    ONNX_FILES,
    TEMPERATURES_KEY,
    WEIGHTS_KEY,
    OnnxSession,
    graph_inputs,
    graph_temperatures,
)
from ..models.weights_digest import weights_digest
from ..runtime.atomic_files import whole_files
from ..runtime.extras import check_packages
from .onnx_check import TOLERANCE, build_check_batches, check_logits
from .onnx_lstm import with_onnx_lstms

# The first opset with an attention operator, which onnxruntime runs as one kernel. Its operator for rotary positions
# is refused by onnxruntime in the form exported here, so encoders with rotary positions use the opset before.
OPSET = 23
ROTARY_OPSET = 22
# All operators of the quantizer except attention, whose 8-bit form onnxruntime refuses.
QUANTIZED_OPERATORS = ("MatMul", "Gemm", "Gather")


@dataclass(frozen=True)
class ExportedFile:
    """An exported graph.

    Args:
        path: File of the graph.
        num_bytes: Size, with the weights.
        difference: Largest absolute difference between its logits and the model's, over the texts of the check.
    """

    path: Path
    num_bytes: int
    difference: float


class _GraphModule(nn.Module):
    """The module to export: a model that takes and returns tensors only and expects windows in every batch."""

    def __init__(self, model: MultiTaskModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        row_windows: torch.Tensor,
        tag_positions: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        encoded = self.model.encode_for_heads(self.model.config.tasks, self.model.encoder, **inputs)
        states, own = encoded["last_hidden_state"], encoded.task_states
        logits = self.model.apply_heads(states, attention_mask, tag_positions, row_windows, task_states=own)
        temperatures = graph_temperatures(self.model.config.tasks)
        scaled = {
            name: values / temperatures[name] if name in temperatures else values for name, values in logits.items()
        }
        return {name: scaled[name] for name in output_names(self.model)}


def export_onnx(model_dir: str | Path, output: str | Path | None = None, int8: bool = False) -> list[ExportedFile]:
    """Export a model to one ONNX graph with all heads, for any batch size and text length.

    The graph takes ``input_ids``, ``attention_mask`` and, if the encoder has them, ``token_type_ids``, all of shape
    ``(num_windows, seq_len)``; ``row_windows`` of shape ``(batch, num_windows)``; and, with token tasks,
    ``tag_positions`` of shape ``(batch, num_words)``. `graph_inputs` builds them from a batch. The graph returns the
    logits of each task under the name of the task, divided by the temperature of the task: their softmax, or sigmoid
    for a multi-label task, are calibrated scores. The logits of a task with a CRF are not divided; its temperature
    belongs to the marginals. For a task that abstains by a distance of pooled states, the graph also returns
    ``<task>.scope`` of shape ``(batch,)``.

    Args:
        model_dir: Folder or hub name of the model.
        output: Folder in which the ``onnx`` folder is written. Defaults to the folder of the model.
        int8: Whether to also write a graph with 8-bit weights (dynamic quantization of onnxruntime).

    Returns:
        The files ``onnx/model.onnx`` and, with ``int8``, ``onnx/model_int8.onnx``.

    Raises:
        ValueError: If the model does not exist, there is no folder to write to, the encoder or a head cannot be
            exported, or the logits of the graph differ from those of the model.
        ImportError: If a package of the extra ``onnx`` is missing.
    """
    check_packages("onnx", "the export to ONNX")
    folder = output_folder(model_dir, output)
    model, tokenizer = _load(model_dir)
    batches = build_check_batches(model, tokenizer)
    with whole_files(folder / "onnx") as unfinished:
        graph, quantized = (unfinished / Path(name).name for name in ONNX_FILES.values())
        _write_onnx(model, batches[-1], graph)
        differences = {graph: check_logits(model, OnnxSession(graph), batches, TOLERANCE)}
        if int8:
            _quantize(graph, quantized)
            differences[quantized] = check_logits(model, OnnxSession(quantized), batches)
        sizes = {path: sum(part.stat().st_size for part in unfinished.glob(f"{path.name}*")) for path in differences}
    return [
        ExportedFile(folder / "onnx" / path.name, sizes[path], difference) for path, difference in differences.items()
    ]


def output_folder(model_dir: str | Path, output: str | Path | None) -> Path:
    """Return the folder that contains the ``onnx`` folder: ``output``, or the model's folder if None.

    Args:
        model_dir: Folder or hub name of the model.
        output: The folder, if given.

    Raises:
        ValueError: If ``output`` is None and the model is not in a folder.
    """
    folder = Path(find_model(model_dir) if output is None else output)
    if output is None and not folder.is_dir():
        raise ValueError(f"output: {str(model_dir)!r} is not a folder that can be written to; give a folder.")
    return folder


def _load(model_dir: str | Path) -> tuple[MultiTaskModel, PreTrainedTokenizerBase]:
    model, tokenizer = load_model(model_dir)
    return model.float().requires_grad_(False).eval(), tokenizer


def output_names(model: MultiTaskModel) -> list[str]:
    """Return the names of the outputs of a graph: the tasks, then the statistics of those that abstain by states.

    Args:
        model: The model.
    """
    names = [task.name for task in model.config.tasks]
    return names + [f"{name}{SCOPE_END}" for name in names if name in model.scope_statistics]


def _dynamic_axes(inputs: Mapping[str, torch.Tensor]) -> dict[str, dict[int, str]]:
    row_axes = {"row_windows": {0: "batch", 1: "num_windows"}, "tag_positions": {0: "batch", 1: "num_words"}}
    return {name: row_axes.get(name, {0: "num_windows", 1: "seq_len"}) for name in inputs}


def _write_onnx(model: MultiTaskModel, batch: Mapping[str, torch.Tensor], path: Path) -> None:
    inputs = graph_inputs(batch)
    names = output_names(model)
    conflicts = sorted(set(names) & set(inputs))
    if conflicts:
        raise ValueError(f"task {conflicts[0]!r}: an output of an ONNX graph cannot have the name of an input.")
    program = _export_program(with_onnx_lstms(merged_copy(model)), batch)
    is_rotary = getattr(model.encoder.config, "rope_parameters", None) is not None
    try:
        with _silence():
            graph: Any = torch.onnx.export(
                program,
                (),
                kwargs=inputs,
                output_names=names,
                dynamic_shapes=_dynamic_axes(inputs),
                dynamo=True,
                opset_version=ROTARY_OPSET if is_rotary else OPSET,
                verbose=False,
            )
    except Exception as error:
        raise _export_error(model, error) from error
    graph.model.metadata_props[WEIGHTS_KEY] = weights_digest(model)
    graph.model.metadata_props[TEMPERATURES_KEY] = json.dumps(graph_temperatures(model.config.tasks))
    graph.save(path)


def _export_program(model: MultiTaskModel, batch: Mapping[str, torch.Tensor]) -> torch.export.ExportedProgram:
    """Trace a model.

    Args:
        model: The model.
        batch: A batch of several texts with different numbers of windows: an axis of length 1 would become constant.

    Returns:
        The program, from which the ONNX exporter builds the graph.

    Raises:
        ValueError: If the encoder cannot be exported.
    """
    inputs = graph_inputs(batch)
    shapes = {name: dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for name, axes in _dynamic_axes(inputs).items()}
    try:
        with _silence(), torch.no_grad():
            return torch.export.export(
                _GraphModule(model).eval(), (), kwargs=inputs, dynamic_shapes=shapes, strict=False
            )
    except Exception as error:
        raise _export_error(model, error) from error


def _export_error(model: MultiTaskModel, error: Exception) -> ValueError:
    """Return a one-line error for an encoder that the exporter, which raises many kinds of errors, cannot export."""
    model_type, reason = model.encoder.config.model_type, str(error).strip().partition("\n")[0]
    return ValueError(f"an encoder of type {model_type!r} cannot be exported by torch {torch.__version__}: {reason}")


def _quantize(path: Path, output: Path) -> None:
    # Imported here because onnxruntime is an optional extra.
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _silence():
        # One scale per row of a weight. 7 of the 8 bits, because processors without VNNI sum products of 8 bits in 16,
        # which would saturate.
        quantize_dynamic(
            path, output, QUANTIZED_OPERATORS, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True
        )


@contextmanager
def _silence() -> Iterator[None]:
    """Suppress warnings and logs of the exporter and the quantizer, which are meant for their developers."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
