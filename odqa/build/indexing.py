"""Building an index: shards, passages, duplicates, the sparse and the dense leg, the manifest.

Every stage ends in a rename, and what has been renamed is never written again. So a build that was
killed, at any moment, goes on with the stage, the shard or the block of vectors it was at, and ends
in the same bytes as one that was left alone.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeGuard

from odqa import __version__
from odqa.build.components import create_encoder, create_tokenizer, index_config, legs_of
from odqa.build.dense_leg import (
    DENSE,
    VECTORS,
    VECTORS_DONE,
    blocks_of_passages,
    blocks_of_terms,
    probes,
    read_vectors,
    write_vectors,
)
from odqa.build.duplicates import (
    SIGNATURE,
    DuplicateKeys,
    check_duplicates_config,
    write_duplicates,
)
from odqa.build.recipe import (
    SHARDS,
    SHARDS_DONE,
    SourceChangedError,
    existing_index,
    prepare,
    refuse_to_replace_what_is_no_index,
    source_changed,
    source_state,
    start_anew,
)
from odqa.build.shards import (
    ShardJob,
    read_duplicate_keys,
    read_passages,
    shard_digest,
    shard_jobs,
    stored_shard_jobs,
)
from odqa.build.sparse_leg import SPARSE, StoredTerms, index_terms, write_sparse_leg
from odqa.build.stages import stage
from odqa.build.workers import ShardSettings, make_shards, n_workers
from odqa.config import Config, CorpusConfig
from odqa.corpus import corpus_name, read_documents
from odqa.corpus.passages import SPLITTER
from odqa.corpus.sources import KOWIKI, SAMPLE
from odqa.errors import ConfigError, InputError
from odqa.processes import worker_pool
from odqa.protocols import Encoder, TermEncoder, Tokenizer, Vectors
from odqa.store import (
    FORMAT,
    MANIFEST_NAME,
    RECIPE_NAME,
    Manifest,
    PassageBlock,
    PassageStore,
    PassageWriter,
    WorkDirectory,
    remove,
    write_json,
    write_manifest,
)
from odqa.store.duplicates import DUPLICATES, count_groups, open_groups
from odqa.types import Document

Progress = Callable[[str, int, int | None], None]
"""Called with the stage, how much of it is done, and how much there is, if that is known."""


def build_index(
    source: Path | str,
    *,
    name: str | None = None,
    indexes_dir: Path | str,
    config: Config,
    resume: bool = True,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Build an index and publish it as ``indexes_dir/name``; returns that path.

    More than some thousand articles are split and tokenised by several processes: a script that
    calls this needs the usual ``if __name__ == "__main__":`` around its doings.

    Args:
        source: a corpus as ``odqa.corpus.read_documents`` takes it.
        name: of the index; default: the corpus's.
        indexes_dir: made if absent.
        config: what to build. ``retrieval.retriever`` says which legs.
        resume: go on with an unfinished build of this name.
        force: replace a finished index of this name, and throw away an unfinished build that was
            begun otherwise. The old index stays in use until the new one is complete.
        progress: told how far each stage is.

    Raises:
        UsageError: an index or an unfinished build of this name is in the way.
        InputError: the corpus is bad.
        ConfigError: a setting is unknown or out of range.
        IndexNotUsableError: another process is building the same index.
    """
    build = IndexBuild(str(source), config, progress or no_progress)
    with WorkDirectory(Path(indexes_dir), name or corpus_name(source)) as work:
        refuse_to_replace_what_is_no_index(work.final_path)
        if not force and work.final_path.exists() and any(work.final_path.iterdir()):
            return existing_index(work, build.recipe)
        prepare(work, build.recipe, resume=resume, force=force)
        try:
            build.run(work.path)
        except SourceChangedError:
            if not force:
                raise
            start_anew(work, build.recipe)
            build.run(work.path)
        except BaseException:
            if not any(work.path.glob(f"{SHARDS}/*.npz")):  # nothing that a resume could use
                work.clear()
            raise
        return work.publish()


