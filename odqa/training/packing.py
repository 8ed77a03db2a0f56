"""A corpus in pieces, packed into sequences of one length: on disk, read through a memory map."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import logging
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from odqa.config import CorpusConfig
from odqa.corpus import split_passages
from odqa.errors import OdqaError
from odqa.models.cut_tokenizer import CutTokenizer
from odqa.training.masking import Flags, Ints, morpheme_starts
from odqa.types import Document

logger = logging.getLogger(__name__)

_META = "meta.json"
_TEXTS_AT_ONCE = 512
_LOOKS = 0.5  # seconds between looks for what another process writes


@dataclass(frozen=True, slots=True)
class PackedText:
    """Sequences of pieces: number n is ``ids[bounds[n]:bounds[n + 1]]``."""

    ids: npt.NDArray[np.int32]  # (pieces,)
    starts: Flags  # (pieces,) whether each begins a morpheme
    bounds: npt.NDArray[np.int64]  # (sequences + 1,)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, row: int) -> tuple[Ints, Flags]:
        inside = slice(int(self.bounds[row]), int(self.bounds[row + 1]))
        return np.asarray(self.ids[inside]), np.asarray(self.starts[inside])


@dataclass(frozen=True, slots=True)
class PackedCorpus:
    """What is learnt from and what is held out."""

    train: PackedText
    held_out: PackedText
    n_articles: int
    n_held_out_articles: int
    digest: str  # of all pieces: 16 hexadecimal digits


@dataclass(frozen=True, slots=True)
class Packing:
    """How a corpus becomes sequences."""

    room: int  # pieces of a sequence at most, those around it not counted
    separator: tuple[int, ...]  # between two articles
    held_out: float  # share of the articles
    every: int  # each n-th article is taken


def packed_corpus(
    documents: Iterable[Document],
    tokenizer: CutTokenizer,
    packing: Packing,
    folder: Path,
    *,
    key: dict[str, Any],
    writes: bool,
) -> PackedCorpus:
    """The corpus in pieces, from ``folder`` where it is there already.

    Args:
        documents: read once, if at all.
        tokenizer: cuts them.
        packing: how.
        folder: where it is kept; it gets its name once it is whole.
        key: what the documents and the tokenizer are: another key is another corpus.
        writes: False for a process that waits until another one has written it.

    Raises:
        OdqaError: no text to learn from.
    """
    wanted = json.loads(json.dumps(key | dataclasses.asdict(packing)))
    while (meta := _meta(folder)) is None or meta["key"] != wanted:
        if writes:
            _write(documents, tokenizer, packing, folder, wanted)
        else:
            time.sleep(_LOOKS)
    parts = {name: _open(folder, name) for name in ("train", "held_out")}
    if not len(parts["train"]):
        raise OdqaError("the corpus has no text to learn from beside what is held out")
    return PackedCorpus(
        parts["train"],
        parts["held_out"],
        meta["n_articles"],
        meta["n_held_out_articles"],
        meta["digest"],
    )


def is_held_out(doc_id: str, share: float) -> bool:
    """Whether an article is held out: by its id alone, so always the same ones."""
    digest = hashlib.blake2b(doc_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def _meta(folder: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((folder / _META).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found


def _write(
    documents: Iterable[Document],
    tokenizer: CutTokenizer,
    packing: Packing,
    folder: Path,
    key: dict[str, Any],
) -> None:
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with _Writer(part, "train", packing) as train, _Writer(part, "held_out", packing) as held_out:
        for document, passages in _in_pieces(documents, tokenizer, packing.every):
            held = is_held_out(document.doc_id, packing.held_out)
            (held_out if held else train).add(passages)
        meta = {
            "key": key,
            "n_articles": train.n_articles,
            "n_held_out_articles": held_out.n_articles,
        }
    meta["digest"] = train.digest.hexdigest() + held_out.digest.hexdigest()
    (part / _META).write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def _in_pieces(
    documents: Iterable[Document], tokenizer: CutTokenizer, every: int
) -> Iterator[tuple[Document, list[tuple[Ints, Flags]]]]:
    """Each article with the pieces of its passages, in order."""
    taken = itertools.islice(documents, 0, None, every)
    cut = ((document, split_passages(document, CorpusConfig())) for document in taken)
    n_done = 0
    for group in _grouped(cut):
        texts = [passage.text for _, passages in group for passage in passages]
        pieces = zip(texts, tokenizer.encode(texts), strict=True)
        for document, passages in group:
            found = itertools.islice(pieces, len(passages))
            yield document, [(p.ids, morpheme_starts(text, p)) for text, p in found]
        n_done += len(group)
        logger.info("%d articles in pieces", n_done)


def _grouped(
    items: Iterable[tuple[Document, list[Any]]],
) -> Iterator[list[tuple[Document, list[Any]]]]:
    """Articles whose passages are together some ``_TEXTS_AT_ONCE``."""
    group: list[tuple[Document, list[Any]]] = []
    n = 0
    for item in items:
        group.append(item)
        n += len(item[1])
        if n >= _TEXTS_AT_ONCE:
            yield group
            group, n = [], 0
    if group:
        yield group


class _Writer:
    """Appends articles to the files of one part, cutting their pieces into sequences."""

    def __init__(self, folder: Path, name: str, packing: Packing) -> None:
        self._ids = (folder / f"{name}.ids").open("wb")
        self._starts = (folder / f"{name}.starts").open("wb")
        self._bounds_path = folder / f"{name}.bounds.npy"
        self._bounds = [0]
        self._packing = packing
        self._left: tuple[Ints, Flags] = (np.zeros(0, np.int32), np.zeros(0, bool))
        self.digest = hashlib.blake2b(digest_size=4)
        self.n_articles = 0

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._put(*self._left)
        self._ids.close()
        self._starts.close()
        np.save(self._bounds_path, np.array(self._bounds, np.int64), allow_pickle=False)

    def add(self, passages: Sequence[tuple[Ints, Flags]]) -> None:
        """An article's passages follow each other; a separator comes before the next article."""
        if not any(len(ids) for ids, _ in passages):
            return
        self.n_articles += 1
        separator = np.array(self._packing.separator, np.int32)
        between = [(separator, np.ones(len(separator), bool))] if len(self._left[0]) else []
        parts = [self._left, *between, *passages]
        ids = np.concatenate([ids for ids, _ in parts])
        starts = np.concatenate([starts for _, starts in parts])
        begin, room = 0, self._packing.room
        while len(ids) - begin > room:
            end = begin + room
            # a morpheme is not cut in two, unless it is a sequence long
            possible = np.flatnonzero(starts[begin + 1 : end + 1])
            end = begin + 1 + int(possible[-1]) if len(possible) else end
            self._put(ids[begin:end], starts[begin:end])
            begin = end
        self._left = (ids[begin:], starts[begin:])

    def _put(self, ids: Ints, starts: Flags) -> None:
        if len(ids):
            raw = ids.astype(np.int32).tobytes()
            self.digest.update(len(ids).to_bytes(4, "big") + raw)
            self._ids.write(raw)
            self._starts.write(starts.tobytes())
            self._bounds.append(self._bounds[-1] + len(ids))


def _open(folder: Path, name: str) -> PackedText:
    bounds = np.load(folder / f"{name}.bounds.npy", allow_pickle=False)
    if len(bounds) == 1:  # an empty file cannot be mapped
        return PackedText(np.zeros(0, np.int32), np.zeros(0, bool), bounds)
    return PackedText(
        np.memmap(folder / f"{name}.ids", np.int32, mode="r"),
        np.memmap(folder / f"{name}.starts", np.bool_, mode="r"),
        bounds,
    )
