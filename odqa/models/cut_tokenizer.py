"""The tokenizer of a Hugging Face folder, with the cut at morphemes that its model was trained on.

A folder that ``odqa train`` wrote has an ``odqa.json`` that says how its text was cut; any other
tokenizer is used as its authors made it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from odqa.errors import OdqaError
from odqa.models.pieces import Pieces, PieceTokenizer

SETTINGS = "odqa.json"


class CutTokenizer:
    """Texts to pieces with their character offsets."""

    def __init__(self, backend: Any, *, morphemes: bool) -> None:
        """
        Args:
            backend: a fast tokenizer of ``transformers``.
            morphemes: whether text is cut at morphemes before the pieces.
        """
        self.backend, self.morphemes = backend, morphemes
        self._pieces = (
            PieceTokenizer(backend.backend_tokenizer, morphemes=True) if morphemes else None
        )

    @property
    def mask(self) -> int:
        """The id that stands for a hidden piece: the mask token's, or the unknown one's."""
        masks: int | None = self.backend.mask_token_id
        unknown: int = self.backend.unk_token_id
        return unknown if masks is None else masks

    def encode(self, texts: Sequence[str]) -> list[Pieces]:
        """The pieces of each text, without special tokens."""
        if self._pieces is not None:
            return self._pieces.encode(texts)
        if not texts:  # transformers does not take none
            return []
        batch = self.backend(
            list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        return [
            _pieces(text, ids, offsets)
            for text, ids, offsets in zip(
                texts, batch["input_ids"], batch["offset_mapping"], strict=True
            )
        ]

    def settings(self) -> dict[str, Any]:
        """What is written into ``odqa.json``."""
        return {"morphemes": self.morphemes}

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files and the settings beside a saved model."""
        self.backend.save_pretrained(folder)
        write_settings(self.settings(), folder)


def load_cut_tokenizer(name_or_path: str, *, morphemes: bool | None = None) -> CutTokenizer:
    """The tokenizer of a folder or a Hugging Face id.

    Args:
        name_or_path: of the tokenizer.
        morphemes: whether text is cut first; None: as the folder's settings say.

    Raises:
        OSError, ValueError: it cannot be loaded.
        OdqaError: it is no fast one (so there are no character offsets), or marks no spaces and
            shall be cut.
    """
    from transformers import AutoTokenizer

    backend = AutoTokenizer.from_pretrained(name_or_path)
    if not getattr(backend, "is_fast", False):
        raise OdqaError(
            f"'{name_or_path}' has no fast tokenizer, and its character offsets are needed; use "
            f"a model with a tokenizer.json"
        )
    cut = bool(read_settings(name_or_path).get("morphemes")) if morphemes is None else morphemes
    if cut and not uses_space_marks(backend):
        raise OdqaError(
            f"'{name_or_path}' marks no spaces in its pieces, so its text cannot be cut at "
            f"morphemes first; train it without"
        )
    return CutTokenizer(backend, morphemes=cut)


def read_settings(name_or_path: str) -> dict[str, Any]:
    """What a folder's ``odqa.json`` says; nothing where it has none."""
    path = Path(name_or_path) / SETTINGS
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def write_settings(settings: Mapping[str, Any], folder: Path) -> None:
    """Write ``odqa.json``."""
    (folder / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def uses_space_marks(backend: Any) -> bool:
    """Whether the vocabulary marks spaces (SentencePiece's "▁"), as the morpheme cut needs."""
    return "Metaspace" in str(backend.backend_tokenizer.pre_tokenizer)


def _pieces(text: str, ids: list[int], offsets: list[tuple[int, int]]) -> Pieces:
    """Pieces without the space that SentencePiece counts to the one after it."""
    trimmed = [(end - len(text[start:end].lstrip()), end) for start, end in offsets]
    spans = np.array(trimmed, dtype=np.int32).reshape(-1, 2)
    return Pieces(np.array(ids, dtype=np.int32), spans[:, 0], spans[:, 1])
