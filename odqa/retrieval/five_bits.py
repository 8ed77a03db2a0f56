"""Unit vectors in five bits a number: an exhaustive scan of one bit, the best scored with all five.

A fixed random rotation spreads every vector evenly, so that each of its numbers, times the square
root of their count, is close to a standard normal variable whatever the encoder; each is rounded to
one of the 32 levels that are best for such a variable (S. P. Lloyd, Least squares quantization in
PCM, 1982). Nothing is learnt from the vectors: a vector has the same code in every index. What is
read back is scaled to length 1, as the vector was, which takes away a good part of the error. The
idea of a rotation, few bits, and a correction by the known length is from J. Gao et al., Practical
and Asymptotically Optimal Quantization of High-Dimensional Vectors (SIGMOD 2025).

The upper half of the levels is one bit: four of them are a code of FAISS's PQ fast scan, which
looks at all vectors in some milliseconds a million. The four other bits of the candidates are
memory-mapped.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from odqa.protocols import Vectors
from odqa.retrieval.ranking import Rows, Scores
from odqa.store.arrays import create_array

Codes = npt.NDArray[np.uint8]

_SIGNS, _REST = "signs.npy", "rest.npy"
_BITS = 5
_CANDIDATES = 1_000  # scored with all bits, at least
_CANDIDATES_PER_RESULT = 8
_BLOCK = 1_024  # numbers that are rotated together; more take long to orthogonalise
_CELLS_PER_UNIT = 256  # of the grid that numbers are looked up on
_REACH = 6.0  # standard deviations that the grid covers to either side


class FiveBitVectors:
    """(n, dim) unit vectors; a vector of zeros stays one."""

    def __init__(self, dim: int, signs: Codes, rest: Codes) -> None:
        """``signs`` (n, bytes of one bit a number) and ``rest`` (n, bytes of four bits)."""
        self.dim = dim
        self.ntotal = len(signs)
        self._signs, self._rest = signs, rest
        self._scan = _fast_scan(_padded(dim), signs)

    @classmethod
    def open(cls, directory: Path, dim: int) -> FiveBitVectors:
        """What ``write_five_bits`` wrote.

        Raises:
            OSError, ValueError: a file is missing, damaged, or of another shape.
        """
        signs, rest = (
            np.load(directory / name, mmap_mode="r", allow_pickle=False) for name in (_SIGNS, _REST)
        )
        padded = _padded(dim)
        for codes, width in ((signs, padded // 8), (rest, padded // 2)):
            if codes.dtype != np.uint8 or codes.shape != (len(signs), width):
                raise ValueError(f"codes of shape {codes.shape}, {width} bytes each expected")
        return cls(dim, signs, rest)

    def search(self, vectors: Vectors, k: int) -> tuple[Scores, Rows]:
        """Inner products and rows of the k best for each of (n, dim) vectors, best first.

        Each question is looked at by itself, so that the result does not depend on the batch.
        """
        k = min(k, self.ntotal)
        scores = np.zeros((len(vectors), k), dtype=np.float32)
        rows = np.zeros((len(vectors), k), dtype=np.int64)
        wide = min(self.ntotal, max(_CANDIDATES, _CANDIDATES_PER_RESULT * k))
        for place, vector in enumerate(vectors):
            turned = vector[np.newaxis] @ rotation(self.dim)
            candidates = np.sort(self._scan.search(turned, wide)[1][0])
            candidates = candidates[candidates >= 0]
            exact = np.einsum("nd,d->n", self._turned(candidates), turned[0])
            best = np.argsort(-exact, kind="stable")[:k]
            scores[place, : len(best)], rows[place, : len(best)] = exact[best], candidates[best]
        return scores, rows

    def scores(self, vector: Vectors, rows: Rows) -> Scores:
        """(len(rows),) inner products with one (dim,) vector, summed in double precision."""
        turned = (vector[np.newaxis] @ rotation(self.dim))[0].astype(np.float64)
        vectors = self._turned(rows).astype(np.float64)
        exact: Scores = np.einsum("nd,d->n", vectors, turned).astype(np.float32)
        return exact

    def reconstruct_batch(self, rows: Rows) -> Vectors:
        """(len(rows), dim) the vectors as far as five bits tell."""
        vectors: Vectors = self._turned(rows) @ rotation(self.dim).T
        return vectors

    def kept(self, rows: Rows) -> tuple[Codes, Codes]:
        """The codes of some rows, for another index."""
        return self._signs[rows], self._rest[rows]

    def _turned(self, rows: Rows) -> Vectors:
        """Vectors of length 1 in the rotated space."""
        high = np.unpackbits(self._signs[rows], axis=1, bitorder="little")
        low = self._rest[rows]
        level = np.empty_like(high)
        level[:, 0::2], level[:, 1::2] = low & 15, low >> 4
        level |= high << 4
        vectors = _levels()[level]
        lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
        # Only a vector of zeros has all its numbers at the levels next to zero.
        lengths[lengths < 0.25 * np.sqrt(vectors.shape[1])] = np.inf
        vectors /= lengths[:, np.newaxis]
        return vectors


def write_five_bits(
    directory: Path, n: int, dim: int, blocks: Iterable[tuple[Codes, Codes]]
) -> None:
    """Write the codes of ``n`` vectors, given block by block."""
    padded = _padded(dim)
    files = [
        create_array(directory / name, np.uint8, (n, width))
        if n
        else np.zeros((0, width), dtype=np.uint8)
        for name, width in ((_SIGNS, padded // 8), (_REST, padded // 2))
    ]
    row = 0
    for block in blocks:
        for file, codes in zip(files, block, strict=True):
            file[row : row + len(codes)] = codes
        row += len(block[0])
    if row != n:
        raise ValueError(f"{row} vectors came, {n} were announced")
    for name, file in zip((_SIGNS, _REST), files, strict=True):
        if isinstance(file, np.memmap):
            file.flush()
        else:  # an empty file cannot be mapped
            np.save(directory / name, file)


def encode(vectors: Vectors) -> tuple[Codes, Codes]:
    """The codes of (n, dim) unit vectors: (n, bytes of one bit a number), (n, bytes of four)."""
    turned = vectors @ rotation(vectors.shape[1])
    turned *= np.sqrt(turned.shape[1]) * _CELLS_PER_UNIT
    turned += _REACH * _CELLS_PER_UNIT
    np.clip(turned, 0, 2 * _REACH * _CELLS_PER_UNIT - 1, out=turned)
    level = _level_of_cell()[turned.astype(np.int16)]
    low = level & 15
    rest = np.bitwise_or(low[:, 0::2], low[:, 1::2] << 4, dtype=np.uint8)
    return np.packbits(level >> 4, axis=1, bitorder="little"), rest


def bytes_per_vector(dim: int) -> int:
    """How many bytes five bits a number are."""
    return _padded(dim) * _BITS // 8


@functools.lru_cache(maxsize=4)
def rotation(dim: int) -> Vectors:
    """(dim, dim rounded up to a multiple of 8), orthonormal rows; always the same for one dim."""
    padded = _padded(dim)
    matrix = np.zeros((padded, padded), dtype=np.float32)
    for start in range(0, padded, _BLOCK):
        size = min(_BLOCK, padded - start)
        random = np.random.Generator(np.random.PCG64(size))
        block, triangle = np.linalg.qr(random.standard_normal((size, size)))
        block *= np.sign(np.diag(triangle))  # QR alone leaves the signs open
        matrix[start : start + size, start : start + size] = block
    return matrix[:dim]


@functools.cache
def _levels() -> npt.NDArray[np.float32]:
    """(32,) Lloyd's levels for a standard normal variable, ascending.

    Each is the mean of the variable between the two thresholds around it, and each threshold lies
    in the middle between two levels.
    """
    from statistics import NormalDist

    normal = NormalDist()
    count = 1 << _BITS
    density, below = np.vectorize(normal.pdf), np.vectorize(normal.cdf)
    levels = np.sqrt(3) * np.vectorize(normal.inv_cdf)((np.arange(count) + 0.5) / count)
    for _ in range(300):
        middle = (levels[1:] + levels[:-1]) / 2
        p = np.concatenate([[0.0], density(middle), [0.0]])
        c = np.concatenate([[0.0], below(middle), [1.0]])
        levels = (p[:-1] - p[1:]) / (c[1:] - c[:-1])
    rounded: npt.NDArray[np.float32] = levels.astype(np.float32)
    return rounded


@functools.cache
def _level_of_cell() -> Codes:
    """The level of each cell of the grid, from -_REACH to _REACH standard deviations."""
    cells = int(2 * _REACH * _CELLS_PER_UNIT)
    middle = (np.arange(cells) + 0.5) / _CELLS_PER_UNIT - _REACH
    levels = _levels()
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, middle).astype(np.uint8)


def _padded(dim: int) -> int:
    return -(-dim // 8) * 8


def _fast_scan(padded: int, signs: Codes) -> Any:
    """FAISS's fast scan over one bit a number: its code words are the 16 corners of a cube."""
    import faiss

    index: Any = faiss.IndexPQ(padded, padded // 4, 4, faiss.METRIC_INNER_PRODUCT)
    corners = np.array([[code >> bit & 1 for bit in range(4)] for code in range(16)])
    centroids = np.tile(corners * 2 - 1, (padded // 4, 1, 1)).astype(np.float32)
    faiss.copy_array_to_vector(centroids.ravel(), index.pq.centroids)
    index.is_trained = True
    index.add_sa_codes(np.ascontiguousarray(signs))
    return faiss.IndexPQFastScan(index)
