"""The sparse leg out of the shards: every term numbered, the terms of every passage indexed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from odqa.build.shards import read_terms, read_vocabulary
from odqa.build.stages import stage
from odqa.config import SparseConfig
from odqa.errors import OdqaError

if TYPE_CHECKING:
    from odqa.retrieval.postings import Field

SPARSE = "sparse"
"""The folder of the leg."""


def write_sparse_leg(
    directory: Path,
    shards: Callable[[], Iterable[Path]],
    config: SparseConfig,
    tokenizer_fingerprint: str,
    stored: StoredTerms | None = None,
) -> None:
    """Number the terms of all shards, in the order they are first seen, and index them.

    ``shards`` gives the shards in order; it is called twice. The passages of ``stored`` come before
    theirs.
    """
    from odqa.retrieval.bm25 import write_bm25
    from odqa.retrieval.bm25_files import stored_postings
    from odqa.retrieval.postings import Postings

    weights = field_weights(config)
    seen: dict[str, dict[str, None]] = {field: {} for field in weights}
    for path in shards():
        for field, terms in seen.items():
            terms.update(dict.fromkeys(read_vocabulary(path, field)))
    old_terms = stored.terms() if stored else []
    # Field by field, so that the numbers do not depend on how passages are dealt out to shards.
    terms = dict.fromkeys(itertools.chain(old_terms, *seen.values()))
    numbers = {term: n for n, term in enumerate(terms)}
    del seen, terms

    def postings() -> Iterator[Postings]:
        first_row = 0
        if stored is not None:
            first_row = stored.n_rows
            yield from stored_postings(stored.directory, config, stored.new_rows)
        for path in shards():
            shard = Postings.of(_fields(path, weights, numbers), first_row)
            first_row += shard.n_passages
            yield shard

    write_bm25(
        directory, postings(), list(numbers), config, tokenizer_fingerprint=tokenizer_fingerprint
    )


@dataclass(frozen=True, slots=True)
class StoredTerms:
    """Some passages of a finished sparse leg."""

    directory: Path
    new_rows: npt.NDArray[np.int32]  # (passages,) their rows in the leg to be; -1: left out

    @property
    def n_rows(self) -> int:
        """How many passages they are."""
        return int(np.count_nonzero(self.new_rows >= 0))

    def terms(self) -> list[str]:
        """Their terms, by number; also those that only passages that are left out held."""
        from odqa.retrieval.vocabulary import MappedVocabulary

        return MappedVocabulary(self.directory).terms()


def field_weights(config: SparseConfig) -> dict[str, float]:
    """What an occurrence in each field counts; fields of no weight are left out."""
    weights = {"words": 1.0, "parts": config.part_weight, "bigrams": config.bigram_weight}
    return {field: weight for field, weight in weights.items() if weight > 0}


def _fields(path: Path, weights: Mapping[str, float], numbers: Mapping[str, int]) -> list[Field]:
    from odqa.retrieval.postings import UNITS, Field

    blocks = {field: read_terms(path, field) for field in weights}
    return [
        Field(block.renumbered(numbers), block.counts, round(weights[field] * UNITS))
        for field, block in blocks.items()
    ]


def index_terms(
    directory: Path,
    shards: list[Path],
    config: SparseConfig,
    tokenizer_fingerprint: str,
    stored: StoredTerms | None,
) -> None:
    """Write the folder of the leg into that of the index, for a process of its own."""
    try:
        stage(
            directory,
            SPARSE,
            lambda part: write_sparse_leg(
                part, lambda: shards, config, tokenizer_fingerprint, stored
            ),
        )
    except OdqaError as error:
        # Subclasses with other arguments do not survive the way back through a pipe.
        raise OdqaError(str(error)) from None
