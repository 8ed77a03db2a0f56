"""The bundled sentence encoder: multilingual-e5-small cut to Korean, run without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from odqa.models.devices import pick_exported_precision
from odqa.models.onnx import (
    INT8_GRAPH,
    TOKENIZER,
    WEIGHTS_FILE,
    OnnxTransformer,
    exported_file,
)
from odqa.models.pieces import PieceTokenizer
from odqa.models.weights import WEIGHTS
from odqa.protocols import Vectors
from odqa.types import Passage

NAME = "e5-small-ko"
MAX_LENGTH = 512


class E5Encoder:
    """Mean of the last layer's states over ``<s> query: … </s>``, scaled to unit length.

    As its authors prescribe (Wang et al. 2024, "Multilingual E5 Text Embeddings"): questions begin
    with "query: ", passages with "passage: "; here a passage is its title, then its text.
    """

    def __init__(self, folder: Path, precision: str = "fp32") -> None:
        self._tokenizer = PieceTokenizer.load(exported_file(folder, TOKENIZER))
        self._model = OnnxTransformer(folder, precision)
        digest = hashlib.blake2b((folder / WEIGHTS_FILE).read_bytes(), digest_size=8)
        rounded = "" if precision == "fp32" else f";{precision}"
        self._fingerprint = f"e5/1;{digest.hexdigest()}{rounded}"

    @classmethod
    def load(cls, folder: Path | None = None, *, precision: str = "fp32") -> E5Encoder:
        """Open an export; None stands for the bundled one.

        Args:
            folder: of the export.
            precision: "fp32", or "auto": 8 bits where the processor has instructions for them.
                Vectors that are kept are made in fp32, so that they do not depend on a processor.
        """
        folder = folder or WEIGHTS / NAME
        has_int8 = (folder / INT8_GRAPH).exists()
        return cls(folder, pick_exported_precision(precision, has_int8=has_int8))

    @property
    def fingerprint(self) -> str:
        """The weights' content and the way they are used."""
        return self._fingerprint

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return 384

    def encode_questions(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32 rows of unit length; zeros for a text with nothing in it."""
        return self._encode([f"query: {text}" for text in texts], texts)

    def encode_passages(self, passages: Sequence[Passage]) -> Vectors:
        """(n, dim) float32 rows of unit length, title included."""
        texts = [f"{passage.title} {passage.text}" for passage in passages]
        return self._encode([f"passage: {text}" for text in texts], texts)

    def _encode(self, prefixed: Sequence[str], texts: Sequence[str]) -> Vectors:
        ids = [
            np.array([0, *pieces.ids[: MAX_LENGTH - 2], 2], dtype=np.int32)
            for pieces in self._tokenizer.encode(prefixed)
        ]
        vectors = np.zeros((len(ids), self.dim), dtype=np.float32)
        for row, states in enumerate(self._model.run(ids)):
            mean = states.mean(axis=0)
            vectors[row] = mean / np.maximum(np.linalg.norm(mean), np.float32(1e-12))
        vectors[[not text.strip() for text in texts]] = 0
        return vectors
