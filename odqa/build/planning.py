"""Predicting what a build will take, from a small real build of some of the corpus's articles."""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import lzma
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from odqa.build.components import create_encoder, create_tokenizer, legs_of
from odqa.build.indexing import check_corpus_config, write_sparse_leg
from odqa.build.shards import (
    FIELDS,
    SHARD_CHARS,
    SHARD_DOCUMENTS,
    ShardJob,
    make_shard,
    read_passages,
    read_vocabulary,
)
from odqa.build.workers import n_cores
from odqa.config import Config
from odqa.corpus import read_documents
from odqa.corpus.opening import read_lines
from odqa.corpus.records import parse_record
from odqa.corpus.sources import KOWIKI, SAMPLE
from odqa.errors import InputError
from odqa.protocols import Encoder, Tokenizer
from odqa.store import PassageStore, PassageWriter
from odqa.types import Document

_READ_SECONDS = 15.0  # spent on counting the corpus
_SAMPLE_DOCUMENTS = 400
_SAMPLE_CHARS = 1_500_000
_ENCODED_PASSAGES = 64
_KOWIKI_DOCUMENTS, _KOWIKI_CHARS = 560_000, 345_000_000  # January 2023; it grows by a few percent
_BYTES_PER_NUMBER = {"flat": 4, "fp16": 2, "sq8": 1}
# Measured on Korean Wikipedia's size, see ``_memory``.
_WORKER_BYTES = 130_000_000
_BASE_BYTES = 200_000_000
_BYTES_PER_TERM = 450
_BYTES_PER_PASSAGE = 120
_JSON_LINES = re.compile(r"\.(jsonl|ndjson)(\.(gz|bz2|xz|zst))?$")
# A corpus of n tokens has about n ** this different terms, up to a factor (Heaps' law).
_HEAPS = 0.6


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What a build is predicted to take on this machine when it has nothing else to do.

    ``documents`` is exact where all of the corpus was counted (``exact``); otherwise it is
    estimated from the size of the file, and everything else with it.
    """

    documents: int
    passages: int
    exact: bool
    seconds: int  # in all
    tokenise_seconds: int  # reading, splitting and tokenising
    encode_seconds: int  # the dense vectors
    disk_bytes: int  # of the finished index
    build_disk_bytes: int  # while it is being built, the index included
    memory_bytes: int  # at the peak, all processes together
    processes: int


@dataclass(frozen=True, slots=True)
class _Corpus:
    """What was seen of a corpus in a few seconds, and how large it is by that."""

    sample: list[Document]
    documents: float
    chars: float
    exact: bool
    read_seconds: float  # for all of it


@dataclass(frozen=True, slots=True)
class _Trial:
    """A small build: sizes and times of its parts."""

    chars: int
    passages: int
    terms: int
    passage_bytes: int
    shard_bytes: int
    posting_bytes: int
    vocabulary_bytes: int
    make_seconds: float
    sparse_seconds: float
    encode_seconds_per_passage: float
    dim: int


def plan_build(source: Path | str, config: Config) -> BuildPlan:
    """Predict time, disk and peak memory of ``build_index(source, config=config)`` on this machine.

    Some hundred articles are split, tokenised, indexed and encoded for real in a temporary folder,
    and the figures scaled up. ``kowiki`` is not downloaded: its size is known roughly, and the
    bundled sample is measured in its place.

    Raises:
        InputError: the corpus is bad, as far as it was read.
        ConfigError: a setting is unknown or out of range.
    """
    legs = legs_of(config.retrieval.retriever)
    check_corpus_config(config.corpus)
    tokenizer = create_tokenizer(config.tokenizer.name) if "sparse" in legs else None
    encoder = create_encoder(config.dense) if "dense" in legs else None
    corpus = _look_at(str(source))
    with tempfile.TemporaryDirectory(prefix="odqa-plan-") as directory:
        trial = _try(corpus.sample, Path(directory), config, tokenizer, encoder)
    return _predict(corpus, trial, config)


def _predict(corpus: _Corpus, trial: _Trial, config: Config) -> BuildPlan:
    scale = corpus.chars / max(trial.chars, 1)
    vocabulary_scale = scale**_HEAPS
    passages = round(trial.passages * scale)
    processes = n_cores() if corpus.documents > SHARD_DOCUMENTS or corpus.chars > SHARD_CHARS else 1
    # Reading goes on in one process while the others split and tokenise.
    tokenise_seconds = max(
        trial.make_seconds * scale / processes + corpus.read_seconds / processes,
        corpus.read_seconds,
    )
    encode_seconds = trial.encode_seconds_per_passage * passages
    vectors = passages * trial.dim * 4
    disk = (
        trial.passage_bytes * scale
        + trial.posting_bytes * scale
        + trial.vocabulary_bytes * vocabulary_scale
        + passages * trial.dim * _BYTES_PER_NUMBER[config.dense.faiss]
    )
    return BuildPlan(
        documents=round(corpus.documents),
        passages=passages,
        exact=corpus.exact,
        seconds=round(tokenise_seconds + trial.sparse_seconds * scale + encode_seconds),
        tokenise_seconds=round(tokenise_seconds),
        encode_seconds=round(encode_seconds),
        disk_bytes=round(disk),
        # Shards and vectors are thrown away at the end; postings are spooled at 12 bytes for 8.
        build_disk_bytes=round(
            disk + trial.shard_bytes * scale + max(vectors, 1.5 * trial.posting_bytes * scale)
        ),
        memory_bytes=_memory(
            passages, trial.terms * vocabulary_scale, vectors, processes, config.dense.faiss
        ),
        processes=processes,
    )


def _memory(passages: int, terms: float, vectors: int, processes: int, storage: str) -> int:
    """Peak memory: that of the hungriest of the stages, which follow one another.

    The vectors are counted twice, since FAISS grows its list by copying it.
    """
    stages = (
        _WORKER_BYTES * processes,
        terms * _BYTES_PER_TERM + passages * _BYTES_PER_PASSAGE,
        2 * vectors * _BYTES_PER_NUMBER[storage] / 4,
    )
    return round(_BASE_BYTES + max(stages))


def _look_at(source: str) -> _Corpus:
    """Count a corpus and take some articles from all over it."""
    if source == KOWIKI:
        seen = _look_at(SAMPLE)
        seconds = seen.read_seconds / max(seen.chars, 1) * _KOWIKI_CHARS
        return _Corpus(seen.sample, _KOWIKI_DOCUMENTS, _KOWIKI_CHARS, False, seconds)
    started = time.process_time()
    if _JSON_LINES.search(source.lower()) and Path(source).is_file():
        sample, n_documents, n_chars, exact = _look_at_lines(Path(source))
    else:
        sample, n_documents, n_chars, exact = _look_at_documents(source)
    seconds = time.process_time() - started
    scale = 1.0 if exact else _times_larger(Path(source), sample, n_chars)
    chosen = list(_up_to(sample, _SAMPLE_CHARS))
    return _Corpus(chosen, n_documents * scale, n_chars * scale, exact, seconds * scale)


def _look_at_lines(path: Path) -> tuple[list[Document], int, float, bool]:
    """All lines of a file counted, few of them parsed: an article a line, so that it is exact."""
    n_lines = n_chars = 0
    lines: list[tuple[int, str]] = []
    step = 1
    for number, line in read_lines(path):
        if not line.strip():
            continue
        if n_lines % step == 0:
            lines.append((number, line))
            if len(lines) > 2 * _SAMPLE_DOCUMENTS:  # keep every second, and go on more sparsely
                lines, step = lines[::2], 2 * step
        n_lines += 1
        n_chars += len(line)
    if not lines:
        raise InputError("holds no article", path=path)
    sample = [parse_record(line, path=path, number=number) for number, line in lines]
    share = sum(len(d.text) for d in sample) / sum(len(line) for _, line in lines)
    return sample, n_lines, n_chars * share, True


def _look_at_documents(source: str) -> tuple[list[Document], int, float, bool]:
    """As many documents as can be read in some seconds; False where those were not all."""
    started = time.monotonic()
    sample: list[Document] = []
    step, n_documents, n_chars = 1, 0, 0
    for document in read_documents(source):
        if n_documents % step == 0:
            sample.append(document)
            if len(sample) > 2 * _SAMPLE_DOCUMENTS:
                sample, step = sample[::2], 2 * step
        n_documents += 1
        n_chars += len(document.text)
        if time.monotonic() - started > _READ_SECONDS:
            return sample, n_documents, n_chars, False
    return sample, n_documents, n_chars, True


def _up_to(sample: list[Document], chars: int) -> Iterator[Document]:
    """Documents from all over the sample, so many that they have about ``chars`` characters."""
    total = sum(len(document.text) for document in sample)
    step = max(1, -(-total // chars))
    return itertools.islice(sample, 0, None, step)


def _times_larger(path: Path, sample: list[Document], chars_read: float) -> float:
    """How many times larger a corpus is than what was read of it, by its size on disk.

    What was read is packed as the file is, to see how much of the file it was. A corpus that is no
    file (``hf:``) cannot be told so: it is taken for no larger than what was read.
    """
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files if file.is_file())
    if size == 0:
        return 1.0
    lines = "".join(
        json.dumps({"id": d.doc_id, "title": d.title, "text": d.text}, ensure_ascii=False) + "\n"
        for d in sample
    )
    packed = len(_packer(path)(lines.encode("utf-8", "surrogatepass")))
    bytes_per_char = packed / max(1, sum(len(document.text) for document in sample))
    return max(1.0, size / (bytes_per_char * chars_read))


def _packer(path: Path) -> Callable[[bytes], bytes]:
    if path.suffix == ".zst":
        import zstandard

        return zstandard.ZstdCompressor().compress
    packers: dict[str, Callable[[bytes], bytes]] = {
        ".gz": gzip.compress,
        ".xz": lzma.compress,
        ".bz2": bz2.compress,
    }
    return packers.get(path.suffix, bytes)


def _try(
    documents: list[Document],
    directory: Path,
    config: Config,
    tokenizer: Tokenizer | None,
    encoder: Encoder | None,
) -> _Trial:
    """Build a small index in ``directory``."""
    if tokenizer is not None:
        tokenizer.tokenize(["한국어"])  # loads the dictionary, which is not to be timed
    shard = directory / "shard.npz"
    started = time.process_time()
    make_shard(
        ShardJob(shard, documents, ""),
        config.corpus,
        tokenizer,
        config.sparse.title_weight,
        config.duplicates.enabled,
    )
    make_seconds = time.process_time() - started
    with PassageWriter(directory / "passages") as writer:
        writer.append(read_passages(shard))
    store = PassageStore.open(directory / "passages")
    terms = {term for field in FIELDS for term in read_vocabulary(shard, field)}
    sparse_seconds = 0.0
    if tokenizer is not None:
        import bm25s  # type: ignore[import-untyped]  # noqa: F401  # its import is not to be timed

        started = time.process_time()
        write_sparse_leg(directory / "sparse", lambda: [shard], config.sparse, tokenizer)
        sparse_seconds = time.process_time() - started
    vocabulary_bytes = _bytes(directory.glob("sparse/terms.*")) + _bytes(
        directory.glob("sparse/*vocab*")
    )
    return _Trial(
        chars=sum(len(document.text) for document in documents),
        passages=len(store),
        terms=len(terms),
        passage_bytes=_bytes(directory.glob("passages/*")),
        shard_bytes=_bytes([shard]),
        posting_bytes=_bytes(directory.glob("sparse/*")) - vocabulary_bytes,
        vocabulary_bytes=vocabulary_bytes,
        make_seconds=make_seconds,
        sparse_seconds=sparse_seconds,
        encode_seconds_per_passage=_time_encoder(encoder, store) if encoder else 0.0,
        dim=encoder.dim if encoder else 0,
    )


def _time_encoder(encoder: Encoder, store: PassageStore) -> float:
    """Seconds a passage, the first (slower) call not counted."""
    rows = range(0, len(store), max(1, len(store) // _ENCODED_PASSAGES))
    passages = store.passages(rows)[:_ENCODED_PASSAGES]
    if not passages:
        return 0.0
    encoder.encode_passages(passages[:2])
    started = time.perf_counter()
    encoder.encode_passages(passages)
    return (time.perf_counter() - started) / len(passages)


def _bytes(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths)
