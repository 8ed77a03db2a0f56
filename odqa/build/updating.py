"""Bringing an index up to date with a newer state of its corpus, at the cost of what has changed.

An article is unchanged if it has the digest (id, title, text, metadata) that the index recorded.
The passages, terms, vectors and duplicate keys of unchanged articles are taken over; only the
others are split, tokenised and encoded. Statistics that depend on all passages (document
frequencies, mean length, groups of duplicates) are computed anew, so a search gives what it would
give over an index that was built of the new corpus from scratch. Vectors that FAISS stores
compressed keep the codes, and the quantiser, that they have.

The new index is put together in the work folder of its name and takes the place of the old one in
one step; until then the old one is used.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from odqa.build.components import configured_as_built, retriever_of
from odqa.build.dense_leg import DENSE, read_vectors
from odqa.build.duplicates import SIGNATURE, DuplicateKeys
from odqa.build.indexing import IndexBuild, Progress, no_progress
from odqa.build.kept import Kept
from odqa.build.recipe import prepare
from odqa.build.shards import SHARD_DOCUMENTS
from odqa.build.sparse_leg import SPARSE, StoredTerms
from odqa.config import Config, merge
from odqa.corpus import read_documents
from odqa.corpus.passages import SPLITTER
from odqa.errors import IndexNotUsableError
from odqa.store import (
    MANIFEST_NAME,
    RECIPE_NAME,
    Manifest,
    PassageBlock,
    PassageStore,
    WorkDirectory,
    document_digest,
    parse_manifest,
    read_manifest,
    read_recipe,
    remove,
    write_json,
)
from odqa.types import Document

UPDATE_OF = "update_of"  # in the recipe of an unfinished update: the old manifest's checksum
_KEPT, _CHANGES = "kept.npy", "changes.json"


@dataclass(frozen=True, slots=True)
class Changes:
    """How many articles an update finds different, and how many not."""

    added: int
    changed: int
    removed: int
    unchanged: int

    @property
    def any(self) -> bool:
        """Is there anything to do?"""
        return bool(self.added or self.changed or self.removed)


def update_index(
    index_dir: Path,
    source: Path | str,
    config: Config,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Changes:
    """Make the index in ``index_dir`` what a build of ``source`` with its settings would be.

    Killed at any moment, the old index is as it was, and the same call goes on.

    Args:
        index_dir: a finished index.
        source: the new state of the corpus, all of it, as ``odqa.corpus.read_documents`` takes it.
        config: how it is run (workers, device, ...); what the index was built with is recorded.
        dry_run: only say what would change.
        progress: told how far each stage is.

    Raises:
        IndexNotUsableError: the index is damaged, or was made by another tokenizer, encoder or
            version of the program; or another process is building it.
        InputError: the corpus is bad.
        UsageError: another unfinished build of this index is in the way.
    """
    index_dir = index_dir.resolve()  # "." has no name, and is another folder once it is replaced
    manifest = read_manifest(index_dir)
    update = IndexUpdate(index_dir, manifest, str(source), config, progress or no_progress)
    if dry_run:
        return update.scan()
    with WorkDirectory(index_dir.parent, index_dir.name) as work:
        if not update.is_complete(work.path):
            update.take_up(work.path)
            # what a killed update left is no more than a cache of another state of the corpus
            left = (work.path / _CHANGES).exists() or UPDATE_OF in read_recipe(work.path)
            prepare(work, update.mark, resume=True, force=left)
            try:
                update.run(work.path)
            except BaseException:
                if not (work.path / _CHANGES).exists():  # nothing that a resume could use
                    work.clear()
                raise
        changes = update.changes(work.path)
        if not changes.any:
            work.clear()
            return changes
        update.tidy(work.path)
        work.publish()
    return changes


class IndexUpdate(IndexBuild):
    """A build whose first passages are those of another index."""

    _learns_storage = False

    def __init__(
        self, index_dir: Path, manifest: Manifest, source: str, config: Config, progress: Progress
    ) -> None:
        configured_as_built(config, manifest, index_dir)  # refuses what contradicts it
        as_built = {**manifest.config, "retrieval": {"retriever": retriever_of(manifest.legs)}}
        config = merge(config, as_built, where=str(index_dir))
        super().__init__(source, config, progress)
        self._index = index_dir
        self._store = PassageStore.open(index_dir / "passages")
        self._check(manifest)
        self.mark = {**self.recipe, UPDATE_OF: manifest.checksum}

    def _check(self, manifest: Manifest) -> None:
        for what in ("tokenizer", "encoder"):
            if getattr(manifest, what) != self.recipe[what]:
                raise IndexNotUsableError(
                    f"{self._index}: the index was made with {what} {getattr(manifest, what)!r}, "
                    f"here it is {self.recipe[what]!r}; build it again with --force"
                )
        if manifest.recipe.get("splitter") != SPLITTER:
            raise IndexNotUsableError(
                f"{self._index}: another version of the program split its articles into passages; "
                "build it again with --force"
            )
        keys = manifest.duplicates
        if keys is not None and keys["signature"] != SIGNATURE:
            raise IndexNotUsableError(
                f"{self._index}: its near duplicates were found by {keys['signature']}, this "
                f"version has {SIGNATURE}; build it again with --force"
            )

    def is_complete(self, directory: Path) -> bool:
        """Was an update killed when all that was left to do was to publish its index?"""
        return (directory / MANIFEST_NAME).exists() and read_recipe(directory) == self.recipe

    def take_up(self, directory: Path) -> None:
        """Mark an update that was killed while its manifest was written as one again."""
        if (directory / _CHANGES).exists() and read_recipe(directory) == self.recipe:
            write_json(directory / RECIPE_NAME, self.mark)

    def run(self, directory: Path) -> None:
        """Do whatever is not done yet; nothing but the changes' record where there are none."""
        self._make_shards(directory)
        if not self.changes(directory).any:
            return
        self.write_parts(directory)
        write_json(directory / RECIPE_NAME, self.recipe)
        self.write_manifest(directory)

    def tidy(self, directory: Path) -> None:
        """Leave nothing but the index."""
        self.remove_leftovers(directory)
        remove(directory / _KEPT)
        remove(directory / _CHANGES)

    def manifest(self, directory: Path) -> Manifest:
        """As that of a build, with what the update has changed."""
        manifest = super().manifest(directory)
        update = dataclasses.asdict(self.changes(directory))
        return dataclasses.replace(manifest, build={**manifest.build, "update": update})

    def scan(self) -> Changes:
        """Read the corpus and compare it with the index."""
        scan = _Scan(self._store)
        for number, _ in enumerate(scan.changed(self._read()), start=1):
            self._progress("changed articles", number, None)
        return scan.changes

    def changes(self, directory: Path) -> Changes:
        """What the scan found."""
        if (directory / MANIFEST_NAME).exists():
            return Changes(**parse_manifest(directory).build["update"])
        return Changes(**json.loads((directory / _CHANGES).read_text(encoding="utf-8")))

    def _read(self) -> Iterator[Document]:
        for number, document in enumerate(read_documents(self._source, workers=self._workers)):
            if number % 1_000 == 0:
                self._progress("read articles", number, None)
            yield document

    def _documents(self, directory: Path) -> Iterator[Document]:
        scan = _Scan(self._store)
        yield from scan.changed(self._read())
        with (directory / f"{_KEPT}.part").open("wb") as file:
            np.save(file, scan.kept)
        (directory / f"{_KEPT}.part").rename(directory / _KEPT)
        write_json(directory / _CHANGES, dataclasses.asdict(scan.changes))

    @functools.cache  # noqa: B019  # an update is one run
    def _kept(self, directory: Path) -> Kept:
        kept = np.load(directory / _KEPT, allow_pickle=False)
        return Kept(self._index, self._store, kept)

    def _passage_blocks(self, directory: Path) -> Iterator[PassageBlock]:
        kept = self._kept(directory)
        done = 0
        for block in kept.blocks():
            yield block
            done += len(block.passage_counts)
            self._progress("take over passages", done, kept.n_documents)
        yield from super()._passage_blocks(directory)

    def _duplicate_keys(self, directory: Path) -> Iterator[DuplicateKeys]:
        yield self._kept(directory).duplicate_keys()
        yield from super()._duplicate_keys(directory)

    def _stored_terms(self, directory: Path) -> StoredTerms:
        return StoredTerms(self._index / SPARSE, self._kept(directory).new_rows)

    def _is_large(self, directory: Path) -> bool:
        return super()._is_large(directory) or self._kept(directory).n_documents > SHARD_DOCUMENTS

    def _first_new_row(self, directory: Path) -> int:
        return self._kept(directory).n_passages

    def _write_dense(self, directory: Path, part: Path) -> None:
        from odqa.retrieval.dense import update_dense

        update_dense(
            part,
            self._index / DENSE,
            self._kept(directory).new_rows,
            read_vectors(directory),
        )


class _Scan:
    """Compares documents with those of an index."""

    def __init__(self, store: PassageStore) -> None:
        self._store = store
        self._rows = {digest.tobytes(): row for row, digest in enumerate(store.digests)}
        self.kept = np.zeros(store.n_documents, dtype=np.bool_)
        self._added = self._changed = 0

    def changed(self, documents: Iterator[Document]) -> Iterator[Document]:
        """The documents that are new or not as they were."""
        for document in documents:
            row = self._rows.get(document_digest(document))
            if row is not None:
                self.kept[row] = True
                continue
            if self._store.has_document(document.doc_id):
                self._changed += 1
            else:
                self._added += 1
            yield document

    @property
    def changes(self) -> Changes:
        """The counts, once all documents have been seen."""
        unchanged = int(np.count_nonzero(self.kept))
        removed = len(self.kept) - unchanged - self._changed
        return Changes(self._added, self._changed, removed, unchanged)
