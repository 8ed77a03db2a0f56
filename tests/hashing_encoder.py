"""A small deterministic encoder for tests of what surrounds an encoder."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from odqa.protocols import Vectors
from odqa.types import Passage

DIM = 16


class HashingEncoder:
    """Words hashed to signed dimensions, summed and scaled to unit length."""

    fingerprint = "hashing/1"
    dim = DIM

    def encode_questions(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), DIM), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.split():
                number = zlib.crc32(word.encode())
                vectors[row, number % DIM] += 1 if number & 0x8000 else -1
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.divide(vectors, lengths, out=vectors, where=lengths > 0)

    def encode_passages(self, passages: Sequence[Passage]) -> Vectors:
        return self.encode_questions([f"{p.title} {p.text}" for p in passages])
