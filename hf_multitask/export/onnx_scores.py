"""Scores of a model and of its ONNX graphs on the same rows."""

from pathlib import Path
from typing import Any

from ..models import MultiTaskModel, MultiTaskOutput, find_model, load_model
from ..models.onnx_session import ONNX_FILES, TORCH, OnnxSession
from ..runs.evaluation import evaluate_model
from .onnx_export import output_folder


class _GraphModel(MultiTaskModel):
    """A model whose logits an ONNX graph computes, so that the trainer can evaluate the graph."""

    session: OnnxSession

    def forward(self, *_: Any, return_dict: bool | None = None, **inputs: Any) -> MultiTaskOutput:
        # The graph computes on the CPU, whatever the device of the trainer.
        on_cpu = {name: value.cpu() for name, value in inputs.items()}
        logits = self.session(on_cpu, [task.name for task in self.config.tasks])
        return MultiTaskOutput(logits={name: value.to(inputs["input_ids"].device) for name, value in logits.items()})


def score_onnx(
    model_dir: str | Path, data: str | Path, output: str | Path | None = None, batch_size: int = 64, **options: Any
) -> dict[str, dict[str, float]]:
    """Score a model and its exported graphs on labeled rows.

    Args:
        model_dir: Folder or hub name of the model.
        data: File with labels, as `run_evaluation` takes it.
        output: The ``output`` given to `export_onnx`.
        batch_size: Rows per batch.
        options: More fields of `DataConfig` for ``data``, such as ``columns``.

    Returns:
        The metrics of the model under ``"torch"``, and of each existing graph under the name of its backend.
    """
    model, tokenizer = load_model(model_dir)
    metrics = {TORCH: evaluate_model(model, tokenizer, data, batch_size, **options)}
    for backend, name in ONNX_FILES.items():
        path = output_folder(model_dir, output) / name
        if path.is_file():
            graph_model = _GraphModel.from_pretrained(find_model(model_dir), config=model.config)
            graph_model.session = OnnxSession(path)
            metrics[backend] = evaluate_model(graph_model, tokenizer, data, batch_size, **options)
    return metrics
