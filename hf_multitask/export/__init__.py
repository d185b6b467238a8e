"""Export of a trained model to ONNX, for onnxruntime."""

from .onnx_export import ExportedFile, export_onnx
from .onnx_scores import score_onnx

__all__ = ["ExportedFile", "export_onnx", "score_onnx"]
