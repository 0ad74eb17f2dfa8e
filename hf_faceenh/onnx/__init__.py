"""The pipeline's networks as ONNX: written and checked (`exporting`), and run through onnxruntime (`networks`)."""
