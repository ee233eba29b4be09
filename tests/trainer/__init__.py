"""Mirror the trainer: real children on a tiny network, real ONNX files, a store in memory."""
