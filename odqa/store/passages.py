"""The passages of an index on disk: written as a stream, read memory-mapped.

A folder of columns. Texts, with the section headings they stand under, have a row for each passage,
in the order of the corpus; ids, titles and metadata have a row for each document and are stored
once for it. Texts are compressed (``odqa.store.blocks``); other strings are a ``.bin`` file of
UTF-8 with its offsets in a ``.npy`` file:

=====================  ===============  =========================================================
texts                  passages         compressed blocks of (heading, text)
starts.npy             (n,) int32       where each begins in its document's text, in characters
documents.npy          (n,) int32       the row of the passage's document
doc_ids, titles        documents        strings
metadata               documents        strings: JSON, or empty; absent where all are empty
digests.npy            (m, 2) uint64    ``document_digest`` of each document
first_passages.npy     (m+1,) int32     the row of each document's first passage; at the end n
id_order.npy           (m,) int32       rows of the documents in the order of their ids
=====================  ===============  =========================================================
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
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
from odqa.store.blocks import BlocksWriter, MappedBlocks
from odqa.store.index import mend
from odqa.store.strings import MappedStrings, Strings, StringsWriter, map_array
from odqa.types import Document, Passage

Digests = npt.NDArray[np.uint64]
"""(documents, 2): the two halves of each document's digest, little-endian."""

_ITERATED_ROWS = 1_024  # loaded at once when all passages are walked through
_ITERATED_DOCUMENTS = 256  # likewise
_DIGEST_BYTES = 16
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PassageBlock:
    """The columns of some consecutive documents, ready to be appended to a store."""

    texts: Strings
    headings: Strings
    starts: npt.NDArray[np.int32]  # (passages,)
    doc_ids: Strings
    titles: Strings
    metadata: Strings
    digests: Digests
    passage_counts: npt.NDArray[np.int32]  # (documents,)

    @classmethod
    def encode(
        cls,
        documents: Iterable[tuple[Document, Sequence[Passage]]],
        digests: Digests | None = None,
    ) -> PassageBlock:
        """The columns of documents and their passages.

        ``digests`` are those of the documents as they were read, where these are not.

        Raises:
            ValueError: the passages of a document are not numbered ``DOC_ID#0``, ``DOC_ID#1``, ...,
                or one is not as long as its offsets say.
        """
        pairs = list(documents)
        for document, passages in pairs:
            for number, passage in enumerate(passages):
                if passage.passage_id != f"{document.doc_id}#{number}":
                    raise ValueError(f"{passage.passage_id!r} is not {document.doc_id}#{number}")
                if passage.end - passage.start != len(passage.text):
                    raise ValueError(f"{passage.passage_id!r} is not end - start characters long")
        flat = [passage for _, passages in pairs for passage in passages]
        return cls(
            texts=Strings.encode(passage.text for passage in flat),
            headings=Strings.encode(passage.heading for passage in flat),
            starts=np.array([passage.start for passage in flat], dtype=np.int32),
            doc_ids=Strings.encode(document.doc_id for document, _ in pairs),
            titles=Strings.encode(document.title for document, _ in pairs),
            metadata=Strings.encode(_json(document.metadata) for document, _ in pairs),
            digests=document_digests(d for d, _ in pairs) if digests is None else digests,
            passage_counts=np.array([len(passages) for _, passages in pairs], dtype=np.int32),
        )


def document_digest(document: Document) -> bytes:
    """BLAKE2b-128 of everything that a document holds: id, title, text, metadata."""
    values = (document.doc_id, document.title, document.text, dict(document.metadata))
    text = json.dumps(values, ensure_ascii=False, sort_keys=True)
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


def document_digests(documents: Iterable[Document]) -> Digests:
    """The digests of documents as a column."""
    data = b"".join(document_digest(document) for document in documents)
    return np.frombuffer(data, dtype="<u8").reshape(-1, 2)


