"""A trained model as a graph that runs without this package: ONNX for onnxruntime, ``torch.export`` for torch."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from ..data import MultiTaskDataCollator
from ..models import MultiTaskModel, MultiTaskOutput, find_model, load_model
from ..models.collator import columns_to_rows
from ..models.onnx_session import ONNX_FILES, TORCH, WEIGHTS_KEY, OnnxSession, graph_inputs
from ..models.predictor import LogitsFunction
from ..models.tasks import LSTM_HEAD
from ..models.text_alignment import NO_POSITION, Aligner
from ..models.weights_digest import weights_digest
from ..runs.evaluation import evaluate_model
from ..runtime.atomic_files import whole_files
from ..runtime.extras import check_packages
from .onnx_lstm import with_onnx_lstms

TORCH_EXPORT_FILE = "model.pt2"
# The first with an operator for attention, which onnxruntime computes as a whole. It has one for rotary positions too,
# whose form here onnxruntime refuses; encoders with those get the older one.
OPSET = 23
OPSET_OF_ROTARY_POSITIONS = 22
# All that the quantizer knows but attention, whose 8-bit form onnxruntime refuses.
QUANTIZED_OPERATORS = ("MatMul", "Gemm", "Gather")

# Logits of a graph may differ from torch's by so much, and by this share of them.
TOLERANCE = 1e-4
# Words by text of the batches that a graph is checked on: alone, together, in windows.
CHECKED_TEXTS = ((1,), (2, 70, 9, 1, 33), (150, 5, 90))
# Long enough that layers of local attention do not see all of a text.
CHECKED_LENGTH = 200
# Of the tokens of texts in windows, so that the texts above have several.
WINDOW_LENGTH = 40


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written and what was found when it was checked.

    Args:
        path: The file.
        num_bytes: Its size, weights included.
        difference: How far its logits are from the model's at most, on the texts that it was checked on.
    """

    path: Path
    num_bytes: int
    difference: float


class _Graph(nn.Module):
    """What is exported: a model as a function of tensors alone, with windows in every batch."""

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
        mixing = [task.name for task in self.model.config.tasks if task.mix_layers]
        encoded = self.model.encoder(**inputs, output_hidden_states=bool(mixing))
        mixed = {name: self.model.heads.get_submodule(f"{name}.mix")(encoded.hidden_states) for name in mixing}
        states = encoded.last_hidden_state
        return self.model.apply_heads(states, attention_mask, tag_positions, row_windows, mixed_states=mixed)


class _GraphModel(MultiTaskModel):
    """A model whose logits a graph computes, to be scored as any model is."""

    session: OnnxSession

    def forward(self, *_: Any, **inputs: Any) -> MultiTaskOutput:
        return MultiTaskOutput(logits=self.session(inputs, [task.name for task in self.config.tasks]))


def export_onnx(model_dir: str | Path, output: str | Path | None = None, int8: bool = False) -> list[ExportedFile]:
    """Write a model as one ONNX graph with all heads, for batches and texts of any size.

    The graph takes ``input_ids``, ``attention_mask``, ``token_type_ids`` where the encoder has them (num_windows,
    seq_len), ``row_windows`` (batch, num_windows) and, with token tasks, ``tag_positions`` (batch, num_words), as
    `graph_inputs` makes them of a batch; it returns each task's logits under the task's name.

    Args:
        model_dir: Folder or hub name of the model.
        output: Folder whose ``onnx`` folder is written to; the model's where None.
        int8: Write the graph with weights in 8 bits too, for what onnxruntime calls dynamic quantization.

    Returns:
        The files ``onnx/model.onnx`` and, with ``int8``, ``onnx/model_int8.onnx``.

    Raises:
        ValueError: If there is no such model, no folder to write to, the encoder or a head cannot be exported, or the
            graph computes something else than the model.
        ImportError: If a package of the extra ``onnx`` is missing.
    """
    check_packages("onnx", "the export to ONNX")
    folder = _output_folder(model_dir, output)
    model, tokenizer = _load(model_dir)
    batches = _checked_batches(model, tokenizer)
    with whole_files(folder / "onnx") as written:
        graph, quantized = (written / Path(name).name for name in ONNX_FILES.values())
        _write_onnx(model, batches[-1], graph)
        differences = {graph: _check_logits(model, OnnxSession(graph), batches, TOLERANCE)}
        if int8:
            _quantize(graph, quantized)
            differences[quantized] = _check_logits(model, OnnxSession(quantized), batches)
        sizes = {path: sum(part.stat().st_size for part in written.glob(f"{path.name}*")) for path in differences}
    return [
        ExportedFile(folder / "onnx" / path.name, sizes[path], difference) for path, difference in differences.items()
    ]


