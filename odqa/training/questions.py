"""Questions made from text, to train a reader on.

A sentence of a passage gives an answer (``odqa.training.answers``), and the rest of the sentence
the question (``odqa.training.asking``); the beginning of an article gives others
(``odqa.training.leads``).
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from odqa.config import CorpusConfig, ReaderConfig
from odqa.corpus import split_passages
from odqa.errors import ConfigError
from odqa.text.sentences import split_sentences
from odqa.training.answers import find_answers, units_of
from odqa.training.asking import ask
from odqa.training.leads import lead_questions
from odqa.training.outputs import written
from odqa.types import Document, Passage

FOUND = ("passage", "article")


@dataclass(frozen=True, slots=True)
class QuestionConfig:
    """How many questions, from which passages, how far from their sentences, and how checked."""

    questions: int = 30_000  # to write: those that pass the checks
    articles_skipped: float = 0.0  # share of the articles that is passed over
    leads: int = 0  # at most so many of an article are asked of its beginning, about its subject
    per_passage: int = 2  # at most; 0: none but those
    per_article: int = 6  # at most
    shortest_passage: int = 200  # characters; a passage's length is drawn for each article
    longest_passage: int = 500
    cleft: float = 0.6  # share of questions of the form "... 한 사람은?"
    drop_phrase: float = 0.08  # chance for a phrase without the answer to be left out
    drop_clause: float = 0.5  # chance for all clauses before the answer's to be left out
    replace_noun: float = 0.12  # chance for a common noun to become a near one
    shuffle: float = 0.1  # chance for two phrases before the predicate to change places
    keywords: float = 0.05  # share of questions that are only their nouns
    seed: int = 13
    agreement: float = 0.5  # least F1 in characters of the answer and what the reader reads
    depth: int = 20  # candidates among which a question must find where it was made
    found: str = "passage"  # passage: one of the article that holds the answer; article: any
    reader: ReaderConfig = field(default_factory=lambda: ReaderConfig(model=""))  # "": no reading

    def check(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            ConfigError: a value is out of range or unknown.
        """
        if not 0 < self.agreement <= 1:
            raise ConfigError(f"agreement must lie in (0, 1], got {self.agreement}")
        at_least = {"questions": 1, "depth": 1, "leads": 0, "per_passage": 0, "per_article": 1}
        at_least |= {"shortest_passage": 1, "longest_passage": self.shortest_passage, "seed": 0}
        for name, least in at_least.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be {least} or more, got {getattr(self, name)}")
        for name in ("articles_skipped", "cleft", "drop_phrase", "drop_clause", "replace_noun",
                     "shuffle", "keywords"):  # fmt: skip
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.leads == self.per_passage == 0:
            raise ConfigError("leads and per_passage are both 0: no question would be made")
        if self.found not in FOUND:
            raise ConfigError(f"found: unknown '{self.found}'; known: {', '.join(FOUND)}")


@dataclass(frozen=True, slots=True)
class MadeQuestion:
    """A question with its passage; ``passage.text[start:]`` begins with ``answer``."""

    question_id: str
    question: str
    answer: str
    start: int
    sort: str  # of answer: date | year | number | person | place | title | thing
    passage: Passage

    @property
    def end(self) -> int:
        """Where the answer ends in the passage."""
        return self.start + len(self.answer)


def make_questions(
    documents: Iterable[Document],
    config: QuestionConfig,
    *,
    without: Collection[str] = (),
    without_named: Collection[str] = (),
) -> Iterator[MadeQuestion]:
    """Questions made from articles, those of a passage one after the other, as long as asked for.

    Args:
        documents: read once, in their order.
        config: what is to be made; ``questions`` is no limit here.
        without: titles of articles that give no question, such as those of a test set; compared
            without spaces and underscores.
        without_named: questions; an article whose title stands in one of them, what is in brackets
            aside, gives none. For sets that do not say which article answers.
    """
    random = np.random.default_rng(config.seed)
    left_out = {bare_title(title) for title in without}
    asked = "\n".join(bare_title(question) for question in without_named)
    for document in documents:
        # drawn first: which articles are taken does not hang on what they hold
        if random.random() < config.articles_skipped or bare_title(document.title) in left_out:
            continue
        if asked and bare_title(re.sub(r"\([^()]*\)$", "", document.title)) in asked:
            continue
        made = _of_lead(document, config, random) if config.leads else []
        for passage in _passages(document, config, random) if config.per_passage else []:
            if len(made) >= config.per_article:
                break
            made += _of_passage(passage, config, random, begin=len(made))
        yield from made


