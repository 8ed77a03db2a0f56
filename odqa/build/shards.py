"""Shards: the passages and index terms of about 2,000 articles, the unit in which a build resumes.

A shard is one uncompressed ``.npz`` of numbers and UTF-8 bytes. It is written under another name
and renamed, so that a shard that is there is complete. What is in it depends only on its articles
and on the configuration, never on the order or the process in which shards are made.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from odqa.build.duplicates import DuplicateKeys
from odqa.config import CorpusConfig
from odqa.corpus.passages import split_passages
from odqa.protocols import Tokenizer
from odqa.store import Digests, PassageBlock, PassageStore, Strings, document_digests
from odqa.text.terms import passage_terms
from odqa.types import Document, Passage, Terms

T = TypeVar("T")

FIELDS = ("words", "parts", "bigrams")  # of ``odqa.types.Terms``
SHARD_DOCUMENTS = 2_000
SHARD_CHARS = 2_000_000  # fewer documents where they are long


@dataclass(frozen=True, slots=True)
class TermBlock:
    """The index terms of some consecutive passages, numbered by where each was first seen."""

    ids: npt.NDArray[np.int32]  # (terms,) of all passages, one after another
    counts: npt.NDArray[np.int32]  # (passages,)
    vocabulary: Strings

    @classmethod
    def encode(cls, passages: Iterable[Sequence[str]]) -> TermBlock:
        """Number the terms of each passage."""
        numbers: dict[str, int] = {}
        ids: list[int] = []
        counts: list[int] = []
        for terms in passages:
            ids += [numbers.setdefault(term, len(numbers)) for term in terms]
            counts.append(len(terms))
        return cls(
            np.array(ids, dtype=np.int32),
            np.array(counts, dtype=np.int32),
            Strings.encode(numbers),
        )

    def renumbered(self, numbers: Mapping[str, int]) -> npt.NDArray[np.int32]:
        """The term numbers in another vocabulary, which holds all of these."""
        mapping = np.array([numbers[term] for term in self.vocabulary.decode()], dtype=np.int32)
        return mapping[self.ids] if len(self.ids) else self.ids


@dataclass(frozen=True, slots=True)
class ShardJob:
    """What a shard is made of."""

    path: Path
    documents: list[Document]
    digests: Digests  # (documents, 2)
    passages: list[list[Passage]] | None = None  # of each document, where they are split already

    @property
    def digest(self) -> str:
        """A checksum of everything that the documents hold."""
        return hashlib.blake2b(self.digests.tobytes(), digest_size=16).hexdigest()


def shard_jobs(documents: Iterable[Document], directory: Path) -> Iterator[ShardJob]:
    """Deal documents out to shards, in order."""
    sized = ((document, len(document.text)) for document in documents)
    for number, batch in enumerate(_batches(sized)):
        yield ShardJob(_shard_path(directory, number), batch, document_digests(batch))


def stored_shard_jobs(store: PassageStore, directory: Path) -> Iterator[ShardJob]:
    """As ``shard_jobs``, from the passages of a store: their terms can be had without the source.

    The shards may be cut at other documents than those that the store was made of.
    """
    sized = (
        ((document, passages), sum(len(passage.text) for passage in passages))
        for document, passages in store.documents()
    )
    first = 0
    for number, batch in enumerate(_batches(sized)):
        documents, passages = [pair[0] for pair in batch], [pair[1] for pair in batch]
        digests = np.array(store.digests[first : first + len(batch)])
        yield ShardJob(_shard_path(directory, number), documents, digests, passages)
        first += len(batch)


def _shard_path(directory: Path, number: int) -> Path:
    return directory / f"{number:06d}.npz"


def _batches(sized: Iterable[tuple[T, int]]) -> Iterator[list[T]]:
    """What belongs into each shard, of documents that come with their lengths in characters."""
    batch: list[T] = []
    chars = 0
    for document, length in sized:
        batch.append(document)
        chars += length
        if len(batch) >= SHARD_DOCUMENTS or chars >= SHARD_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def make_shard(
    job: ShardJob,
    corpus: CorpusConfig,
    tokenizer: Tokenizer | None,
    title_weight: int,
    duplicates: bool = True,
) -> None:
    """Split and tokenise the documents of a job and write the shard.

    Without a tokenizer (an index without a sparse leg) there are no terms; with ``duplicates``
    there are the keys by which near-duplicate passages are found.
    """
    if job.passages is None:
        pairs = [_split(document, corpus) for document in job.documents]
    else:
        pairs = list(zip(job.documents, job.passages, strict=True))
    flat = [passage for _, passages in pairs for passage in passages]
    terms: list[Terms] = []
    if tokenizer is not None:
        terms = list(passage_terms(flat, tokenizer, title_weight))
    arrays = {
        "digest": np.frombuffer(job.digest.encode("ascii"), dtype=np.uint8),
        **_to_arrays("passages", PassageBlock.encode(pairs, job.digests)),
        **(_to_arrays("duplicates", DuplicateKeys.of(flat)) if duplicates else {}),
    }
    for field in FIELDS:
        block = TermBlock.encode(getattr(passage, field) for passage in terms)
        arrays |= _to_arrays(field, block)
    # Two processes never write one part: after a kill, the former worker may still be at it.
    part = job.path.with_name(f".{job.path.stem}.{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    part.replace(job.path)


def _split(document: Document, corpus: CorpusConfig) -> tuple[Document, list[Passage]]:
    """The passages, and the document under the cleaned title that they carry."""
    passages = split_passages(document, corpus)
    if passages and passages[0].title != document.title:
        document = dataclasses.replace(document, title=passages[0].title)
    return document, passages


def shard_digest(path: Path) -> str:
    """The checksum of the documents that a shard was made of."""
    with np.load(path, allow_pickle=False) as arrays:
        return bytes(arrays["digest"]).decode("ascii")


def read_passages(path: Path) -> PassageBlock:
    """The passages of a shard."""
    with np.load(path, allow_pickle=False) as arrays:
        return PassageBlock(
            texts=_strings(arrays, "passages.texts"),
            headings=_strings(arrays, "passages.headings"),
            starts=arrays["passages.starts"],
            doc_ids=_strings(arrays, "passages.doc_ids"),
            titles=_strings(arrays, "passages.titles"),
            metadata=_strings(arrays, "passages.metadata"),
            digests=arrays["passages.digests"],
            passage_counts=arrays["passages.passage_counts"],
        )


def read_terms(path: Path, field: str) -> TermBlock:
    """The terms of one field of a shard."""
    with np.load(path, allow_pickle=False) as arrays:
        return TermBlock(
            ids=arrays[f"{field}.ids"].astype(np.int32),
            counts=arrays[f"{field}.counts"],
            vocabulary=_strings(arrays, f"{field}.vocabulary"),
        )


def read_vocabulary(path: Path, field: str) -> list[str]:
    """The terms of one field of a shard, each once, as they were first seen."""
    with np.load(path, allow_pickle=False) as arrays:
        return _strings(arrays, f"{field}.vocabulary").decode()


def read_duplicate_keys(path: Path) -> DuplicateKeys:
    """The keys by which duplicates of the shard's passages are found."""
    with np.load(path, allow_pickle=False) as arrays:
        return DuplicateKeys(arrays["duplicates.digests"], arrays["duplicates.bands"])


def _to_arrays(
    prefix: str, block: PassageBlock | TermBlock | DuplicateKeys
) -> dict[str, npt.NDArray[np.generic]]:
    """The columns of a block by name, in the smallest type that holds their numbers."""
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for field in dataclasses.fields(block):
        column = getattr(block, field.name)
        if isinstance(column, Strings):
            arrays[f"{prefix}.{field.name}.blob"] = column.blob
            arrays[f"{prefix}.{field.name}.lengths"] = _smallest(column.lengths)
        else:
            narrow = field.name == "ids"
            arrays[f"{prefix}.{field.name}"] = _smallest(column) if narrow else column
    return arrays


def _smallest(numbers: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """``numbers`` (none below 0) as 16 or 32 bits."""
    fits = len(numbers) == 0 or int(numbers.max()) < 2**16
    return numbers.astype(np.uint16 if fits else np.uint32)


def _strings(arrays: Mapping[str, npt.NDArray[np.generic]], name: str) -> Strings:
    lengths = arrays[f"{name}.lengths"].astype(np.int64)
    return Strings(np.asarray(arrays[f"{name}.blob"], dtype=np.uint8), lengths)