class PassageWriter:
    """Writes a passage store into a folder. A context manager that closes when the block ends.

    Memory is bounded: what stays is a few numbers a passage.
    """

    def __init__(self, directory: Path) -> None:
        """Make ``directory`` (its parent must exist); what an earlier writer left is replaced."""
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._stack = contextlib.ExitStack()
        self._texts = self._stack.enter_context(BlocksWriter(directory / "texts"))
        self._strings = {
            name: self._stack.enter_context(
                StringsWriter(directory / name, optional=name == "metadata")
            )
            for name in ("doc_ids", "titles", "metadata")
        }
        self._starts = [np.empty(0, np.int32)]
        self._digests = [np.empty((0, 2), "<u8")]
        self._counts = [np.empty(0, np.int32)]

    def add(self, document: Document, passages: Sequence[Passage]) -> None:
        """Add one document; ``append`` is the faster way for many."""
        self.append(PassageBlock.encode([(document, passages)]))

    def append(self, block: PassageBlock) -> None:
        """Add the documents of ``block`` after those already written."""
        self._texts.append(block.headings, block.texts)
        for name, writer in self._strings.items():
            writer.append(getattr(block, name))
        self._starts.append(block.starts)
        self._digests.append(block.digests)
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
            self._stack.__exit__(kind, error, traceback)

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
        np.save(self._directory / "starts.npy", np.concatenate(self._starts))
        np.save(self._directory / "digests.npy", np.concatenate(self._digests))
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
            self._starts = map_array(directory / "starts.npy")
            self._texts = MappedBlocks(directory / "texts", len(self._starts), n_columns=2)
            self._doc_ids = MappedStrings(directory / "doc_ids")
            self._titles = MappedStrings(directory / "titles")
            self._metadata = _optional_strings(directory / "metadata")
            self._digests: Digests = map_array(directory / "digests.npy").view(np.uint64)
            self._documents = map_array(directory / "documents.npy")
            self._first = map_array(directory / "first_passages.npy")
            self._id_order = map_array(directory / "id_order.npy")
        except (OSError, ValueError) as error:
            raise IndexNotUsableError(
                f"{directory}: the passages cannot be opened ({error}); {mend(directory.parent)}"
            ) from error
        if not self._fits_together():
            raise IndexNotUsableError(
                f"{directory}: the columns of the passages differ in length; "
                f"{mend(directory.parent)}"
            )

    def _fits_together(self) -> bool:
        per_document = (self._titles, self._digests, self._id_order, self._metadata)
        return (
            len(self._first) == len(self._doc_ids) + 1
            and len(self._starts) == len(self._documents) == self._first[-1]
            and all(c is None or len(c) == len(self._doc_ids) for c in per_document)
        )

    @classmethod
    def open(cls, directory: Path | str) -> PassageStore:
        """The store in ``directory``, which is the folder that a ``PassageWriter`` wrote.

        Raises:
            IndexNotUsableError: a file is missing or damaged.
        """
        return cls(Path(directory))

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, row: int) -> Passage:  # type: ignore[override]  # no slices
        return self.passages([row])[0]

    def __iter__(self) -> Iterator[Passage]:
        for start in range(0, len(self), _ITERATED_ROWS):
            yield from self.passages(range(start, min(start + _ITERATED_ROWS, len(self))))

    @property
    def n_documents(self) -> int:
        """How many documents there are; one may have no passage."""
        return len(self._doc_ids)

    def passages(self, rows: Iterable[int]) -> list[Passage]:
        """The passages of ``rows``, in their order: faster than one by one.

        Raises:
            IndexError: there is no such row.
            IndexNotUsableError: a text is damaged.
        """
        rows = [int(row) for row in rows]
        if not rows:
            return []
        texts = self._texts.rows(rows)
        documents = self._documents[rows]
        columns = zip(
            rows,
            self._doc_ids.take(documents),
            self._titles.take(documents),
            self._first[documents].tolist(),
            self._starts[rows].tolist(),
            texts,
            strict=True,
        )
        return [
            Passage(f"{doc_id}#{row - first}", doc_id, title, text, start, start + len(text), head)
            for row, doc_id, title, first, start, (head, text) in columns
        ]

    def passage_ids(self, rows: Iterable[int]) -> list[str]:
        """The ids of ``rows``, without reading their texts."""
        rows = [int(row) for row in rows]
        if not rows:
            return []
        documents = self._documents[rows]
        firsts = self._first[documents].tolist()
        of_row = zip(rows, self._doc_ids.take(documents), firsts, strict=True)
        return [f"{doc_id}#{row - first}" for row, doc_id, first in of_row]

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
        return self._metadata_of(self._document(doc_id))

    def digest(self, doc_id: str) -> bytes:
        """``document_digest`` of a document as it was read, before it was cleaned and split.

        Raises:
            KeyError: there is no such document.
        """
        return bytes(self._digests[self._document(doc_id)])

    @property
    def digests(self) -> Digests:
        """The digests of all documents, by row, memory-mapped."""
        return self._digests

    @property
    def first_passages(self) -> npt.NDArray[np.int64]:
        """(documents + 1,) the row of each document's first passage; at the end all passages."""
        return self._first

    def has_document(self, doc_id: str) -> bool:
        """Is there a document of that id?"""
        try:
            self._document(doc_id)
        except KeyError:
            return False
        return True

    def block(self, documents: npt.NDArray[np.intp]) -> PassageBlock:
        """The columns of some documents, given by their rows in ascending order."""
        counts = self._first[documents + 1] - self._first[documents]
        rows = np.concatenate(
            [np.arange(self._first[d], self._first[d + 1]) for d in documents.tolist()]
        )
        texts = self._texts.encoded_rows(rows.tolist())
        places, metadata = documents.tolist(), self._metadata
        return PassageBlock(
            texts=Strings.of([text for _, text in texts]),
            headings=Strings.of([heading for heading, _ in texts]),
            starts=self._starts[rows],
            doc_ids=Strings.of([self._doc_ids.bytes_at(d) for d in places]),
            titles=Strings.of([self._titles.bytes_at(d) for d in places]),
            metadata=Strings.of([metadata.bytes_at(d) if metadata else b"" for d in places]),
            digests=self._digests[documents],
            passage_counts=counts.astype(np.int32),
        )

    def documents(self) -> Iterator[tuple[Document, list[Passage]]]:
        """All documents in their order, with their passages. Their texts are not stored: ""."""
        for begin in range(0, self.n_documents, _ITERATED_DOCUMENTS):
            firsts = self._first[begin : begin + _ITERATED_DOCUMENTS + 1].tolist()
            passages = self.passages(range(firsts[0], firsts[-1]))
            for document, (start, end) in enumerate(itertools.pairwise(firsts), start=begin):
                metadata = self._metadata_of(document)
                head = Document(self._doc_ids[document], self._titles[document], "", metadata)
                yield head, passages[start - firsts[0] : end - firsts[0]]

    def _metadata_of(self, document: int) -> Mapping[str, object]:
        text = self._metadata[document] if self._metadata is not None else ""
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


def _optional_strings(path: Path) -> MappedStrings | None:
    """A column that has no files where all its strings are empty."""
    return MappedStrings(path) if path.with_suffix(".npy").exists() else None


def _json(metadata: Mapping[str, object]) -> str:
    return json.dumps(dict(metadata), ensure_ascii=False, sort_keys=True) if metadata else ""
