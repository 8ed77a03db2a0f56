"""A reader's tokenizer and window layout, as they lie in a Hugging Face folder.

A folder made by ``odqa train reader`` has an ``odqa.json`` that says how its text was cut; any
other question-answering model is read as its authors' tokenizer lays out a pair of texts.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from odqa.errors import OdqaError
from odqa.models.pieces import Pieces, PieceTokenizer
from odqa.reading.windows import Layout

if TYPE_CHECKING:
    import torch

SETTINGS = "odqa.json"


class _Windowed(Protocol):
    @property
    def ids(self) -> np.ndarray[Any, np.dtype[np.int32]]: ...

    @property
    def segment(self) -> int: ...


class ReaderTokenizer:
    """Texts to pieces, and windows to the tensors a ``transformers`` model takes."""

    def __init__(self, backend: Any, layout: Layout, *, morphemes: bool, titles: bool) -> None:
        self._backend, self.layout = backend, layout
        self.morphemes, self.titles = morphemes, titles
        self._pieces = (
            PieceTokenizer(backend.backend_tokenizer, morphemes=True) if morphemes else None
        )

    @property
    def mask(self) -> int:
        """The id that stands for a hidden piece: the mask token's, or the unknown one's."""
        masks: int | None = self._backend.mask_token_id
        unknown: int = self._backend.unk_token_id
        return unknown if masks is None else masks

    def encode(self, texts: Sequence[str]) -> list[Pieces]:
        """The pieces of each text, without special tokens."""
        if self._pieces is not None:
            return self._pieces.encode(texts)
        if not texts:  # transformers does not take none
            return []
        batch = self._backend(
            list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        return [
            _pieces(text, ids, offsets)
            for text, ids, offsets in zip(
                texts, batch["input_ids"], batch["offset_mapping"], strict=True
            )
        ]

    def tensors(
        self, windows: Sequence[_Windowed], device: torch.device
    ) -> dict[str, torch.Tensor]:
        """(batch, length) ids, mask and, for models that have them, token types."""
        import torch

        length = max(len(window.ids) for window in windows)
        ids = np.full((len(windows), length), self.layout.pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        types = np.zeros_like(ids)
        for row, window in enumerate(windows):
            ids[row, : len(window.ids)] = window.ids
            mask[row, : len(window.ids)] = 1
            types[row, window.segment : len(window.ids)] = 1
        tensors = {"input_ids": ids, "attention_mask": mask}
        if self.layout.token_types:
            tensors["token_type_ids"] = types
        return {name: torch.from_numpy(array).to(device) for name, array in tensors.items()}

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files and the settings beside a saved model."""
        self._backend.save_pretrained(folder)
        settings = {
            "morphemes": self.morphemes,
            "titles": self.titles,
            "layout": dataclasses.asdict(self.layout),
        }
        (folder / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n")


def load_reader_tokenizer(
    name_or_path: str, *, morphemes: bool | None = None, titles: bool | None = None
) -> ReaderTokenizer:
    """The tokenizer of a model; how text is cut comes from its settings unless it is given.

    Raises:
        OdqaError: the model has no fast tokenizer, so there are no character offsets.
    """
    from transformers import AutoConfig, AutoTokenizer

    backend = AutoTokenizer.from_pretrained(name_or_path)
    if not getattr(backend, "is_fast", False):
        raise OdqaError(
            f"'{name_or_path}' has no fast tokenizer, and a reader needs its character offsets; "
            f"use a model with a tokenizer.json"
        )
    settings = {"morphemes": False, "titles": False}
    path = Path(name_or_path) / SETTINGS
    if path.is_file():
        settings |= json.loads(path.read_text(encoding="utf-8"))
    cut = settings["morphemes"] if morphemes is None else morphemes
    if cut and not uses_space_marks(backend):
        raise OdqaError(
            f"'{name_or_path}' marks no spaces in its pieces, so its text cannot be cut at "
            f"morphemes first; train it without"
        )
    with_titles = settings["titles"] if titles is None else titles
    # klue/roberta has BERT's tokenizer, which gives token types that the model has no rows for
    has_types = getattr(AutoConfig.from_pretrained(name_or_path), "type_vocab_size", 0) > 1
    layout = _layout(backend, with_titles, has_types)
    return ReaderTokenizer(backend, layout, morphemes=cut, titles=with_titles)


def uses_space_marks(backend: Any) -> bool:
    """Whether the vocabulary marks spaces (SentencePiece's "▁"), as the morpheme cut needs."""
    return "Metaspace" in str(backend.backend_tokenizer.pre_tokenizer)


def _layout(backend: Any, titles: bool, has_types: bool) -> Layout:
    """The special tokens around a pair of texts, seen from one that the tokenizer made."""
    pair = backend("가", "나", return_token_type_ids=True)
    owners = pair.sequence_ids()
    ids, first, second = pair["input_ids"], owners.index(0), owners.index(1)
    last_of_first = max(i for i, owner in enumerate(owners) if owner == 0)
    last = max(i for i, owner in enumerate(owners) if owner == 1)
    # a model that was given types in training says so in its tokenizer's inputs
    types = "token_type_ids" in backend.model_input_names and pair["token_type_ids"][second] == 1
    types = types and has_types
    after = tuple(ids[last + 1 :])
    return Layout(
        before=tuple(ids[:first]),
        between=tuple(ids[last_of_first + 1 : second]),
        after=after,
        pad=backend.pad_token_id,
        title_separator=after[:1] if titles else None,
        token_types=types,
    )


def _pieces(text: str, ids: list[int], offsets: list[tuple[int, int]]) -> Pieces:
    """Pieces without the space that SentencePiece counts to the one after it."""
    trimmed = [(end - len(text[start:end].lstrip()), end) for start, end in offsets]
    spans = np.array(trimmed, dtype=np.int32).reshape(-1, 2)
    return Pieces(np.array(ids, dtype=np.int32), spans[:, 0], spans[:, 1])
