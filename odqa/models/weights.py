"""The bundled files and how their numbers are stored: small on disk, fp32 in memory.

A matrix whose values lie on a grid of 16 steps already, as those of a model that came in 4 bits
do, is stored in blocks of 32 values of a row with one fp16 scale each (the layout Q4_0 of
llama.cpp): 4.5 bits a value. Any other is stored in fp16, or in blocks of 8 bits a value (Q8_0:
8.5 bits). Vectors are stored as they are.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from odqa.errors import OdqaError

WEIGHTS = Path(__file__).parent / "weights"
BLOCK = 32

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[Any]


def quantize_q8(values: Floats) -> tuple[Codes, Codes]:
    """Codes (rows, columns) int8 and scales (rows, columns / 32) fp16: value = code * scale."""
    blocks = values.reshape(-1, BLOCK)
    scales = (np.abs(blocks).max(axis=1) / 127).astype(np.float16)
    divisor = np.where(scales == 0, 1, scales).astype(np.float32)
    codes = np.clip(np.rint(blocks / divisor[:, None]), -127, 127).astype(np.int8)
    return codes.reshape(values.shape), scales.reshape(len(values), -1)


def quantize_q4(values: Floats) -> tuple[Codes, Codes] | None:
    """Nibbles (rows, columns / 2) uint8 and scales fp16 if that loses nothing, else None.

    value = (nibble - 8) * scale; the largest value of a block has the nibble 0, so the scale is
    that value over -8.
    """
    blocks = values.reshape(-1, BLOCK)
    largest = blocks[np.arange(len(blocks)), np.abs(blocks).argmax(axis=1)]
    scales = (largest / -8).astype(np.float16)
    divisor = np.where(scales == 0, 1, scales).astype(np.float32)
    nibbles = np.clip(np.rint(blocks / divisor[:, None]) + 8, 0, 15).astype(np.uint8)
    packed = (nibbles[:, :16] | nibbles[:, 16:] << 4).reshape(len(values), -1)
    scales = scales.reshape(len(values), -1)
    exact = np.array_equal(dequantize_q4(packed, scales), values)
    return (packed, scales) if exact else None


def dequantize_q8(codes: Codes, scales: Codes) -> Floats:
    """The inverse of ``quantize_q8``."""
    blocks = codes.reshape(-1, BLOCK).astype(np.float32)
    blocks *= scales.reshape(-1, 1).astype(np.float32)
    return blocks.reshape(codes.shape)


def dequantize_q4(packed: Codes, scales: Codes) -> Floats:
    """The inverse of ``quantize_q4``."""
    pairs = packed.reshape(-1, 16)
    blocks = np.empty((len(pairs), BLOCK), dtype=np.float32)
    blocks[:, :16] = pairs & 15
    blocks[:, 16:] = pairs >> 4
    blocks -= 8
    blocks *= scales.reshape(-1, 1).astype(np.float32)
    return blocks.reshape(len(packed), -1)


def write_tensors(
    path: Path,
    tensors: Mapping[str, npt.NDArray[Any]],
    metadata: Mapping[str, str],
    *,
    exact: Collection[str] = (),
    half: bool = False,
) -> None:
    """Write a safetensors file; fp32 matrices but ``exact`` are made small, all else is kept.

    Those that 4 bits would change go to 8 bits, or with ``half`` to fp16.
    """
    from safetensors.numpy import save_file

    stored: dict[str, npt.NDArray[Any]] = {}
    for name, values in tensors.items():
        matrix = values.dtype == np.float32 and values.ndim == 2 and values.shape[1] % BLOCK == 0
        if not matrix or name in exact:
            stored[name] = np.ascontiguousarray(values)
            continue
        four = quantize_q4(values)
        if four is None and half:
            stored[name] = values.astype(np.float16)
            continue
        kind, (codes, scales) = ("q4", four) if four else ("q8", quantize_q8(values))
        stored[f"{name}.{kind}"], stored[f"{name}.scales"] = codes, scales
    part = path.with_name(path.name + ".part")
    save_file(stored, part, metadata=dict(metadata))
    make_readable(part)
    part.replace(path)


def make_readable(path: Path) -> None:
    """Give a file the permissions that any new file gets; safetensors lets its owner alone read."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a file, without reading its tensors.

    Raises:
        OdqaError: the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise OdqaError(f"{path}: the model file cannot be read ({error})") from error


def read_tensors(path: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """All tensors of a file, matrices back in fp32, and its metadata.

    Raises:
        OdqaError: the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, npt.NDArray[Any]] = {}
    try:
        with safe_open(path, "numpy") as file:
            names = list(file.keys())
            for name in names:
                base, _, kind = name.rpartition(".")
                if kind == "scales":
                    continue
                values = file.get_tensor(name)
                if kind in ("q4", "q8") and f"{base}.scales" in names:
                    scales = file.get_tensor(f"{base}.scales")
                    restore = dequantize_q4 if kind == "q4" else dequantize_q8
                    tensors[base] = restore(values, scales)
                else:
                    half = values.dtype == np.float16
                    tensors[name] = values.astype(np.float32) if half else values
            metadata = dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise OdqaError(f"{path}: the model file cannot be read ({error})") from error
    return tensors, metadata
