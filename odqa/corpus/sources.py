"""What a corpus's name or path means: the reader of each source format."""

from __future__ import annotations

import functools
import importlib.resources
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from odqa.corpus.huggingface import PREFIX, read_huggingface, split_name
from odqa.corpus.jsonl import read_jsonl
from odqa.corpus.korquad import read_korquad
from odqa.corpus.kowiki import download_kowiki
from odqa.corpus.opening import PACKED
from odqa.corpus.wikiextractor import read_wikiextractor, wikiextractor_files
from odqa.errors import InputError
from odqa.types import Document

Numbered = Iterator[tuple[int | None, Document]]

SAMPLE = "sample"
KOWIKI = "kowiki"
KNOWN_SOURCES = (
    "sample, kowiki, hf:DATASET[:CONFIG], a .jsonl file (also .gz, .bz2, .xz, .zst), a MediaWiki "
    "dump (.xml, .xml.bz2), KorQuAD or KLUE-MRC .json, or a folder of WikiExtractor output"
)


def read_documents(source: str | Path, *, workers: int = 0) -> Iterator[Document]:
    """The documents of a corpus, in its order, in NFC.

    A large dump's wikitext is parsed by ``workers`` processes (0: one for each usable core).

    Raises:
        InputError: the source is missing, of an unknown kind, damaged, empty, or holds a bad
            record or the same id twice (the message names file, line and field).
        MissingDependencyError: the source needs a package that is not installed.
    """
    seen: set[str] = set()
    for path, numbered in _parts(source, workers):
        for line, document in numbered:
            if document.doc_id in seen:
                message = f"'{document.doc_id}' occurs a second time; ids must be unique"
                raise InputError(message, path=path, line=line, field="id")
            seen.add(document.doc_id)
            yield document
    if not seen:
        raise InputError("holds no article", path=source)


def corpus_name(source: str | Path) -> str:
    """The default name of an index of ``source``: its file's or folder's name without endings."""
    if str(source).startswith(PREFIX):
        dataset, config = split_name(str(source))
        name = dataset.rpartition("/")[2] + (f"-{config}" if config else "")
    elif _is_named(source):
        name = str(source)
    else:
        path = Path(source).resolve()
        name = path.name if path.is_dir() else _stem(path)
    return re.sub(r"[^\w.-]+", "-", name).strip(".-") or "corpus"


def _parts(source: str | Path, workers: int) -> Iterator[tuple[Path | str, Numbered]]:
    """(what errors shall name, its documents) of each file of the source."""
    if source == SAMPLE:
        sample = importlib.resources.files("odqa.sample") / "corpus.jsonl"
        with importlib.resources.as_file(sample) as path:
            yield path, read_jsonl(path)
    elif source == KOWIKI:
        path = download_kowiki()
        yield path, _read_dump(path, workers)
    elif str(source).startswith(PREFIX):
        yield str(source), read_huggingface(str(source))
    elif Path(source).is_dir():
        for path in wikiextractor_files(Path(source)):
            yield path, read_wikiextractor(path)
    else:
        yield source, _reader(Path(source), workers)(Path(source))


def _reader(path: Path, workers: int) -> Callable[[Path], Numbered]:
    """The reader for a file's ending."""
    if not path.exists():
        raise InputError(f"no such file. A corpus is {KNOWN_SOURCES}", path=path)
    kind = Path(_stem(path, kind=True)).suffix
    readers: dict[str, Callable[[Path], Numbered]] = {
        ".jsonl": read_jsonl,
        ".ndjson": read_jsonl,
        ".json": read_korquad,
        ".xml": functools.partial(_read_dump, workers=workers),
    }
    if kind not in readers:
        raise InputError(f"unknown kind of file. A corpus is {KNOWN_SOURCES}", path=path)
    return readers[kind]


def _read_dump(path: Path, workers: int) -> Numbered:
    from odqa.corpus.mediawiki import read_mediawiki  # mwparserfromhell takes a while to import

    return read_mediawiki(path, workers=workers)


def _stem(path: Path, *, kind: bool = False) -> str:
    """The file's name without its packing and (unless ``kind``) without its format's ending."""
    name = path.name.lower() if kind else path.name
    if name.lower().endswith(PACKED):
        name = name.rpartition(".")[0]
    return name if kind else re.sub(r"\.(jsonl|ndjson|json|xml)$", "", name, flags=re.IGNORECASE)


def _is_named(source: str | Path) -> bool:
    return source in (SAMPLE, KOWIKI)
