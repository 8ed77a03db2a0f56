"""What a corpus looks like, and what a small real build of some of its articles takes."""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import lzma
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from odqa.build.shards import FIELDS, ShardJob, read_passages, read_terms, read_vocabulary
from odqa.build.sparse_leg import write_sparse_leg
from odqa.build.workers import ShardMaker, ShardSettings, time_a_worker
from odqa.config import Config
from odqa.corpus import read_documents
from odqa.corpus.opening import read_lines
from odqa.corpus.records import parse_record
from odqa.corpus.sources import KOWIKI, SAMPLE
from odqa.errors import InputError
from odqa.processes import resident_bytes
from odqa.protocols import Encoder, TermEncoder, Tokenizer
from odqa.store import PassageStore, PassageWriter, document_digests
from odqa.types import Document

_READ_SECONDS = 15.0  # spent on counting the corpus
_SAMPLE_DOCUMENTS = 400
_SAMPLE_CHARS = 1_500_000
_ENCODED_PASSAGES = 64
_KOWIKI_DOCUMENTS, _KOWIKI_CHARS = 560_000, 345_000_000  # January 2023; it grows by a few percent
_RESIDENT_BYTES, _WORKER_BYTES = 400_000_000, 200_000_000  # where the system does not tell
_OF_TERMS = ("terms.", "indptr.", "bounds.")  # files of the sparse leg with a row for each term
_JSON_LINES = re.compile(r"\.(jsonl|ndjson)(\.(gz|bz2|xz|zst))?$")


@dataclass(frozen=True, slots=True)
class Corpus:
    """What was seen of a corpus in a few seconds, and how large it is by that."""

    sample: list[Document]
    documents: float
    chars: float
    exact: bool
    read_seconds: float  # for all of it


@dataclass(frozen=True, slots=True)
class Trial:
    """A small build: sizes and times of its parts."""

    chars: int
    passages: int
    terms: int
    passage_bytes: int
    shard_bytes: int
    posting_bytes: int
    vocabulary_bytes: int
    import_seconds: float  # of what a stage imports, unless it was there already
    make_seconds: float
    sparse_seconds: float
    encode_seconds_per_passage: float
    dim: int
    reads_passages: bool  # the encoder is given texts, not the numbers of their terms
    resident_bytes: int  # of this process, with everything loaded that a build loads
    worker_bytes: int  # of a worker at its peak; 0 without workers


def look_at(source: str) -> Corpus:
    """Count a corpus and take some articles from all over it."""
    if source == KOWIKI:
        seen = look_at(SAMPLE)
        seconds = seen.read_seconds / max(seen.chars, 1) * _KOWIKI_CHARS
        return Corpus(seen.sample, _KOWIKI_DOCUMENTS, _KOWIKI_CHARS, False, seconds)
    started = time.process_time()
    if _JSON_LINES.search(source.lower()) and Path(source).is_file():
        sample, n_documents, n_chars, exact = _look_at_lines(Path(source))
    else:
        sample, n_documents, n_chars, exact = _look_at_documents(source)
    seconds = time.process_time() - started
    scale = 1.0 if exact else _times_larger(Path(source), sample, n_chars)
    chosen = list(_up_to(sample, _SAMPLE_CHARS))
    return Corpus(chosen, n_documents * scale, n_chars * scale, exact, seconds * scale)


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
    if path.suffix.lower() == ".zst":
        import zstandard

        return zstandard.ZstdCompressor().compress
    packers: dict[str, Callable[[bytes], bytes]] = {
        ".gz": gzip.compress,
        ".xz": lzma.compress,
        ".bz2": bz2.compress,
    }
    return packers.get(path.suffix.lower(), bytes)


def build_trial(
    documents: list[Document],
    directory: Path,
    config: Config,
    tokenizer: Tokenizer | None,
    encoder: Encoder | None,
    *,
    in_worker: bool,
) -> Trial:
    """Build a small index in ``directory``; a worker makes the shard if the build will have any."""
    shard = directory / "shard.npz"
    make_seconds, worker_bytes = _make_shard(
        ShardJob(shard, documents, document_digests(documents)),
        ShardSettings(
            config.corpus,
            config.tokenizer if tokenizer is not None else None,
            config.sparse.title_weight,
        ),
        in_worker=in_worker,
    )
    with PassageWriter(directory / "passages") as writer:
        writer.append(read_passages(shard))
    store = PassageStore.open(directory / "passages")
    terms = {term for field in FIELDS for term in read_vocabulary(shard, field)}
    sparse_seconds = 0.0
    started = time.process_time()
    if encoder is not None:
        import faiss  # noqa: F401  # for its time and memory
    import_seconds = time.process_time() - started
    if tokenizer is not None:
        started = time.process_time()
        write_sparse_leg(
            directory / "sparse", lambda: [shard], config.sparse, tokenizer.fingerprint
        )
        sparse_seconds = time.process_time() - started
    shares_terms = isinstance(encoder, TermEncoder) and tokenizer is not None
    encode_seconds = 0.0
    if encoder is not None:
        encode_seconds = _time_encoder(encoder, store, shard if shares_terms else None)
    vocabulary_bytes = _bytes(p for name in _OF_TERMS for p in directory.glob(f"sparse/{name}*"))
    return Trial(
        chars=sum(len(document.text) for document in documents),
        passages=len(store),
        terms=len(terms),
        passage_bytes=_bytes(directory.glob("passages/*")),
        shard_bytes=_bytes([shard]),
        posting_bytes=_bytes(directory.glob("sparse/*")) - vocabulary_bytes,
        vocabulary_bytes=vocabulary_bytes,
        import_seconds=import_seconds,
        make_seconds=make_seconds,
        sparse_seconds=sparse_seconds,
        encode_seconds_per_passage=encode_seconds,
        dim=encoder.dim if encoder else 0,
        reads_passages=encoder is not None and not shares_terms,
        resident_bytes=resident_bytes() or _RESIDENT_BYTES,
        worker_bytes=worker_bytes,
    )


def _make_shard(job: ShardJob, settings: ShardSettings, *, in_worker: bool) -> tuple[float, int]:
    """CPU seconds, and the peak memory of the worker (0 without one)."""
    if in_worker:
        seconds, peak = time_a_worker(job, settings)
        return seconds, peak or _WORKER_BYTES
    maker = ShardMaker(settings)
    maker.warm_up()
    started = time.process_time()
    maker.make(job)
    return time.process_time() - started, 0


def _time_encoder(encoder: Encoder, store: PassageStore, shard: Path | None) -> float:
    """Seconds a passage, the first (slower) call not counted.

    An encoder of terms is given those of ``shard``, as in a build.
    """
    if isinstance(encoder, TermEncoder) and shard is not None:
        terms = read_terms(shard, "words")
        words = terms.vocabulary.decode()
        encoder.encode_numbered(words, terms.ids, terms.counts)
        started = time.perf_counter()
        encoder.encode_numbered(words, terms.ids, terms.counts)
        return (time.perf_counter() - started) / max(len(terms.counts), 1)
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
