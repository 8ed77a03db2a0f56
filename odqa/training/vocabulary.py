"""A vocabulary of sub-word pieces, learnt from text that is cut as a reader's is."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from odqa.config import CorpusConfig
from odqa.corpus import clean_document
from odqa.errors import ConfigError, OdqaError
from odqa.models.cut_tokenizer import write_settings
from odqa.models.pieces import MASK, SPECIALS, parts_of, with_rules, write_tokenizer
from odqa.training.outputs import held
from odqa.types import Document

logger = logging.getLogger(__name__)

_AT_ONCE = 10_000  # parts handed to the trainer together
_SAY_EVERY = 10_000  # articles


@dataclass(frozen=True, slots=True)
class VocabularyConfig:
    """How many pieces, and from what."""

    vocabulary: int = 32_000  # pieces, the special ones included
    min_count: int = 3  # what occurs less often, a character or a pair of pieces, makes no piece
    longest_piece: int = 16  # characters
    morphemes: bool = True  # text is cut at morpheme boundaries before the pieces
    every: int = 1  # take each n-th article of the corpus
    positions: int = 512  # what is written as the longest text of a model in pieces

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            ConfigError: a value is out of range.
        """
        least = {"vocabulary": len(SPECIALS) + 2, "min_count": 1, "longest_piece": 1}
        for name, smallest in (least | {"every": 1, "positions": 8}).items():
            if getattr(self, name) < smallest:
                raise ConfigError(f"{name} must be {smallest} or more")


def train_tokenizer(documents: Iterable[Document], config: VocabularyConfig, output: Path) -> int:
    """Learn pieces by byte-pair encoding and write a tokenizer that AutoTokenizer loads.

    The same text and settings give the same bytes. Pairs of neighbouring pieces are joined, the
    most frequent first (Sennrich et al. 2016), never across a boundary of ``parts_of``.

    Args:
        documents: read once; what is held is how often each of their parts occurs.
        config: sizes and bounds.
        output: the folder to write.

    Returns:
        How many pieces there are.

    Raises:
        ConfigError: a value is out of range.
        OdqaError: the text makes no piece.
        UsageError: another process is writing into ``output``.
    """
    config.check()
    with held(output):
        counts = _frequent(
            _count(itertools.islice(documents, 0, None, config.every), config), config
        )
        if not counts:
            raise OdqaError(f"no character occurs {config.min_count} times; give more text")
        tokenizer = _learn(counts, config)
        n_pieces = int(tokenizer.get_vocab_size())
        write_tokenizer(tokenizer, output, positions=config.positions)
        write_settings({"morphemes": config.morphemes}, output)
    logger.info("%d pieces in %s", n_pieces, output)
    return n_pieces


def _count(documents: Iterable[Document], config: VocabularyConfig) -> Counter[str]:
    """How often each part occurs, with its space if it is the first of an eojeol."""
    counts: Counter[str] = Counter()
    for number, document in enumerate(documents, start=1):
        text = f"{document.title}\n{clean_document(document, CorpusConfig()).text}"
        counts.update(part for part, _ in parts_of(text, morphemes=config.morphemes))
        if number % _SAY_EVERY == 0:
            logger.info("%d articles, %d different parts", number, len(counts))
    return counts


def _frequent(counts: Mapping[str, int], config: VocabularyConfig) -> dict[str, int]:
    """The parts, by their order as texts, that hold no rare character."""
    characters: Counter[str] = Counter()
    for part, n in counts.items():
        for character in part:
            characters[character] += n
    rare = {character for character, n in characters.items() if n < config.min_count}
    kept = {part: counts[part] for part in sorted(counts) if not rare.intersection(part)}
    logger.info(
        "%d of %d parts; %d of %d characters are too rare",
        len(kept), len(counts), len(rare), len(characters),
    )  # fmt: skip
    return kept


def _learn(counts: Mapping[str, int], config: VocabularyConfig) -> Any:
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer

    tokenizer = with_rules(Tokenizer(BPE(unk_token="<unk>")))
    # which part carries the space mark is decided already, as in odqa.models.pieces
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = BpeTrainer(
        vocab_size=config.vocabulary,
        min_frequency=config.min_count,
        max_token_length=config.longest_piece,
        special_tokens=[*SPECIALS, MASK],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_batches(counts), trainer)
    return with_rules(tokenizer)


def _batches(counts: Mapping[str, int]) -> Iterator[list[str]]:
    """Every part as often as it occurs."""
    parts = itertools.chain.from_iterable(itertools.repeat(p, n) for p, n in counts.items())
    while batch := list(itertools.islice(parts, _AT_ONCE)):
        yield batch