def export_torch(model_dir: str | Path, output: str | Path | None = None) -> ExportedFile:
    """Write a model as a program of ``torch.export``, which torch loads without this package and transformers.

    Args:
        model_dir: Folder or hub name of the model.
        output: Folder to write to; the model's where None.

    Returns:
        The file ``model.pt2``; what it holds takes and returns what the graph of `export_onnx` does.

    Raises:
        ValueError: As `export_onnx` does.
    """
    folder = _output_folder(model_dir, output)
    model, tokenizer = _load(model_dir)
    for task in model.config.tasks:
        if task.head == LSTM_HEAD:
            raise ValueError(
                f"task {task.name!r}: torch.export cannot take head={task.head!r}, as it would fix the number of "
                "words; an ONNX graph can have it."
            )
    batches = _checked_batches(model, tokenizer)
    with whole_files(folder) as written:
        path = written / TORCH_EXPORT_FILE
        torch.export.save(_export_program(model, batches[-1]), path)
        program = torch.export.load(path).module()

        def logits(batch: Mapping[str, torch.Tensor], tasks: Sequence[str]) -> Mapping[str, torch.Tensor]:
            return program(**graph_inputs(batch))

        difference, size = _check_logits(model, logits, batches, TOLERANCE), path.stat().st_size
    return ExportedFile(folder / TORCH_EXPORT_FILE, size, difference)


def score_onnx(
    model_dir: str | Path, data: str | Path, output: str | Path | None = None, batch_size: int = 64
) -> dict[str, dict[str, float]]:
    """Score a model and the graphs that were made of it on labelled rows.

    Args:
        model_dir: Folder or hub name of the model.
        data: File with labels, as `run_evaluation` takes it.
        output: The ``output`` of `export_onnx`.
        batch_size: Rows a pass.

    Returns:
        The metrics of ``"torch"`` and of each graph that is there.
    """
    model, tokenizer = load_model(model_dir)
    metrics = {TORCH: evaluate_model(model, tokenizer, data, batch_size)}
    for backend, name in ONNX_FILES.items():
        path = _output_folder(model_dir, output) / name
        if path.is_file():
            graph_model = _GraphModel.from_pretrained(find_model(model_dir), config=model.config)
            graph_model.session = OnnxSession(path)
            metrics[backend] = evaluate_model(graph_model, tokenizer, data, batch_size)
    return metrics


def _output_folder(model_dir: str | Path, output: str | Path | None) -> Path:
    folder = Path(find_model(model_dir) if output is None else output)
    if output is None and not folder.is_dir():
        raise ValueError(f"output: {str(model_dir)!r} is no folder that can be written to; give a folder.")
    return folder


def _load(model_dir: str | Path) -> tuple[MultiTaskModel, PreTrainedTokenizerBase]:
    model, tokenizer = load_model(model_dir)
    return model.float().requires_grad_(False).eval(), tokenizer


def _checked_batches(model: MultiTaskModel, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, torch.Tensor]]:
    """Make batches of words of the tokenizer's own vocabulary; the last has texts in windows."""
    chance = torch.Generator().manual_seed(0)
    vocabulary = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    collate = MultiTaskDataCollator(tokenizer, model.config.tasks)
    batches = []
    for lengths in CHECKED_TEXTS:
        longest = WINDOW_LENGTH if lengths is CHECKED_TEXTS[-1] else CHECKED_LENGTH
        align = Aligner(tokenizer, model.config.tasks, min(longest, tokenizer.model_max_length))
        chosen = [torch.randint(len(vocabulary), (length,), generator=chance).tolist() for length in lengths]
        texts = [[tokenizer.decode([vocabulary[i]]) for i in text] for text in chosen]
        batches.append(collate(columns_to_rows(align({"words": texts}))))
    return batches


