"""Export of a model as an ONNX graph."""
