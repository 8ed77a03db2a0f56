"""Sub-word pieces with character offsets, optionally cut at morpheme boundaries first.

A vocabulary learnt on raw text joins a noun's last syllable and its particle in one piece, so that
no span of pieces ends where the answer ends. Here the text can be cut where Mecab says that a
particle, ending or suffix begins, and around punctuation; the pieces are then found inside those
parts. The first part of an eojeol carries the space mark, the others do not, so the same vocabulary
serves.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from odqa.text.morphemes import particle_boundaries

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")  # pieces 0 to 3
MASK = "<mask>"
SPACE = " "  # Metaspace turns it into the vocabulary's space mark, "▁"
Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Pieces:
    """One text in pieces: ``text[starts[i]:ends[i]]`` is what piece ``ids[i]`` stands for."""

    ids: Ints  # (pieces,)
    starts: Ints  # (pieces,)
    ends: Ints  # (pieces,)

    def __len__(self) -> int:
        return len(self.ids)


def build_tokenizer(pieces: Sequence[tuple[str, float]]) -> Any:
    """A ``tokenizers.Tokenizer`` over unigram pieces, the first four being ``SPECIALS``."""
    from tokenizers import Tokenizer
    from tokenizers.models import Unigram

    return with_rules(Tokenizer(Unigram(list(pieces), unk_id=3, byte_fallback=False)))


def with_rules(tokenizer: Any) -> Any:
    """``tokenizer`` with the rules around its model: a text's pieces between <s> and </s>.

    Normalisation is NFKC with runs of spaces made one, as XLM-R's rules do on Korean text.
    """
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers, processors

    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    tokenizer.add_special_tokens([*SPECIALS, MASK])
    return tokenizer


def write_tokenizer(tokenizer: Any, folder: Path, *, positions: int) -> None:
    """Write what ``with_rules`` made as Hugging Face's AutoTokenizer takes it.

    Args:
        tokenizer: to be written.
        folder: where to; it must exist.
        positions: how many pieces, those around the text included, a model of it reads.
    """
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": positions,
        "bos_token": "<s>",
        "cls_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": MASK,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    text = json.dumps(settings, indent=1) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


class PieceTokenizer:
    """Text to pieces with the character offsets they stand for."""

    def __init__(self, tokenizer: Any, *, morphemes: bool = False) -> None:
        from tokenizers import Tokenizer, pre_tokenizers

        # a copy: which part of an eojeol carries the space mark is decided here
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.morphemes = morphemes

    @classmethod
    def load(cls, path: Path, *, morphemes: bool = False) -> PieceTokenizer:
        """Read a ``tokenizer.json``."""
        from tokenizers import Tokenizer

        return cls(Tokenizer.from_file(str(path)), morphemes=morphemes)

    def with_morphemes(self, morphemes: bool) -> PieceTokenizer:
        """The same vocabulary with or without the cut at morpheme boundaries."""
        return PieceTokenizer(self._tokenizer, morphemes=morphemes)

    @property
    def vocabulary_size(self) -> int:
        """How many pieces there are."""
        return int(self._tokenizer.get_vocab_size())

    def encode(self, texts: Sequence[str]) -> list[Pieces]:
        """The pieces of each text, without special tokens."""
        words, starts = [], []
        for text in texts:
            parts = parts_of(text, morphemes=self.morphemes)
            words.append([part for part, _start in parts])
            starts.append([start for _part, start in parts])
        encodings = self._tokenizer.encode_batch(
            words, is_pretokenized=True, add_special_tokens=False
        )
        return [
            _with_offsets(encoding, text_words, text_starts)
            for encoding, text_words, text_starts in zip(encodings, words, starts, strict=True)
        ]

    def encode_parts(self, parts: Sequence[str]) -> list[list[int]]:
        """The ids of parts of words, each alone, as ``parts_of`` gives them."""
        words = [[part] for part in parts]
        encodings = self._tokenizer.encode_batch(
            words, is_pretokenized=True, add_special_tokens=False
        )
        return [encoding.ids for encoding in encodings]


def parts_of(text: str, *, morphemes: bool) -> list[tuple[str, int]]:
    """The parts of a text that no piece crosses, with their offsets.

    These are its eojeols or, with ``morphemes``, those cut where a particle, ending or suffix
    begins and where punctuation begins or ends. The first part of an eojeol begins with a space;
    its offset is that of the character after it.
    """
    inner = set(_boundaries(text)) if morphemes else set()
    parts: list[tuple[str, int]] = []
    start: int | None = None
    leads = True  # the part that starts next is the first of its eojeol
    for i, character in enumerate(text):
        space = character.isspace()
        if start is not None and (space or i in inner):
            parts.append(((SPACE if leads else "") + text[start:i], start))
            leads, start = False, None
        if space:
            leads = True
        elif start is None:
            start = i
    if start is not None:
        parts.append(((SPACE if leads else "") + text[start:], start))
    return parts


def _boundaries(text: str) -> list[int]:
    """Where a particle, ending or suffix begins, and where punctuation begins or ends."""
    kinds = [character.isalnum() for character in text]
    punctuation = [i for i in range(1, len(text)) if kinds[i] != kinds[i - 1]]
    return [*particle_boundaries(text), *punctuation]


def _with_offsets(encoding: Any, words: list[str], starts: list[int]) -> Pieces:
    offsets = np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2)
    word_ids = np.array(encoding.word_ids, dtype=np.int32)
    # a marked word is one character longer than the text it stands for
    marks = np.array([word.startswith(SPACE) for word in words], dtype=np.int32)
    bases = np.array(starts, dtype=np.int32)
    if not len(word_ids):
        empty = np.zeros(0, dtype=np.int32)
        return Pieces(empty, empty, empty)
    shift = bases[word_ids] - marks[word_ids]
    low = bases[word_ids]
    return Pieces(
        np.array(encoding.ids, dtype=np.int32),
        np.maximum(offsets[:, 0] + shift, low),
        np.maximum(offsets[:, 1] + shift, low),
    )
