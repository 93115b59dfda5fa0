"""Values that any program can make again, as fp32 numbers in fp64 arrays."""
import numpy as np


def fp32(values):
    return np.asarray(values).astype(np.float32).astype(np.float64)


def wave(first, count, scale, base=0.0):
    """base + scale * sin(0.7 i + 0.0001 i^2) for i = first .. first + count - 1."""
    i = np.arange(first, first + count, dtype=np.float64)
    return fp32(base + scale * np.sin(0.7 * i + 0.0001 * i * i))


def slow_wave(count, scale=1.0):
    """scale * cos(0.013 i + 0.00001 i^2): smooth as an image is."""
    i = np.arange(count, dtype=np.float64)
    return fp32(scale * np.cos(0.013 * i + 0.00001 * i * i))
