"""npae: autoencoders from scratch in NumPy and Numba."""
