"""Vectors on a GPU: in FAISS where it has kernels for the card, else an exact search in torch."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from odqa.protocols import Vectors
from odqa.retrieval.ranking import Rows, Scores
from odqa.retrieval.storages import FaissVectors, Searchable, VectorIndex

logger = logging.getLogger(__name__)

_CHUNK = 65_536  # vectors copied at once
_SCORES = 1 << 26  # scores computed at once
_FAISS_MAX_K = 2048  # FAISS's limit on a GPU


def on_device(index: VectorIndex, dim: int, device: str) -> tuple[Searchable, int]:
    """The index to search, and the greatest k it takes.

    Args:
        index: on the CPU.
        dim: numbers in a vector.
        device: "auto", "cpu", "cuda" or "cuda:N". Only where a GPU is asked for, or "auto" finds
            one that FAISS or torch can use, is a copy made there; every vector is then looked at.
    """
    whole = index.ntotal or 1
    if device == "cpu" or index.ntotal == 0:
        return index, whole
    number = int(device.partition(":")[2] or 0)
    on_gpu = _faiss_on_gpu(index, number)
    if on_gpu is not None:
        return on_gpu, _FAISS_MAX_K
    if _torch_has_gpu(asked=device != "auto"):
        return TorchVectors(index, dim, f"cuda:{number}", half=True), whole
    logger.debug("vectors are searched on the CPU")
    return index, whole


def _faiss_on_gpu(index: VectorIndex, number: int) -> Any:
    """A copy that FAISS searches on its GPU; None where it has none, or no kernels for the card.

    The exhaustive search of compressed storages FAISS has on the CPU alone.
    """
    import faiss

    n_gpus = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
    flat = index.index if isinstance(index, FaissVectors) else None
    if n_gpus <= number or not isinstance(flat, faiss.IndexFlat):
        return None
    try:
        copy = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), number, flat)
        copy.search(np.zeros((1, flat.d), dtype=np.float32), 1)
    except RuntimeError as error:  # "no kernel image is available for execution on the device"
        logger.info("FAISS cannot search on GPU %d (%s)", number, error)
        return None
    return copy


def _torch_has_gpu(*, asked: bool) -> bool:
    """Is there torch with a GPU? Without a word about a GPU torch is not loaded to find out."""
    import sys

    if not asked and "torch" not in sys.modules:
        return False
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


class TorchVectors:
    """An exact search of all vectors by matrix products, in chunks that fit the memory.

    In single precision the results are those of FAISS's flat index; in half precision (GPUs) those
    of the vectors rounded to it, scored in single precision.
    """

    def __init__(self, index: VectorIndex, dim: int, device: str, *, half: bool = False) -> None:
        """Copy the vectors of ``index`` to ``device``, in half precision if ``half``."""
        import torch

        self.ntotal = index.ntotal
        kind = torch.float16 if half else torch.float32
        self._vectors = torch.empty((index.ntotal, dim), dtype=kind, device=device)
        for start in range(0, index.ntotal, _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, index.ntotal))
            chunk = torch.from_numpy(np.ascontiguousarray(index.reconstruct_batch(rows)))
            self._vectors[start : start + len(rows)] = chunk.to(device, kind)

    def search(self, vectors: Vectors, k: int) -> tuple[Scores, Rows]:
        """(n, k) scores and rows, best first."""
        import torch

        k = min(k, self.ntotal)
        questions = torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32))
        questions = questions.to(self._vectors.device)
        best = torch.full((len(vectors), 0), -torch.inf, device=questions.device)
        rows = torch.zeros((len(vectors), 0), dtype=torch.int64, device=questions.device)
        step = max(k, min(_SCORES // max(len(vectors), 1), 4 * _CHUNK))
        for start in range(0, self.ntotal, step):
            part = self._vectors[start : start + step].float()
            scores, found = torch.topk(questions @ part.T, min(k, len(part)), dim=1)
            best = torch.cat([best, scores], dim=1)
            rows = torch.cat([rows, found + start], dim=1)
            best, order = torch.topk(best, min(k, best.shape[1]), dim=1)
            rows = torch.gather(rows, 1, order)
        return best.cpu().numpy(), rows.cpu().numpy()
