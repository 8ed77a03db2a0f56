"""The passages of an index on disk: written as a stream, read memory-mapped.

A folder of columns. Texts and headings have a row for each passage, in the order of the corpus;
ids, titles and metadata have a row for each document and are stored once for it. Every column is a
``.npy`` file or, for strings, a ``.bin`` file of UTF-8 with its offsets in a ``.npy`` file:

=====================  ============  ============================================================
texts, headings        passages      strings
spans.npy              (n, 2) int32  start and end in the document's text, in characters
documents.npy          (n,) int32    the row of the passage's document
doc_ids, titles        documents     strings
metadata               documents     strings: JSON, or empty
first_passages.npy     (m+1,) int32  the row of each document's first passage; at the end n
id_order.npy           (m,) int32    rows of the documents in the order of their ids
=====================  ============  ============================================================
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from odqa.errors import IndexNotUsableError, OdqaError
from odqa.store.strings import MappedStrings, Strings, StringsWriter, map_array
from odqa.types import Document, Passage

_PASSAGE_STRINGS = ("texts", "headings")
_DOCUMENT_STRINGS = ("doc_ids", "titles", "metadata")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PassageBlock:
    """The columns of some consecutive documents, ready to be appended to a store."""

    texts: Strings
    headings: Strings
    spans: npt.NDArray[np.int32]  # (passages, 2)
    doc_ids: Strings
    titles: Strings
    metadata: Strings
    passage_counts: npt.NDArray[np.int32]  # (documents,)

    @classmethod
    def encode(cls, documents: Iterable[tuple[Document, Sequence[Passage]]]) -> PassageBlock:
        """The columns of documents and their passages.

        Raises:
            ValueError: the passages of a document are not numbered ``DOC_ID#0``, ``DOC_ID#1``, ...
        """
        pairs = list(documents)
        for document, passages in pairs:
            for number, passage in enumerate(passages):
                if passage.passage_id != f"{document.doc_id}#{number}":
                    raise ValueError(f"{passage.passage_id!r} is not {document.doc_id}#{number}")
        flat = [passage for _, passages in pairs for passage in passages]
        spans = np.array([(passage.start, passage.end) for passage in flat], dtype=np.int32)
        return cls(
            texts=Strings.encode(passage.text for passage in flat),
            headings=Strings.encode(passage.heading for passage in flat),
            spans=spans.reshape(-1, 2),
            doc_ids=Strings.encode(document.doc_id for document, _ in pairs),
            titles=Strings.encode(document.title for document, _ in pairs),
            metadata=Strings.encode(_json(document.metadata) for document, _ in pairs),
            passage_counts=np.array([len(passages) for _, passages in pairs], dtype=np.int32),
        )


class PassageWriter:
    """Writes a passage store into a folder. A context manager that closes when the block ends.

    Memory is bounded: what stays is a few numbers a passage.
    """

    def __init__(self, directory: Path) -> None:
        """Make ``directory`` (its parent must exist); what an earlier writer left is replaced."""
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._stack = contextlib.ExitStack()
        self._strings = {
            name: self._stack.enter_context(StringsWriter(directory / name))
            for name in (*_PASSAGE_STRINGS, *_DOCUMENT_STRINGS)
        }
        self._spans = [np.empty((0, 2), np.int32)]
        self._counts = [np.empty(0, np.int32)]

    def add(self, document: Document, passages: Sequence[Passage]) -> None:
        """Add one document; ``append`` is the faster way for many."""
        self.append(PassageBlock.encode([(document, passages)]))

    def append(self, block: PassageBlock) -> None:
        """Add the documents of ``block`` after those already written."""
        for name, writer in self._strings.items():
            writer.append(getattr(block, name))
        self._spans.append(block.spans)
        self._counts.append(block.passage_counts)

    def __enter__(self) -> PassageWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._stack.close()

    def close(self) -> None:
        """Finish the store.

        Raises:
            OdqaError: two documents have the same id.
        """
        self._stack.close()
        counts = np.concatenate(self._counts)
        first = np.zeros(len(counts) + 1, dtype=np.int32)
        np.cumsum(counts, out=first[1:])
        documents = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        np.save(self._directory / "id_order.npy", self._id_order())
        np.save(self._directory / "spans.npy", np.concatenate(self._spans))
        np.save(self._directory / "first_passages.npy", first)
        np.save(self._directory / "documents.npy", documents)

    def _id_order(self) -> npt.NDArray[np.int32]:
        ids = MappedStrings(self._directory / "doc_ids")
        keys = [ids.bytes_at(row) for row in range(len(ids))]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        for row, following in itertools.pairwise(order):
            if keys[row] == keys[following]:
                raise OdqaError(
                    f"the documents {row + 1} and {following + 1} of the corpus have the same id "
                    f"{ids[row]!r}; give each its own"
                )
        return np.array(order, dtype=np.int32)


class PassageStore(Sequence[Passage]):
    """The passages of an index, by row. Opening is a matter of milliseconds at any size."""

    def __init__(self, directory: Path) -> None:
        """Open the folder that a ``PassageWriter`` wrote; see ``open``."""
        try:
            self._texts, self._headings = (MappedStrings(directory / n) for n in _PASSAGE_STRINGS)
            self._doc_ids, self._titles, self._metadata = (
                MappedStrings(directory / name) for name in _DOCUMENT_STRINGS
            )
            self._spans = map_array(directory / "spans.npy")
            self._documents = map_array(directory / "documents.npy")
            self._first = map_array(directory / "first_passages.npy")
            self._id_order = map_array(directory / "id_order.npy")
        except (OSError, ValueError) as error:
            raise IndexNotUsableError(
                f"{directory}: the passages cannot be opened ({error}); build the index again"
            ) from error
        if not len(self._texts) == len(self._headings) == len(self._spans) == self._first[-1]:
            raise IndexNotUsableError(
                f"{directory}: the columns of the passages differ in length; build the index again"
            )

    @classmethod
    def open(cls, directory: Path | str) -> PassageStore:
        """The store in ``directory``, which is the folder that a ``PassageWriter`` wrote.

        Raises:
            IndexNotUsableError: a file is missing or damaged.
        """
        return cls(Path(directory))

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, row: int) -> Passage:  # type: ignore[override]  # no slices
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of a store of {len(self)} passages")
        document = int(self._documents[row])
        doc_id = self._doc_ids[document]
        return Passage(
            passage_id=f"{doc_id}#{row - int(self._first[document])}",
            doc_id=doc_id,
            title=self._titles[document],
            text=self._texts[row],
            start=int(self._spans[row, 0]),
            end=int(self._spans[row, 1]),
            heading=self._headings[row],
        )

    def __iter__(self) -> Iterator[Passage]:
        return (self[row] for row in range(len(self)))

    @property
    def n_documents(self) -> int:
        """How many documents there are; one may have no passage."""
        return len(self._doc_ids)

    def passages(self, rows: Iterable[int]) -> list[Passage]:
        """The passages of ``rows``, in their order."""
        return [self[int(row)] for row in rows]

    def passage_ids(self, rows: Iterable[int]) -> list[str]:
        """The ids of ``rows``, without reading their texts."""
        ids = []
        for row in rows:
            document = int(self._documents[row])
            ids.append(f"{self._doc_ids[document]}#{int(row) - int(self._first[document])}")
        return ids

    def row(self, passage_id: str) -> int:
        """The row of a passage.

        Raises:
            KeyError: there is no such passage.
        """
        doc_id, _, number = passage_id.rpartition("#")
        rows = self.document_rows(doc_id)
        if not _NUMBER.fullmatch(number) or int(number) >= len(rows):
            raise KeyError(passage_id)
        return rows[int(number)]

    def document_rows(self, doc_id: str) -> range:
        """The rows of a document's passages.

        Raises:
            KeyError: there is no such document.
        """
        document = self._document(doc_id)
        return range(int(self._first[document]), int(self._first[document + 1]))

    def metadata(self, doc_id: str) -> Mapping[str, object]:
        """What the source said of a document beside its id, title and text.

        Raises:
            KeyError: there is no such document.
        """
        text = self._metadata[self._document(doc_id)]
        values: dict[str, object] = json.loads(text) if text else {}
        return values

    def _document(self, doc_id: str) -> int:
        wanted = doc_id.encode("utf-8", "surrogatepass")
        place = bisect.bisect_left(self._id_order, wanted, key=self._doc_ids.bytes_at)
        if place < len(self._id_order):
            document = int(self._id_order[place])
            if self._doc_ids.bytes_at(document) == wanted:
                return document
        raise KeyError(doc_id)


def _json(metadata: Mapping[str, object]) -> str:
    return json.dumps(dict(metadata), ensure_ascii=False, sort_keys=True) if metadata else ""
