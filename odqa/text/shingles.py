"""Character shingles of texts: the sets by which near duplicates are told."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

SHINGLE = 5  # characters; white space does not count
_PAD = "\0"  # a control character, which no cleaned text holds

# The finaliser of SplitMix64 (G. L. Steele, D. Lea and C. H. Flood, OOPSLA 2014).
_FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
_BASE = np.uint64(0x9E3779B97F4A7C15)


def squeezed(text: str) -> str:
    """``text`` in NFKC and lower case without white space: what two copies of it share."""
    return "".join(unicodedata.normalize("NFKC", text).lower().split())


def shingle_hashes(
    texts: Sequence[str],
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """The hashes of every run of ``SHINGLE`` characters of each text, repeated ones included.

    Args:
        texts: as ``squeezed`` gives them. One shorter than a shingle is a single shingle.

    Returns:
        (shingles,) hashes of all texts, one after another, and (texts + 1,) offsets into them:
        those of ``texts[i]`` are ``hashes[offsets[i]:offsets[i + 1]]``.
    """
    padded = [text.ljust(SHINGLE, _PAD) for text in texts]
    ends = np.cumsum([len(text) for text in padded], dtype=np.int64)
    offsets = np.zeros(len(texts) + 1, dtype=np.uint64)
    if not texts:
        return np.empty(0, dtype=np.uint64), offsets
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    hashes = _rolled(codes)
    starts_one = np.ones(len(hashes), dtype=bool)
    for back in range(1, SHINGLE):  # a shingle may not begin so near the end of a text
        starts_one[ends[:-1] - back] = False
    offsets[1:] = ends - (SHINGLE - 1) * np.arange(1, len(texts) + 1)
    return hashes[starts_one], offsets


def _rolled(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    """A hash of each run of ``SHINGLE`` codes: a polynomial in an odd base, then mixed."""
    n = len(codes) - SHINGLE + 1
    hashes = codes[:n].astype(np.uint64)
    for place in range(1, SHINGLE):
        hashes *= _BASE
        hashes += codes[place : place + n]
    for shift, factor in zip(_SHIFTS, _FACTORS, strict=False):
        hashes ^= hashes >> shift
        hashes *= factor
    hashes ^= hashes >> _SHIFTS[-1]
    return hashes
