"""The static encoder: one vector for each morpheme, a text being the weighted sum of its terms.

No transformer is run, so a million passages are encoded in a minute on one processor core.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from odqa.errors import OdqaError
from odqa.models.weights import WEIGHTS, read_metadata, read_tensors
from odqa.protocols import Tokenizer, Vectors
from odqa.text.terms import passage_terms
from odqa.text.tokenizers import create_tokenizer
from odqa.types import Passage

FILE = "static-ko.safetensors"
_METADATA = ("tokenizer_name", "tokenizer", "title_weight")
_TENSORS = ("terms", "table", "question_weights")
_CHUNK = 8  # texts whose rows are gathered at once: half a megabyte, which stays in a core's cache


@dataclass(frozen=True, slots=True)
class Bags:
    """Terms of some texts: ``ids[starts[i]:starts[i + 1]]`` and their weights are of text i."""

    ids: npt.NDArray[np.int32]  # (terms,)
    weights: npt.NDArray[np.float32]  # (terms,)
    starts: npt.NDArray[np.int64]  # (texts + 1,)


class StaticEncoder:
    """A table of term vectors over the morphemes of ``tokenizer``.

    A passage's vector is the sum over its distinct terms of ``(1 + ln tf)`` times the term's row;
    in a question each row counts by the term's learnt question weight too, which is small for the
    words that every question has. Both are scaled to unit length.
    """

    def __init__(
        self,
        table: Vectors,
        question_weights: npt.NDArray[np.float32],
        terms: Sequence[str],
        tokenizer: Tokenizer,
        *,
        title_weight: int,
        digest: str,
    ) -> None:
        self._table = table  # (terms, dim)
        self._question_weights = question_weights  # (terms,)
        self._numbers = {term: i for i, term in enumerate(terms)}
        self._tokenizer = tokenizer
        self.title_weight = title_weight  # how often a passage's title counts
        self._digest = digest

    @classmethod
    def load(cls, path: Path | None = None) -> StaticEncoder:
        """Read a file that ``odqa train encoder`` wrote; None stands for the bundled one.

        Raises:
            OdqaError: it is no such file, or its terms are those of another tokenizer or
                dictionary than the one here.
        """
        path = path or WEIGHTS / FILE
        _check_keys(path, "metadata", _METADATA, read_metadata(path))
        tensors, metadata = read_tensors(path)
        _check_keys(path, "tensors", _TENSORS, tensors)
        tokenizer = create_tokenizer(metadata["tokenizer_name"])
        if metadata["tokenizer"] != tokenizer.fingerprint:
            raise OdqaError(
                f"{path} was trained on the terms of {metadata['tokenizer']}, but the tokenizer "
                f"here is {tokenizer.fingerprint}; install that dictionary or train it anew"
            )
        terms = tensors["terms"].tobytes().decode("utf-8").split("\n")
        digest = hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
        return cls(
            tensors["table"],
            tensors["question_weights"],
            terms,
            tokenizer,
            title_weight=int(metadata["title_weight"]),
            digest=digest,
        )

    @property
    def fingerprint(self) -> str:
        """The file's content and the tokenizer."""
        return f"static/1;{self._digest};{self._tokenizer.fingerprint}"

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return int(self._table.shape[1])

    @property
    def terms_fingerprint(self) -> str:
        """The tokenizer whose terms ``encode_terms`` takes."""
        return self._tokenizer.fingerprint

    def encode_questions(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32 rows of unit length; zeros where no term is known."""
        bags = make_bags(self._known(self._tokenizer.tokenize(texts)))
        weighted = Bags(bags.ids, bags.weights * self._question_weights[bags.ids], bags.starts)
        return sum_rows(self._table, weighted)

    def encode_passages(self, passages: Sequence[Passage]) -> Vectors:
        """(n, dim) float32 rows of unit length, title and section heading included."""
        terms = passage_terms(passages, self._tokenizer, self.title_weight)
        return self.encode_terms(passage.words for passage in terms)

    def encode_terms(self, terms: Iterable[Iterable[str]]) -> Vectors:
        """As ``encode_passages``, of passages whose terms are known already."""
        return sum_rows(self._table, make_bags(self._known(terms)))

    def encode_numbered(
        self,
        vocabulary: Sequence[str],
        ids: npt.NDArray[np.int32],
        counts: npt.NDArray[np.int32],
    ) -> Vectors:
        """As ``encode_terms``; the first ``counts[0]`` of ``ids`` are the first passage's."""
        numbers = np.array([self._numbers.get(term, -1) for term in vocabulary], dtype=np.int64)
        passages = np.repeat(np.arange(len(counts)), counts)
        known = numbers[ids] if len(ids) else np.zeros(0, dtype=np.int64)
        keys = (passages * len(self._table) + known)[known >= 0]
        distinct, n = np.unique(keys, return_counts=True)
        starts = np.searchsorted(distinct, np.arange(len(counts) + 1) * len(self._table))
        return sum_rows(
            self._table,
            Bags((distinct % len(self._table)).astype(np.int32), _tf_weights(n), starts),
        )

    def _known(self, terms: Iterable[Iterable[str]]) -> list[list[int]]:
        number = self._numbers.get
        return [[i for term in text if (i := number(term)) is not None] for text in terms]


def _check_keys(path: Path, what: str, needed: Iterable[str], found: Container[str]) -> None:
    if missing := [key for key in needed if key not in found]:
        raise OdqaError(
            f"{path} is no static encoder: its {what} lack {', '.join(missing)}; give a file that "
            "'odqa train encoder' wrote, or for another model its folder"
        )


def make_bags(texts: Sequence[Sequence[int] | npt.NDArray[np.int32]]) -> Bags:
    """The distinct terms of each text, ascending, each with the weight ``1 + ln tf``."""
    ids, counts, starts = [], [], [0]
    for text in texts:
        distinct, n = np.unique(np.array(text, dtype=np.int32), return_counts=True)
        ids.append(distinct)
        counts.append(n)
        starts.append(starts[-1] + len(distinct))
    if not ids:
        return Bags(np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(1, np.int64))
    weights = _tf_weights(np.concatenate(counts))
    return Bags(np.concatenate(ids), weights, np.array(starts, np.int64))


def _tf_weights(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    return (1 + np.log(counts)).astype(np.float32)


def sum_rows(table: Vectors, bags: Bags) -> Vectors:
    """The weighted sum of each text's rows, scaled to unit length; zeros for a text of none."""
    n = len(bags.starts) - 1
    sums = np.zeros((n, table.shape[1]), dtype=np.float32)
    for low in range(0, n, _CHUNK):
        high = min(low + _CHUNK, n)
        starts = bags.starts[low : high + 1]
        part = slice(starts[0], starts[-1])
        # reduceat would give a text without terms its neighbour's row
        full = np.flatnonzero(np.diff(starts))
        if len(full):
            rows = table[bags.ids[part]] * bags.weights[part, None]
            sums[low + full] = np.add.reduceat(rows, starts[full] - starts[0], axis=0)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    unit: Vectors = sums / np.maximum(norms, np.float32(1e-12))
    return unit