class IndexBuild:
    """One run of ``build_index``: the components, and the stages in their order."""

    _learns_storage = True  # rather than take it over from another index

    def __init__(self, source: str, config: Config, progress: Progress) -> None:
        """Everything that could be wrong with the configuration is found here, before any work."""
        self._started = time.monotonic()
        self._source = source
        self._config = config
        self._progress = progress
        self._legs = legs_of(config.retrieval.retriever)
        check_corpus_config(config.corpus)
        self._workers = n_workers(config.build.workers)
        check_duplicates_config(config.duplicates)
        self._tokenizer: Tokenizer | None = None
        self._encoder: Encoder | None = None
        if "sparse" in self._legs:
            from odqa.retrieval.bm25 import check_sparse_config

            check_sparse_config(config.sparse)
            self._tokenizer = create_tokenizer(config.tokenizer.name)
        if "dense" in self._legs:
            from odqa.retrieval.storages import check_storage

            self._encoder = create_encoder(config.dense)
            check_storage(config.dense.faiss, self._encoder.dim)
        self.recipe = self._recipe()

    def _recipe(self) -> dict[str, Any]:
        """Everything that the bytes of the index depend on."""
        path = None if self._source in (SAMPLE, KOWIKI) else Path(self._source)
        return {
            "source": str(path.resolve()) if path and path.exists() else self._source,
            "source_state": source_state(path) if path else {},
            "odqa": __version__,
            "format": FORMAT,
            "splitter": SPLITTER,
            "legs": list(self._legs),
            "config": index_config(self._config, self._legs),
            "tokenizer": self._tokenizer.fingerprint if self._tokenizer else None,
            "encoder": self._encoder.fingerprint if self._encoder else None,
            "duplicates": SIGNATURE if self._config.duplicates.enabled else None,
        }

    def run(self, directory: Path) -> None:
        """Do whatever is not done yet, and leave in ``directory`` the index and nothing else."""
        if not (directory / MANIFEST_NAME).exists():
            self.write_parts(directory)
            self.write_manifest(directory)
        self.remove_leftovers(directory)

    def write_parts(self, directory: Path) -> None:
        """Write whatever is missing of passages, duplicates and legs."""
        self.make_missing_shards(directory)
        with self._terms_indexed_beside(directory) as wait:
            self.store_passages(directory)
            self.index_vectors(directory)
            wait()
        self.index_terms(directory)

    def write_manifest(self, directory: Path) -> None:
        """Record what the index is; with this it is complete."""
        self._progress("write checksums", 0, 1)
        write_manifest(directory, self.manifest(directory), self.entries)
        self._progress("write checksums", 1, 1)

    @property
    def entries(self) -> list[str]:
        """What is in the folder of the index beside its manifest."""
        duplicates = [DUPLICATES] if self._config.duplicates.enabled else []
        return [RECIPE_NAME, "passages", *duplicates, *self._legs]

    def make_missing_shards(self, directory: Path) -> None:
        """Make the shards that anything missing is made of."""
        passages = (directory / "passages").exists()
        if not passages or self._needs_keys(directory) or self._needs_terms(directory):
            self._make_shards(directory)

    def store_passages(self, directory: Path) -> None:
        """Read, split and (for the legs that are missing) tokenise the source; store passages."""
        if not (directory / "passages").exists():
            self._make_shards(directory)
            stage(directory, "passages", lambda part: self._write_passages(directory, part))

    def index_legs(self, directory: Path) -> None:
        """Write what is missing beside the passages: groups of duplicates, and the legs."""
        self.make_missing_shards(directory)
        self.index_terms(directory)
        self.index_vectors(directory)

    def index_terms(self, directory: Path) -> None:
        """Write the sparse leg, if there shall be one."""
        if self._tokenizer is not None:
            stage(directory, SPARSE, lambda part: self._write_sparse(directory, part))

    def index_vectors(self, directory: Path) -> None:
        """Write the groups of duplicates and the dense leg, if there shall be any."""
        if self._config.duplicates.enabled:
            stage(directory, DUPLICATES, lambda part: self._write_duplicates(directory, part))
        if self._encoder is not None:
            store = PassageStore.open(directory / "passages")
            self._encode(directory, store, self._encoder)
            stage(directory, DENSE, lambda part: self._write_dense(directory, part))

    @contextlib.contextmanager
    def _terms_indexed_beside(self, directory: Path) -> Iterator[Callable[[], None]]:
        """Have another process write the sparse leg, where a large corpus leaves a core for it.

        Yields what waits for it.
        """
        missing = self._tokenizer is not None and not (directory / SPARSE).exists()
        if not missing or self._workers == 1 or not self._is_large(directory):
            yield lambda: None
            return
        with worker_pool(1, "indexing terms") as pool:
            leg = pool.submit(
                index_terms,
                directory,
                self._shard_paths(directory),
                self._config.sparse,
                self.recipe["tokenizer"],
                self._stored_terms(directory),
            )

            def wait() -> None:
                self._progress("index terms", 0, 1)
                leg.result()
                self._progress("index terms", 1, 1)

            yield wait

    def _is_large(self, directory: Path) -> bool:
        """Is there so much to index that starting a process is worth it?"""
        return len(self._shard_paths(directory)) > 1

    def remove_leftovers(self, directory: Path) -> None:
        """Remove what only the build needed."""
        for leftover in (SHARDS, SHARDS_DONE, VECTORS, VECTORS_DONE):
            remove(directory / leftover)

    def _needs_keys(self, directory: Path) -> bool:
        """Are the keys missing by which near-duplicate passages are found?"""
        return self._config.duplicates.enabled and not (directory / DUPLICATES).exists()

    def _needs_terms(self, directory: Path) -> bool:
        """Is a leg missing that is made from the terms in the shards?"""
        missing = [leg for leg in self._legs if not (directory / leg).exists()]
        shared = self._encoder is not None and self._shares_terms(self._encoder)
        return "sparse" in missing or ("dense" in missing and shared)

    def _make_shards(self, directory: Path) -> None:
        """Make shards from the source or, where the passages are stored already, from those."""
        if (directory / SHARDS_DONE).exists():
            return
        shards = directory / SHARDS
        shards.mkdir(exist_ok=True)
        for part in shards.glob(".*.part"):
            part.unlink()
        done = 0
        if (directory / "passages").exists():
            jobs = stored_shard_jobs(PassageStore.open(directory / "passages"), shards)
        else:
            jobs = shard_jobs(self._documents(directory), shards)
        count = _Counter(jobs, self._source)
        settings = ShardSettings(
            self._config.corpus,
            self._config.tokenizer if self._needs_terms(directory) else None,
            self._config.sparse.title_weight,
            self._needs_keys(directory),
        )
        for n_documents in make_shards(count.missing(), settings, self._workers):
            done += n_documents
            self._progress("split and tokenise", done + count.skipped_documents, None)
        if len(list(shards.glob("*.npz"))) != count.jobs:  # the source has become shorter
            raise source_changed(self._source)
        write_json(directory / SHARDS_DONE, {"shards": count.jobs})

    def _documents(self, directory: Path) -> Iterator[Document]:
        """The documents that shards are made of."""
        return iter(read_documents(self._source, workers=self._workers))

    def _shards(self, directory: Path, stage: str) -> Iterator[Path]:
        paths = self._shard_paths(directory)
        for number, path in enumerate(paths):
            yield path
            self._progress(stage, number + 1, len(paths))

    def _shard_paths(self, directory: Path) -> list[Path]:
        n_shards = json.loads((directory / SHARDS_DONE).read_text(encoding="utf-8"))["shards"]
        return [directory / SHARDS / f"{number:06d}.npz" for number in range(n_shards)]

    def _write_passages(self, directory: Path, part: Path) -> None:
        with PassageWriter(part) as writer:
            for block in self._passage_blocks(directory):
                writer.append(block)
        if len(PassageStore.open(part)) == 0:
            raise InputError(
                "no article holds any text, so there is nothing to index", path=self._source
            )

    def _passage_blocks(self, directory: Path) -> Iterator[PassageBlock]:
        for path in self._shards(directory, "store passages"):
            yield read_passages(path)

    def _duplicate_keys(self, directory: Path) -> Iterator[DuplicateKeys]:
        return map(read_duplicate_keys, self._shard_paths(directory))

    def _write_duplicates(self, directory: Path, part: Path) -> None:
        write_duplicates(
            part,
            DuplicateKeys.joined(self._duplicate_keys(directory)),
            PassageStore.open(directory / "passages"),
            self._config.duplicates,
            lambda done, total: self._progress("compare duplicates", done, total),
        )

    def _write_sparse(self, directory: Path, part: Path) -> None:
        if self._tokenizer is None:
            raise RuntimeError("an index without a sparse leg has no terms")
        stages = iter(("collect terms", "index terms"))
        write_sparse_leg(
            part,
            lambda: self._shards(directory, next(stages)),
            self._config.sparse,
            self._tokenizer.fingerprint,
            self._stored_terms(directory),
        )

    def _stored_terms(self, directory: Path) -> StoredTerms | None:
        """The sparse leg that the passages before the shards' are taken from; None without one."""
        return None

    def _encode(self, directory: Path, store: PassageStore, encoder: Encoder) -> None:
        """The vectors of the passages in one file."""
        if (directory / DENSE).exists():
            return
        from odqa.retrieval.storages import check_enough

        first_row = self._first_new_row(directory)
        if self._learns_storage:
            check_enough(self._config.dense.faiss, encoder.dim, len(store))
        write_vectors(
            directory,
            (len(store) - first_row, encoder.dim),
            lambda done: self._vector_blocks(directory, store, encoder, done),
            lambda done, total: self._progress("encode passages", done, total),
        )

    def _first_new_row(self, directory: Path) -> int:
        """The row of the first passage whose vector is to be computed."""
        return 0

    def _vector_blocks(
        self, directory: Path, store: PassageStore, encoder: Encoder, done: int
    ) -> Iterator[tuple[int, Vectors]]:
        """(place, vectors) of the blocks from the vector ``done`` on.

        An encoder over the very terms that the shards hold takes them from there; any other is
        given the passages.
        """
        if self._shares_terms(encoder):
            return blocks_of_terms(self._shard_paths(directory), encoder, done)
        return blocks_of_passages(store, encoder, self._first_new_row(directory), done)

    def _shares_terms(self, encoder: Encoder) -> TypeGuard[TermEncoder]:
        return (
            isinstance(encoder, TermEncoder)
            and self._tokenizer is not None
            and encoder.terms_fingerprint == self._tokenizer.fingerprint
            and encoder.title_weight == self._config.sparse.title_weight
        )

    def _write_dense(self, directory: Path, part: Path) -> None:
        from odqa.retrieval.dense import write_dense

        if self._encoder is None:
            raise RuntimeError("an index without a dense leg has no vectors")
        vectors = read_vectors(directory)
        self._progress("index vectors", 0, len(vectors))
        write_dense(
            part,
            vectors,
            self._config.dense,
            encoder_fingerprint=self._encoder.fingerprint,
            probes=self._encoder.encode_questions(
                probes(PassageStore.open(directory / "passages"))
            ),
        )
        self._progress("index vectors", len(vectors), len(vectors))

    def manifest(self, directory: Path) -> Manifest:
        """The manifest of the index in ``directory``, without the checksums of its files."""
        n_terms = 0
        if self._tokenizer is not None:
            from odqa.retrieval.vocabulary import MappedVocabulary

            n_terms = len(MappedVocabulary(directory / "sparse"))
        dense = None
        if self._encoder is not None:
            from odqa.retrieval.dense import recall_of

            dense = recall_of(directory / "dense")
        store = PassageStore.open(directory / "passages")
        groups = open_groups(directory, len(store))
        return Manifest(
            odqa=__version__,
            corpus=corpus_name(self._source),
            documents=store.n_documents,
            passages=len(store),
            terms=n_terms,
            legs=self._legs,
            config=self.recipe["config"],
            tokenizer=self.recipe["tokenizer"],
            encoder=self.recipe["encoder"],
            recipe=self.recipe,
            dense=dense,
            duplicates=None if groups is None else {"signature": SIGNATURE, **count_groups(groups)},
            build={
                "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "seconds": round(time.monotonic() - self._started, 1),  # of the last run
            },
        )


class _Counter:
    """Counts jobs and passes on those whose shard is missing."""

    def __init__(self, jobs: Iterator[ShardJob], source: str) -> None:
        self._jobs = jobs
        self._source = source
        self.jobs = 0
        self.skipped_documents = 0

    def missing(self) -> Iterator[ShardJob]:
        for job in self._jobs:
            self.jobs += 1
            if not job.path.exists():
                yield job
            elif shard_digest(job.path) == job.digest:
                self.skipped_documents += len(job.documents)
            else:
                raise source_changed(self._source)


def check_corpus_config(config: CorpusConfig) -> None:
    """Refuse lengths that make no passages.

    Raises:
        ConfigError: naming the key and what is allowed.
    """
    if config.passage_chars < 20:
        raise ConfigError(f"corpus.passage_chars must be 20 or more, got {config.passage_chars}")
    if not 0 <= config.overlap_chars < config.passage_chars:
        raise ConfigError(
            f"corpus.overlap_chars must be at least 0 and less than corpus.passage_chars, got "
            f"{config.overlap_chars}"
        )


def no_progress(stage: str, done: int, total: int | None) -> None:
    """Tell nobody."""
