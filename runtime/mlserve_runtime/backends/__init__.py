"""What computes: the only modules that import torch or onnxruntime, behind one small interface (base.Backend)."""