def bare_title(title: str) -> str:
    """A title as it is compared: KorQuAD writes "_" for spaces."""
    return re.sub(r"[\s_]", "", title).casefold()


def write_questions(questions: Iterable[MadeQuestion], path: Path) -> int:
    """Write questions as one KorQuAD file, without holding them; their number.

    The file gets its name once it is whole.

    Raises:
        UsageError: another process is writing it.
    """
    total = 0
    with written(path) as file:
        file.write('{"version": "synthetic", "data": [')
        by_article = itertools.groupby(questions, key=lambda made: made.passage.doc_id)
        for i, (_, of_article) in enumerate(by_article):
            article = _article(of_article)
            file.write(",\n" if i else "\n")
            file.write(json.dumps(article, ensure_ascii=False))
            total += sum(len(paragraph["qas"]) for paragraph in article["paragraphs"])
        file.write("\n]}\n")
    return total


def _article(questions: Iterable[MadeQuestion]) -> dict[str, Any]:
    """An article in KorQuAD's form."""
    title, paragraphs = "", []
    # a lead is cut otherwise than the rest, so one id may stand for two texts
    for _, group in itertools.groupby(questions, key=lambda made: made.passage):
        of_passage = list(group)
        title = of_passage[0].passage.title
        records = [
            {
                "id": made.question_id,
                "question": made.question,
                "answers": [{"text": made.answer, "answer_start": made.start}],
            }
            for made in of_passage
        ]
        paragraphs.append({"context": of_passage[0].passage.text, "qas": records})
    return {"title": title, "paragraphs": paragraphs}


def _passages(
    document: Document, config: QuestionConfig, random: np.random.Generator
) -> list[Passage]:
    """The document's passages in a random order, all of one drawn length."""
    length = int(random.integers(config.shortest_passage, config.longest_passage + 1))
    passages = split_passages(document, CorpusConfig(passage_chars=length))
    # a stub's only sentence says nothing that a reader would have to look for
    passages = [p for p in passages if len(p.text) >= 100]
    return [passages[i] for i in random.permutation(len(passages))]


def _of_lead(
    document: Document, config: QuestionConfig, random: np.random.Generator
) -> list[MadeQuestion]:
    """Questions of the document's first passage about its subject."""
    length = int(random.integers(config.shortest_passage, config.longest_passage + 1))
    passage = next(iter(split_passages(document, CorpusConfig(passage_chars=length))), None)
    if passage is None:
        return []
    found = lead_questions(passage.text, passage.title, random)[: config.leads]
    return [
        MadeQuestion(f"s{passage.doc_id}-{n}", q.question, q.answer, q.start, q.sort, passage)
        for n, q in enumerate(found)
    ]


def _of_passage(
    passage: Passage, config: QuestionConfig, random: np.random.Generator, *, begin: int
) -> list[MadeQuestion]:
    """Questions of at most ``per_passage`` sentences, numbered from ``begin``."""
    spans = split_sentences(passage.text)
    found: list[MadeQuestion] = []
    for row in random.permutation(len(spans)):
        start, end = spans[row]
        sentence = passage.text[start:end]
        whole = 20 <= len(sentence) <= 200 and re.search(r"다[.\"”']?$", sentence)
        if not whole or "formula_" in sentence:  # what WikiExtractor leaves of a formula
            continue
        units = units_of(sentence)
        answers = find_answers(sentence, units)
        if not answers:
            continue
        weights = np.array([0.25 if a.sort == "thing" else 1.0 for a in answers])
        answer = answers[int(random.choice(len(answers), p=weights / weights.sum()))]
        question = ask(sentence, units, answer, passage.title, config, random)
        text = sentence[answer.start : answer.end]
        if question is None or text in question:
            continue
        name = f"s{passage.doc_id}-{begin + len(found)}"
        found.append(MadeQuestion(name, question, text, start + answer.start, answer.sort, passage))
        if len(found) == config.per_passage:
            break
    return found
