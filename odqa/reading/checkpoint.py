"""A reader's tokenizer and window layout, as they lie in a Hugging Face folder.

A folder made by ``odqa train reader`` has an ``odqa.json`` that says how text was laid out; any
other question-answering model is read as its authors' tokenizer lays out a pair of texts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from odqa.models.cut_tokenizer import CutTokenizer, load_cut_tokenizer, read_settings
from odqa.reading.windows import Layout

if TYPE_CHECKING:
    import torch


_LENGTH_STEP = 32


class _Windowed(Protocol):
    @property
    def ids(self) -> np.ndarray[Any, np.dtype[np.int32]]: ...

    @property
    def segment(self) -> int: ...


class ReaderTokenizer(CutTokenizer):
    """Texts to pieces, and windows to the tensors a ``transformers`` model takes."""

    def __init__(self, backend: Any, layout: Layout, *, morphemes: bool, titles: bool) -> None:
        super().__init__(backend, morphemes=morphemes)
        self.layout, self.titles = layout, titles

    def tensors(
        self, windows: Sequence[_Windowed], device: torch.device, *, longest: int = 0
    ) -> dict[str, torch.Tensor]:
        """(batch, length) ids, mask and, for models that have them, token types.

        With ``longest``, the most pieces that a window may have, lengths are rounded up to a
        multiple of 32: a CPU compiles the products of each new length, and remembers but few.
        """
        import torch

        length = max(len(window.ids) for window in windows)
        if longest:
            length = max(length, min(-(-length // _LENGTH_STEP) * _LENGTH_STEP, longest))
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

    def settings(self) -> dict[str, Any]:
        """What is written into ``odqa.json``."""
        return {
            "morphemes": self.morphemes,
            "titles": self.titles,
            "layout": dataclasses.asdict(self.layout),
        }


def load_reader_tokenizer(
    name_or_path: str, *, morphemes: bool | None = None, titles: bool | None = None
) -> ReaderTokenizer:
    """The tokenizer of a model; how text is cut comes from its settings unless it is given.

    Raises:
        OdqaError: as ``odqa.models.cut_tokenizer.load_cut_tokenizer``.
    """
    from transformers import AutoConfig

    known = load_cut_tokenizer(name_or_path, morphemes=morphemes)
    with_titles = bool(read_settings(name_or_path).get("titles")) if titles is None else titles
    # klue/roberta has BERT's tokenizer, which gives token types that the model has no rows for
    has_types = getattr(AutoConfig.from_pretrained(name_or_path), "type_vocab_size", 0) > 1
    layout = _layout(known.backend, with_titles, has_types)
    return ReaderTokenizer(known.backend, layout, morphemes=known.morphemes, titles=with_titles)


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
