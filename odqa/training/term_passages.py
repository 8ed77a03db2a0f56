"""The passages of a corpus as numbers of their terms, which a static encoder is trained on."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from odqa.config import CorpusConfig
from odqa.corpus import read_documents
from odqa.corpus.passages import split_passages
from odqa.errors import OdqaError
from odqa.text.sentences import split_sentences
from odqa.text.tokenizers import create_tokenizer
from odqa.types import Passage

logger = logging.getLogger(__name__)

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class TermPassage:
    """A passage in term numbers."""

    title: Ids
    sentences: list[Ids]


@dataclass(frozen=True, slots=True)
class TermPassages:
    """Passages in term numbers, packed: sentence s has ``ids[ends[s - 1]:ends[s]]``.

    Passage p has the sentences from ``firsts[p]``, the title's terms first, up to ``firsts[p+1]``.
    """

    ids: Ids
    starts: npt.NDArray[np.int64]  # (sentences + 1,)
    firsts: npt.NDArray[np.int64]  # (passages + 1,)

    def __len__(self) -> int:
        return len(self.firsts) - 1

    def __getitem__(self, passage: int) -> TermPassage:
        rows = range(int(self.firsts[passage]), int(self.firsts[passage + 1]))
        parts = [self.ids[self.starts[row] : self.starts[row + 1]] for row in rows]
        return TermPassage(parts[0], parts[1:])


def read_term_passages(
    corpus: str, cache: Path, *, tokenizer: str, every: int, most_terms: int
) -> tuple[TermPassages, list[str]]:
    """The passages of a corpus in terms, and the vocabulary, the most frequent term first.

    Args:
        corpus: any source that ``read_documents`` takes.
        cache: the file they are kept in; one that is there is read instead of the corpus.
        tokenizer: what cuts text into terms.
        every: take each n-th article.
        most_terms: size of the vocabulary; rarer terms are left out of the passages.

    Raises:
        OdqaError: the corpus has no passage.
    """
    if not cache.exists():
        _tokenise(corpus, cache, tokenizer=tokenizer, every=every, most_terms=most_terms)
    with np.load(cache, allow_pickle=False) as arrays:
        terms = arrays["terms"].tobytes().decode("utf-8").split("\n")
        return TermPassages(arrays["ids"], arrays["starts"], arrays["firsts"]), terms


def _tokenise(corpus: str, cache: Path, *, tokenizer: str, every: int, most_terms: int) -> None:
    cut = create_tokenizer(tokenizer)
    numbers: dict[str, int] = {}
    ids: list[Ids] = []
    starts, firsts = [0], [0]
    documents = itertools.islice(read_documents(corpus), 0, None, every)
    for batch in _batched((p for d in documents for p in split_passages(d, CorpusConfig())), 512):
        texts, counts = [], []
        for passage in batch:
            sentences = [passage.text[a:b] for a, b in split_sentences(passage.text)]
            texts += [f"{passage.title}\n{passage.heading}", *sentences]
            counts.append(1 + len(sentences))
        for terms in cut.tokenize(texts):
            ids.append(np.array([numbers.setdefault(t, len(numbers)) for t in terms], np.int32))
            starts.append(starts[-1] + len(terms))
        for count in counts:
            firsts.append(firsts[-1] + count)
        logger.info("%d passages tokenised", len(firsts) - 1)
    if not ids:
        raise OdqaError(f"{corpus}: no passage to train on")
    flat = np.concatenate(ids)
    counts_of = np.bincount(flat, minlength=len(numbers))
    order = np.argsort(-counts_of, kind="stable")[:most_terms]
    renumber = np.full(len(numbers), -1, np.int32)
    renumber[order] = np.arange(len(order), dtype=np.int32)
    flat = renumber[flat]
    names = list(numbers)
    kept = flat >= 0
    ends = np.concatenate([[0], np.cumsum(kept)])[np.array(starts)]
    text = "\n".join(names[i] for i in order).encode("utf-8")
    part = cache.with_name(cache.name + ".part")
    with part.open("wb") as file:
        np.savez(
            file,
            ids=flat[kept],
            starts=ends.astype(np.int64),
            firsts=np.array(firsts, np.int64),
            terms=np.frombuffer(text, dtype=np.uint8),
        )
    part.replace(cache)


def _batched(passages: Iterable[Passage], size: int) -> Iterator[list[Passage]]:
    iterator = iter(passages)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
