"""What computes a network in prediction: PyTorch, or ONNX Runtime, behind one small protocol."""
