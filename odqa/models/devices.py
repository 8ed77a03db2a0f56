"""Which device and precision to compute in: asked of the machine, never assumed."""

from __future__ import annotations

import functools
import logging
import re
import time
from pathlib import Path

from odqa.errors import ConfigError, OdqaError

logger = logging.getLogger(__name__)
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
EXPORTED_PRECISIONS = ("auto", "fp32", "int8")

# Without them ONNX Runtime adds products of bytes in 16 bits, where they overflow.
_BYTE_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
_CPU_INFO = Path("/proc/cpuinfo")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


def check_device(wanted: str, key: str = "device") -> None:
    """Refuse what names no device, whether or not it would be used.

    Raises:
        ConfigError: naming ``key`` and what is known.
    """
    if not _DEVICE.fullmatch(wanted):
        raise ConfigError(f"{key}: unknown '{wanted}'; known: auto, cpu, cuda, cuda:N")


def check_precision(wanted: str, key: str = "precision") -> None:
    """As ``check_device``, for a precision."""
    if wanted not in PRECISIONS:
        raise ConfigError(f"{key}: unknown '{wanted}'; known: {', '.join(PRECISIONS)}")


def pick_device(wanted: str) -> str:
    """``auto`` becomes ``cuda`` where there is a GPU, else ``cpu``.

    Raises:
        ConfigError: it names no device.
        OdqaError: a CUDA device is asked for and there is none, or not so many.
    """
    import torch

    check_device(wanted)
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise OdqaError(f"device '{wanted}' is asked for, but torch sees no CUDA device; use cpu")
    number = int(wanted.partition(":")[2] or 0)
    if wanted.startswith("cuda") and number >= (n := torch.cuda.device_count()):
        raise OdqaError(f"device '{wanted}' is asked for, but the last of the {n} is cuda:{n - 1}")
    return wanted


def pick_precision(wanted: str, device: str) -> str:
    """``auto`` becomes the fastest of fp32, bf16 and fp16 that the device computes well.

    A CPU is timed on a small product of matrices, on one thread so that other work on the machine
    does not decide: bf16 only where it is clearly faster, as on CPUs with AMX; on others it is
    slower than fp32. fp16 is for GPUs that lack bf16.

    Raises:
        ConfigError: an unknown precision.
    """
    check_precision(wanted)
    if wanted != "auto":
        return wanted
    if device.startswith("cuda"):
        import torch

        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return _fastest_on_cpu()


def pick_exported_precision(wanted: str, *, has_int8: bool) -> str:
    """``auto`` becomes int8 where a processor multiplies bytes exactly and fast, else fp32.

    Args:
        wanted: auto, fp32 or int8.
        has_int8: whether the export has a graph for int8.

    Raises:
        ConfigError: another precision, or int8 where there is none.
    """
    if wanted not in EXPORTED_PRECISIONS:
        known = ", ".join(EXPORTED_PRECISIONS)
        raise ConfigError(f"reader.precision: an exported reader has no '{wanted}'; it has {known}")
    if wanted == "auto":
        return "int8" if has_int8 and has_byte_products() else "fp32"
    if wanted == "int8" and not has_int8:
        raise ConfigError("reader.precision: this reader was exported without int8; use fp32")
    if wanted == "int8" and not has_byte_products():
        raise ConfigError(
            "reader.precision: this processor has no instructions for int8 (VNNI); use auto or fp32"
        )
    return wanted


def has_byte_products(cpu_info: Path = _CPU_INFO) -> bool:
    """Whether the processor adds products of bytes in 32 bits (VNNI or AMX), as Linux tells it."""
    try:
        lines = cpu_info.read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not _BYTE_PRODUCTS.isdisjoint(flags.split())


@functools.cache
def _fastest_on_cpu() -> str:
    import torch

    def seconds(dtype: torch.dtype) -> float:
        a, b = torch.ones(512, 768, dtype=dtype), torch.ones(768, 768, dtype=dtype)
        best = float("inf")
        for _ in range(12):
            began = time.perf_counter()
            torch.mm(a, b)
            best = min(best, time.perf_counter() - began)
        return best

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        full, half = seconds(torch.float32), seconds(torch.bfloat16)
    finally:
        torch.set_num_threads(n_threads)
    logger.info("CPU: fp32 %.2f ms, bf16 %.2f ms", 1e3 * full, 1e3 * half)
    return "bf16" if half < 0.7 * full else "fp32"
