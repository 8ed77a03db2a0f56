"""A MediaWiki dump, ``*-pages-articles*.xml[.bz2]``, read as a stream."""

from __future__ import annotations

import contextlib
import itertools
import xml.etree.ElementTree as ElementTree
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import BinaryIO

from odqa.corpus.opening import open_source
from odqa.corpus.records import document_of
from odqa.corpus.wikitext import plain_text
from odqa.errors import InputError
from odqa.processes import n_cores, worker_pool
from odqa.types import Document

_Page = tuple[str, str, str]  # id, title, wikitext

_PAGES_A_TASK = 100
_PARALLEL_BYTES = 20_000_000  # of the packed dump: below, processes cost more than they save


def read_mediawiki(path: Path, *, workers: int = 0) -> Iterator[tuple[None, Document]]:
    """(None, document) of each article: no redirects, no other namespaces, its wikitext made plain.

    The document's id is the page's id (curid). A large dump's wikitext is parsed by ``workers``
    processes (0: one for each usable core); the order is the dump's all the same.

    Raises:
        InputError: the file is truncated, no XML or no MediaWiki dump.
    """
    pages = _pages(path)
    parallel = path.is_file() and path.stat().st_size >= _PARALLEL_BYTES
    plain = _plain_parallel(pages, workers or n_cores()) if parallel else _plain(pages)
    with contextlib.closing(plain):  # an error between two articles must end the processes too
        for page_id, title, text in plain:
            yield None, document_of({"id": page_id, "title": title, "text": text}, path=path)


def _plain(pages: Iterable[_Page]) -> Generator[_Page]:
    return ((page_id, title, plain_text(wikitext)) for page_id, title, wikitext in pages)


def _plain_batch(pages: list[_Page]) -> list[_Page]:
    return list(_plain(pages))


def _plain_parallel(pages: Iterator[_Page], workers: int) -> Generator[_Page]:
    """As ``_plain``, in order, by a pool of processes that is never far ahead of its reader."""
    with worker_pool(workers, "making wikitext plain") as pool:
        waiting: deque[Future[list[_Page]]] = deque()
        while batch := list(itertools.islice(pages, _PAGES_A_TASK)):
            waiting.append(pool.submit(_plain_batch, batch))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _pages(path: Path) -> Iterator[_Page]:
    """(id, title, wikitext) of each article; memory does not grow with the dump."""
    with open_source(path) as stream:
        events = _parsed(stream, path)
        try:
            _, root = next(events)
            if _local_name(root) != "mediawiki":
                raise InputError(
                    f"is no MediaWiki dump: its root is <{_local_name(root)}>", path=path
                )
            for event, element in events:
                if event == "end" and _local_name(element) == "page":
                    page = _article(element)
                    if page:
                        yield page
                    root.clear()
        except ElementTree.ParseError as error:
            line = error.position[0]
            raise InputError(f"is not valid XML ({error})", path=path, line=line) from error


def _parsed(stream: BinaryIO, path: Path) -> Iterator[tuple[str, ElementTree.Element]]:
    try:
        yield from ElementTree.iterparse(stream, events=("start", "end"))
    except (ValueError, LookupError) as error:  # an encoding that the parser does not know
        raise InputError(f"cannot be read ({error}); convert it to UTF-8", path=path) from error


def _article(page: ElementTree.Element) -> _Page | None:
    """(id, title, wikitext), or None for a redirect or a page that is no article."""
    values = {_local_name(child): child for child in page}
    namespace = values.get("ns")
    if "redirect" in values or (namespace is not None and namespace.text != "0"):
        return None
    revision = values.get("revision")
    texts = [] if revision is None else [c for c in revision if _local_name(c) == "text"]
    if not texts or "id" not in values or "title" not in values:
        return None
    return values["id"].text or "", values["title"].text or "", texts[0].text or ""


def _local_name(element: ElementTree.Element) -> str:
    """The tag without the export schema's namespace, whose version varies."""
    return element.tag.rpartition("}")[2]
