"""Predicting what a build will take, from a small real build of some of the corpus's articles."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from odqa.build.components import create_encoder, create_tokenizer, legs_of
from odqa.build.indexing import check_corpus_config
from odqa.build.shards import SHARD_CHARS, SHARD_DOCUMENTS
from odqa.build.trial import Corpus, Trial, build_trial, look_at
from odqa.build.workers import n_workers
from odqa.config import Config
from odqa.processes import resident_bytes
from odqa.retrieval.storages import bytes_per_vector, check_enough, check_storage

# Measured with scripts/bench_plan.py on Korean Wikipedia.
_HELPERS_BYTES = 30_000_000  # of the processes that start and watch over the workers
_SHARD_BYTES = 4 * SHARD_CHARS  # of the documents of a shard on their way to a worker
_BYTES_PER_TERM = 450
_BYTES_PER_PASSAGE = 120
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
    build_disk_bytes: int  # at the peak of the build, the index included
    memory_bytes: int  # resident at the peak, all processes together, mapped files included
    processes: int


@dataclass(frozen=True, slots=True)
class Measured:
    """A corpus and a small build of it, from which any number of settings can be predicted.

    The settings may differ from those measured in ``dense.faiss``, may have fewer
    ``build.workers``, and may leave a leg out.
    """

    corpus: Corpus
    trial: Trial
    load_seconds: float  # until a build can begin
    encoder_bytes: int  # of memory, which an index without a dense leg does not need


def plan_build(source: Path | str, config: Config) -> BuildPlan:
    """Predict time, disk and peak memory of ``build_index(source, config=config)`` on this machine.

    Some hundred articles are split, tokenised, indexed and encoded for real in a temporary folder,
    and the figures scaled up. ``kowiki`` is not downloaded: its size is known roughly, and the
    bundled sample is measured in its place.

    Raises:
        InputError: the corpus is bad, as far as it was read.
        ConfigError: a setting is unknown or out of range.
    """
    return predict(measure(source, config), config)


def measure(source: Path | str, config: Config) -> Measured:
    """Look at a corpus and build some of it; raises as ``plan_build``."""
    legs = legs_of(config.retrieval.retriever)
    check_corpus_config(config.corpus)
    n_workers(config.build.workers)
    started = time.process_time()
    tokenizer = create_tokenizer(config.tokenizer.name) if "sparse" in legs else None
    before = resident_bytes() or 0
    encoder = create_encoder(config.dense) if "dense" in legs else None
    encoder_bytes = max(0, (resident_bytes() or 0) - before)
    if encoder is not None:
        check_storage(config.dense.faiss, encoder.dim)
    load_seconds = time.process_time() - started
    corpus = look_at(str(source))
    with tempfile.TemporaryDirectory(prefix="odqa-plan-") as directory:
        trial = build_trial(
            corpus.sample,
            Path(directory),
            config,
            tokenizer,
            encoder,
            in_worker=_processes(corpus, config) > 1,
        )
    return Measured(corpus, trial, load_seconds + trial.import_seconds, encoder_bytes)


def predict(measured: Measured, config: Config) -> BuildPlan:
    """Scale the figures of the small build up to the corpus.

    Raises:
        ConfigError: the passages are too few for ``dense.faiss``.
    """
    corpus, trial = measured.corpus, measured.trial
    scale = corpus.chars / max(trial.chars, 1)
    passages = round(trial.passages * scale)
    processes = _processes(corpus, config)
    # Reading goes on in one process while the others split and tokenise.
    tokenise_seconds = max(
        trial.make_seconds * scale / processes + corpus.read_seconds / processes,
        corpus.read_seconds,
    )
    sizes = _sizes(measured, config, passages)
    encode_seconds = trial.encode_seconds_per_passage * passages if sizes.vectors else 0
    sparse_seconds = sizes.sparse * trial.sparse_seconds * scale
    # Another process indexes the terms while this one encodes.
    legs_seconds = (
        max(sparse_seconds, encode_seconds) if processes > 1 else sparse_seconds + encode_seconds
    )
    return BuildPlan(
        documents=round(corpus.documents),
        passages=passages,
        exact=corpus.exact,
        seconds=round(measured.load_seconds + tokenise_seconds + legs_seconds),
        tokenise_seconds=round(tokenise_seconds),
        encode_seconds=round(encode_seconds),
        disk_bytes=round(sizes.index),
        build_disk_bytes=round(sizes.build_peak(processes)),
        memory_bytes=round(_memory(measured, sizes, passages, processes)),
        processes=processes,
    )


def _processes(corpus: Corpus, config: Config) -> int:
    several_shards = corpus.documents > SHARD_DOCUMENTS or corpus.chars > SHARD_CHARS
    return n_workers(config.build.workers) if several_shards else 1


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Bytes of the parts of a build."""

    shards: float
    passages: float
    postings: float
    vocabulary: float
    vectors: float  # as they are encoded, 4 bytes a number
    stored_vectors: float
    terms: float  # a number, not bytes
    sparse: int  # 1 with a sparse leg, else 0

    @property
    def index(self) -> float:
        return self.passages + self.postings + self.vocabulary + self.stored_vectors

    def build_peak(self, processes: int) -> float:
        """Shards and vectors are thrown away at the end; postings are spooled at 12 bytes for 8.

        Several processes may hold both at once.
        """
        spool = 1.5 * self.postings
        if processes > 1:
            return self.shards + self.index + self.vectors + spool
        spooling = self.index - self.stored_vectors + spool
        return self.shards + max(spooling, self.index + self.vectors)


def _sizes(measured: Measured, config: Config, passages: int) -> _Sizes:
    trial, legs = measured.trial, legs_of(config.retrieval.retriever)
    scale = measured.corpus.chars / max(trial.chars, 1)
    dim = trial.dim if "dense" in legs else 0
    sparse = 1 if "sparse" in legs else 0
    if dim:
        check_enough(config.dense.faiss, dim, passages)
    stored = bytes_per_vector(config.dense.faiss, passages, dim) if dim else 0
    return _Sizes(
        shards=trial.shard_bytes * scale,
        passages=trial.passage_bytes * scale,
        postings=sparse * trial.posting_bytes * scale,
        vocabulary=sparse * trial.vocabulary_bytes * scale**_HEAPS,
        vectors=4 * dim * passages,
        stored_vectors=stored * passages,
        terms=sparse * trial.terms * scale**_HEAPS,
        sparse=sparse,
    )


def _memory(measured: Measured, sizes: _Sizes, passages: int, processes: int) -> float:
    """Peak memory: that of the hungriest of the stages.

    They follow one another, but that terms are indexed beside the encoding by another process where
    there are several.

    Postings and encoded vectors are mapped files: resident, though the system can take them back.
    FAISS grows its list of vectors by copying it.
    """
    trial = measured.trial
    workers = trial.worker_bytes * processes + _HELPERS_BYTES + _SHARD_BYTES * (processes + 2)
    shards = workers if processes > 1 else _SHARD_BYTES
    terms = sizes.terms * _BYTES_PER_TERM + passages * _BYTES_PER_PASSAGE + sizes.postings
    vectors = sizes.vectors + max(
        sizes.passages if trial.reads_passages else 0, 2 * sizes.stored_vectors
    )
    beside = _HELPERS_BYTES if sizes.sparse else 0
    legs = terms + beside + vectors if processes > 1 else max(terms, vectors)
    unused = 0 if sizes.vectors else measured.encoder_bytes
    return trial.resident_bytes - unused + max(shards, legs)
