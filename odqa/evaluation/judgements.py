"""Relevance judgements: which passages or articles a question's retriever should find."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from odqa.config import CorpusConfig
from odqa.corpus.datasets import (
    SAMPLE,
    file_of,
    filled_lines,
    has_ending,
    read_examples,
    twice,
    with_ending,
)
from odqa.errors import InputError, UsageError
from odqa.metrics import article_of
from odqa.store import PassageStore
from odqa.text.normalize import nfc
from odqa.types import Example

TOPICS, QRELS = ".topics.tsv", ".qrels.tsv"
LEVELS = ("passage", "article")


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """Questions and what is relevant to them.

    ``topics`` maps question ids to questions, ``qrels`` to {passage or article id: grade}.
    ``answers`` are the gold answers where the data set has any (for answer recall).
    ``n_unjudged`` questions were left out because nothing is judged relevant to them.
    """

    topics: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]
    answers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    n_unjudged: int = 0

    def at_level(self, level: str) -> RetrievalSet:
        """The judgements by "passage", or by "article" (the best grade of its passages).

        Raises:
            UsageError: unknown level, or passages are asked for where articles were judged.
        """
        if level not in LEVELS:
            raise UsageError(f"unknown level '{level}': it is one of {', '.join(LEVELS)}")
        if level == "article":
            return dataclasses.replace(self, qrels={q: _by_article(j) for q, j in _items(self)})
        if not any("#" in item for _, judged in _items(self) for item in judged):
            raise UsageError(
                "the judgements name articles, not passages (no '#'): use --level article"
            )
        return self

    def relevant(self) -> list[tuple[str, str]]:
        """(question id, passage or article id) of every judgement that calls something relevant."""
        return [(q, item) for q, judged in _items(self) for item in judged if judged[item] > 0]

    def absent_from(self, passages: PassageStore, level: str) -> list[tuple[str, str]]:
        """Those of ``relevant()`` that are no passage (or article with passages) of an index."""
        is_in = {"passage": _has_passage, "article": _has_article}[level]
        return [(q, item) for q, item in self.relevant() if not is_in(passages, item)]


def read_retrieval_set(
    dataset: str | Path, split: str = "dev", *, corpus: CorpusConfig | None = None
) -> RetrievalSet:
    """Questions with judgements: ``SPLIT.topics.tsv`` + ``SPLIT.qrels.tsv`` of a folder.

    Any other data set of ``read_examples`` does as well. The gold passage is then the one relevant
    passage where the data set is a corpus too, so that an index of it gives its passages the same
    ids (KorQuAD, KLUE-MRC, the sample). The contexts of a ``.jsonl`` are no passages of any
    corpus: there the article that ``"doc_id"`` names is relevant.

    Raises:
        InputError: as ``read_examples``; no question has anything relevant.
        UsageError: the sample has no such split.
    """
    path = Path(dataset)
    if str(dataset) != SAMPLE:
        path = file_of(path, split, (TOPICS, ".json", ".jsonl"))
        if has_ending(path, [TOPICS]):
            qrels_path = with_ending(path.with_name(path.name[: -len(TOPICS)]), QRELS)
            return _judged(read_topics(path), read_qrels(qrels_path), {}, qrels_path)
    examples = read_examples(dataset, split, corpus=corpus)
    gold_of = _gold_article if has_ending(path, [".jsonl"]) else _gold_passage
    return _judged(
        {example.question_id: example.question for example in examples},
        {example.question_id: gold_of(example) for example in examples},
        {example.question_id: example.answers for example in examples},
        path,
    )


def read_topics(path: Path) -> dict[str, str]:
    """TREC topics, ``id<TAB>question`` a line.

    Raises:
        InputError: missing file, a line without two columns, an id given twice, no question.
    """
    topics: dict[str, str] = {}
    for number, line in filled_lines(path):
        question_id, _, question = (part.strip() for part in line.partition("\t"))
        if not question_id or not question:
            raise InputError("expected 2 columns, id<TAB>question", path=path, line=number)
        if question_id in topics:
            raise InputError(twice(question_id), path=path, line=number, field="id")
        topics[question_id] = nfc(question)
    if not topics:
        raise InputError("holds no question", path=path)
    return topics


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """TREC judgements, ``qid 0 doc_id grade`` a line: {question id: {doc id: grade}}.

    Raises:
        InputError: missing file, a line without four columns, a grade that is no whole number.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, line in filled_lines(path):
        columns = line.split()
        if len(columns) != 4:
            message = f"expected 4 columns (qid 0 doc_id grade), found {len(columns)}"
            raise InputError(message, path=path, line=number)
        question_id, _, item, grade = columns
        try:
            qrels.setdefault(question_id, {})[nfc(item)] = int(grade)
        except ValueError as error:
            message = f"must be a whole number, not '{grade}'"
            raise InputError(message, path=path, line=number, field="grade") from error
    return qrels


def _judged(
    topics: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, int]],
    answers: Mapping[str, Sequence[str]],
    path: Path,
) -> RetrievalSet:
    """The questions to which something is relevant; the rest cannot be scored."""
    judged = {
        question_id: question
        for question_id, question in topics.items()
        if any(grade > 0 for grade in qrels.get(question_id, {}).values())
    }
    for question_id in judged:
        if question_id.split() != [question_id]:
            raise InputError(
                f"the id '{question_id}' holds white space, which a TREC run cannot",
                path=path,
                field="id",
            )
    if not judged:
        message = "judges nothing relevant to any question of this data set"
        if path.suffix == ".jsonl":
            message += '; give each question the id of its article as "doc_id"'
        raise InputError(message, path=path)
    return RetrievalSet(
        judged,
        {question_id: qrels[question_id] for question_id in judged},
        {question_id: answers[question_id] for question_id in judged if answers.get(question_id)},
        len(topics) - len(judged),
    )


def _gold_passage(example: Example) -> dict[str, int]:
    if not example.answers or example.passage is None:
        return {}
    return {example.passage.passage_id: 1}


def _gold_article(example: Example) -> dict[str, int]:
    doc_id = example.metadata.get("doc_id")
    return {nfc(doc_id): 1} if example.answers and isinstance(doc_id, str) else {}


def _has_passage(passages: PassageStore, passage_id: str) -> bool:
    with contextlib.suppress(KeyError):
        return passages.row(passage_id) >= 0
    return False


def _has_article(passages: PassageStore, doc_id: str) -> bool:
    with contextlib.suppress(KeyError):
        return len(passages.document_rows(doc_id)) > 0
    return False


def _by_article(judged: Mapping[str, int]) -> dict[str, int]:
    articles: dict[str, int] = {}
    for item, grade in judged.items():
        article = article_of(item)
        articles[article] = max(grade, articles.get(article, grade))
    return articles


def _items(judged: RetrievalSet) -> Iterator[tuple[str, Mapping[str, int]]]:
    return iter(judged.qrels.items())
