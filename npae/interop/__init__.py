"""Weights that travel: safetensors files, and layers' weights to and from PyTorch's layout.
Neither needs PyTorch; files need the library safetensors (extra `[interop]`).
"""
from npae.interop.files import SUFFIX, read, read_tensors, write, write_tensors
from npae.interop.pytorch import from_pytorch, to_pytorch

__all__ = ["SUFFIX", "from_pytorch", "read", "read_tensors", "to_pytorch", "write", "write_tensors"]