def _dynamic_axes(inputs: Mapping[str, torch.Tensor]) -> dict[str, dict[int, str]]:
    of_rows = {"row_windows": {0: "batch", 1: "num_windows"}, "tag_positions": {0: "batch", 1: "num_words"}}
    return {name: of_rows.get(name, {0: "num_windows", 1: "seq_len"}) for name in inputs}


def _export_program(model: MultiTaskModel, batch: Mapping[str, torch.Tensor]) -> torch.export.ExportedProgram:
    """Trace a model on a batch that has several texts, of different numbers of windows."""
    inputs = graph_inputs(batch)
    shapes = {name: dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for name, axes in _dynamic_axes(inputs).items()}
    try:
        with _quiet(), torch.no_grad():
            return torch.export.export(_Graph(model).eval(), (), kwargs=inputs, dynamic_shapes=shapes, strict=False)
    except Exception as error:
        raise _not_exported(model, error) from error


def _write_onnx(model: MultiTaskModel, batch: Mapping[str, torch.Tensor], path: Path) -> None:
    inputs = graph_inputs(batch)
    names = [task.name for task in model.config.tasks]
    taken = sorted(set(names) & set(inputs))
    if taken:
        raise ValueError(f"task {taken[0]!r}: an ONNX graph cannot return what has the name of one of its inputs.")
    program = _export_program(with_onnx_lstms(model), batch)
    axes = _dynamic_axes(inputs)
    is_rotary = getattr(model.encoder.config, "rope_parameters", None) is not None
    try:
        with _quiet():
            graph: Any = torch.onnx.export(
                program,
                (),
                kwargs=inputs,
                output_names=names,
                dynamic_shapes=axes,
                dynamo=True,
                opset_version=OPSET_OF_ROTARY_POSITIONS if is_rotary else OPSET,
                verbose=False,
            )
    except Exception as error:
        raise _not_exported(model, error) from error
    graph.model.metadata_props[WEIGHTS_KEY] = weights_digest(model)
    graph.save(path)


def _not_exported(model: MultiTaskModel, error: Exception) -> ValueError:
    """Say in one line that an encoder is beyond the exporter, which raises errors of many kinds."""
    kind, reason = model.encoder.config.model_type, str(error).strip().partition("\n")[0]
    return ValueError(f"an encoder of type {kind!r} cannot be exported by torch {torch.__version__}: {reason}")


def _quantize(path: Path, output: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        # A scale for each row of a weight. In 7 of the 8 bits: processors without VNNI add up products of 8 bits in
        # 16 and cut off what is more.
        quantize_dynamic(
            path, output, QUANTIZED_OPERATORS, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what exporter and quantizer tell their own developers."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


@torch.inference_mode()
def _check_logits(
    model: MultiTaskModel,
    compute: LogitsFunction,
    batches: Sequence[Mapping[str, torch.Tensor]],
    tolerance: float = float("inf"),
) -> float:
    """Compare logits with those of the model.

    Args:
        model: The model.
        compute: What computes the same in another way.
        batches: What they are compared on.
        tolerance: How far they may be apart, and by which share of them beside.

    Returns:
        How far they are apart at most.

    Raises:
        ValueError: If that is too far.
    """
    largest, tasks = 0.0, model.config.tasks
    for batch in batches:
        expected, found = model(**batch).logits, compute(batch, [task.name for task in tasks])
        for task in tasks:
            one, other = expected[task.name], found[task.name]
            if task.is_token_task:
                words = batch["tag_positions"] != NO_POSITION
                one, other = one[words], other[words]
            difference = (one - other).abs()
            if not (difference <= tolerance * (1 + one.abs())).all():
                raise ValueError(
                    f"task {task.name!r}: the exported graph's logits differ from the model's by up to "
                    f"{difference.max():.2g}, allowed is {tolerance:g}."
                )
            largest = max(largest, difference.max().item())
    return largest
