"""Choose the settings of the sparse leg on training questions.

    python scripts/tune_sparse.py DATA settings [--output trials.jsonl]
    python scripts/tune_sparse.py DATA question-words [--write]

DATA is a folder with ``kowiki/kowiki-20k.jsonl.xz``, ``miracl-ko``, ``mrtydi-ko``, ``korquad1`` and
``klue_mrc_like``. MIRACL and Mr.TyDi are judged by article over the 20,000 articles.

``settings`` changes one of k1, b and the weights of title, parts and bigrams at a time, keeps what
gives the best mean nDCG@10 over the train questions, and goes round until nothing does. The dev
questions are looked at once, for the outcome. ``question-words`` counts in how many questions each
word finds itself in the passage that answers, measures the discount by two-fold cross-validation,
and with ``--write`` writes the table that the package ships. One JSON line goes to stdout.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

import odqa.retrieval
from odqa.config import CorpusConfig, SparseConfig
from odqa.corpus import read_documents
from odqa.corpus.datasets import read_examples
from odqa.corpus.passages import split_passages
from odqa.evaluation.judgements import RetrievalSet, read_retrieval_set
from odqa.metrics import collapse_to_articles, ndcg_at
from odqa.protocols import Tokenizer
from odqa.retrieval.bm25 import Bm25Retriever, write_bm25
from odqa.retrieval.postings import Field, Postings
from odqa.text.tokenizers import create_tokenizer
from odqa.types import Passage, Terms

DEPTH = 10
CANDIDATES = 60  # passages that give ten articles
BLOCK = 5_000  # passages
SETS = ("miracl-ko", "mrtydi-ko")
READING = ("korquad1/train.json", "klue_mrc_like/train.json")
VALUES: dict[str, tuple[float, ...]] = {
    "title_weight": (1, 2, 3, 4, 6),
    "k1": (0.9, 1.2, 1.6, 2.0, 2.5),
    "b": (0.2, 0.3, 0.4, 0.55, 0.75),
    "part_weight": (0, 0.125, 0.25, 0.5, 0.75, 1),
    "bigram_weight": (0, 0.125, 0.25, 0.375, 0.5, 1),
}
# A word is a question word if it stands in this many questions and the answering passage holds it
# in less than this share of them; the share is taken of what a word of content reaches.
FEWEST_QUESTIONS, MOST_FOUND, CONTENT_FOUND = 5, 0.7, 0.8
PRIOR = 2.0  # questions in which the word was found, added to those counted


class Remembering:
    """A tokenizer that parses each question once, whatever the number of settings."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, Terms] = {}
        self.fingerprint = tokenizer.fingerprint

    def tokenize(self, texts: Sequence[str]) -> list[list[str]]:
        return [terms.words for terms in self.terms(texts)]

    def terms(self, texts: Sequence[str]) -> list[Terms]:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known |= dict(zip(new, self._tokenizer.terms(new), strict=True))
        return [self._known[text] for text in texts]


class Store:
    """Passage ids and words by row; what a search needs and no more."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = [dataclasses.replace(p, text="", heading="") for p in passages]

    def __len__(self) -> int:
        return len(self._passages)

    def passages(self, rows: Sequence[int]) -> list[Passage]:
        return [self._passages[row] for row in rows]

    def passage_ids(self, rows: Sequence[int]) -> list[str]:
        return [self._passages[row].passage_id for row in rows]


@dataclass(frozen=True)
class Corpus:
    """The passages of a corpus as term numbers, each field of title and of text apart."""

    store: Store
    fields: dict[tuple[str, str], list[np.ndarray]]  # ("title" | "text", field of Terms)
    vocabulary: dict[str, int]

    @classmethod
    def read(cls, source: Path, tokenizer: Tokenizer) -> Corpus:
        config = CorpusConfig()
        passages = [p for d in read_documents(source) for p in split_passages(d, config)]
        vocabulary: dict[str, int] = {}
        texts = {
            "title": [p.title for p in passages],
            "text": [f"{p.heading}\n{p.text}" for p in passages],
        }
        fields: dict[tuple[str, str], list[np.ndarray]] = {}
        for place, of_passages in texts.items():
            for start in range(0, len(passages), BLOCK):
                terms = tokenizer.terms(of_passages[start : start + BLOCK])
                for name in ("words", "parts", "bigrams"):
                    numbered = _numbered((getattr(t, name) for t in terms), vocabulary)
                    fields.setdefault((place, name), []).extend(numbered)
        return cls(Store(passages), fields, vocabulary)

    def index(self, directory: Path, tokenizer: Tokenizer, config: SparseConfig) -> Bm25Retriever:
        write_bm25(directory, self._postings(config), list(self.vocabulary), config)
        return Bm25Retriever.open(directory, self.store, tokenizer, config)

    def _postings(self, config: SparseConfig) -> Iterator[Postings]:
        weights = {"words": 1.0, "parts": config.part_weight, "bigrams": config.bigram_weight}
        for start in range(0, len(self.store), BLOCK):
            fields = []
            for (place, name), numbers in self.fields.items():
                weight = weights[name] * (config.title_weight if place == "title" else 1)
                fields.append(Field.of(numbers[start : start + BLOCK], weight))
            yield Postings.of(fields, start)


def _numbered(passages: Iterable[Sequence[str]], numbers: dict[str, int]) -> list[np.ndarray]:
    return [
        np.array([numbers.setdefault(term, len(numbers)) for term in terms], dtype=np.int32)
        for terms in passages
    ]


def read_sets(data: Path, split: str) -> dict[str, RetrievalSet]:
    return {name: read_retrieval_set(data / name, split).at_level("article") for name in SETS}


def ndcg(retriever: Bm25Retriever, judged: RetrievalSet, question_ids: Sequence[str]) -> float:
    """Mean nDCG@10 by article; a question that finds nothing counts 0."""
    found = retriever.retrieve([judged.topics[q] for q in question_ids], k=CANDIDATES)
    return fmean(
        ndcg_at(
            DEPTH,
            collapse_to_articles([c.passage.passage_id for c in candidates]),
            dict(judged.qrels[question_id]),
        )
        for question_id, candidates in zip(question_ids, found, strict=True)
    )


def measure(
    corpus: Corpus, sets: Mapping[str, RetrievalSet], tokenizer: Tokenizer, config: SparseConfig
) -> dict[str, float]:
    """nDCG@10 of each set, and their mean."""
    with tempfile.TemporaryDirectory() as folder:
        retriever = corpus.index(Path(folder), tokenizer, config)
        scores = {
            name: round(ndcg(retriever, judged, list(judged.topics)), 4)
            for name, judged in sets.items()
        }
    return {**scores, "mean": round(fmean(scores.values()), 4)}


def choose_settings(
    corpus: Corpus, data: Path, tokenizer: Tokenizer, output: Path | None
) -> dict[str, object]:
    """Coordinate ascent from the configured settings."""
    train = read_sets(data, "train")
    trials: dict[SparseConfig, dict[str, float]] = {}

    def mean(config: SparseConfig) -> float:
        if config not in trials:
            trials[config] = measure(corpus, train, tokenizer, config)
            print(json.dumps(_line(config, trials[config])), file=sys.stderr, flush=True)
        return trials[config]["mean"]

    best, before = SparseConfig(), None
    while best != before:
        before = best
        for key, values in VALUES.items():
            options = [dataclasses.replace(best, **{key: value}) for value in values]
            best = max([best, *options], key=mean)
    if output is not None:
        lines = (json.dumps(_line(config, scores)) for config, scores in trials.items())
        output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    dev = read_sets(data, "dev")
    plain = SparseConfig(
        k1=0.9, b=0.4, title_weight=1, part_weight=0, bigram_weight=0,
        discount_question_words=False,
    )  # fmt: skip
    return {
        name: {**_line(config, {}), "dev": measure(corpus, dev, tokenizer, config)}
        for name, config in (("chosen", best), ("configured", SparseConfig()), ("plain", plain))
    }


def _line(config: SparseConfig, scores: Mapping[str, float]) -> dict[str, object]:
    return {**dataclasses.asdict(config), **scores}


Observation = tuple[set[str], set[str]]
"""The words of a question, and those of them that the passage which answers it holds."""


def reading_observations(data: Path, tokenizer: Tokenizer) -> list[Observation]:
    """Of questions that were written for a passage."""
    examples = [e for name in READING for e in read_examples(data / name, "train")]
    with_passage = [(e.question, e.passage) for e in examples if e.passage is not None]
    asked = tokenizer.tokenize([question for question, _ in with_passage])
    held = tokenizer.tokenize([f"{p.title} {p.text}" for _, p in with_passage])
    return [(set(q), set(q) & set(p)) for q, p in zip(asked, held, strict=True)]


def judged_observations(
    corpus: Corpus, judged: RetrievalSet, tokenizer: Tokenizer
) -> list[Observation]:
    """Of judged questions: the passage is that of a relevant article with the most of its words."""
    rows: dict[str, list[int]] = {}
    for row in range(len(corpus.store)):
        rows.setdefault(corpus.store.passages([row])[0].doc_id, []).append(row)
    found = []
    for question_id, question in judged.topics.items():
        words = set(tokenizer.tokenize([question])[0])
        numbers = {corpus.vocabulary[word]: word for word in words if word in corpus.vocabulary}
        relevant = [doc for doc, grade in judged.qrels[question_id].items() if grade > 0]
        held = [
            {
                numbers[n]
                for place in ("title", "text")
                for n in corpus.fields[place, "words"][row].tolist()
                if n in numbers
            }
            for doc in relevant
            for row in rows.get(doc, [])
        ]
        if held:
            found.append((words, max(held, key=len)))
    return found


def weights_of(observations: Iterable[Observation]) -> dict[str, float]:
    """The weights of the words that ask rather than describe."""
    asked, held = Counter[str](), Counter[str]()
    for words, found in observations:
        asked.update(words)
        held.update(found)
    shares = {word: (held[word] + PRIOR) / (n + PRIOR) for word, n in asked.items()}
    return {
        word: round(share / CONTENT_FOUND, 3)
        for word, share in sorted(shares.items())
        if asked[word] >= FEWEST_QUESTIONS and share < MOST_FOUND
    }


def choose_question_words(
    corpus: Corpus, data: Path, tokenizer: Tokenizer, write: bool
) -> dict[str, object]:
    """Count the words, and what discounting them gives to questions that were not counted."""
    reading = reading_observations(data, tokenizer)
    sets = read_sets(data, "train")
    halves: dict[str, list[RetrievalSet]] = {
        name: [
            dataclasses.replace(judged, topics=dict(list(judged.topics.items())[half::2]))
            for half in (0, 1)
        ]
        for name, judged in sets.items()
    }
    outcome: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        retriever = corpus.index(Path(folder), tokenizer, SparseConfig())
        for label in ("without", "with"):
            scores: dict[str, list[float]] = {name: [] for name in SETS}
            for half in (0, 1):
                others = [
                    o for name in SETS
                    for o in judged_observations(corpus, halves[name][1 - half], tokenizer)
                ]  # fmt: skip
                weights = weights_of([*reading, *others]) if label == "with" else {}
                retriever.weigh_words(weights)
                for name in SETS:
                    judged = halves[name][half]
                    scores[name].append(ndcg(retriever, judged, list(judged.topics)))
            outcome[label] = {name: round(fmean(values), 4) for name, values in scores.items()}
    judged = [o for name in SETS for o in judged_observations(corpus, sets[name], tokenizer)]
    weights = weights_of([*reading, *judged])
    if write:
        path = Path(odqa.retrieval.__file__).with_name("question_words.json")
        text = json.dumps(weights, ensure_ascii=False, indent=0)
        path.write_text(text + "\n", encoding="utf-8")
    return {"words": len(weights), "cross-validated nDCG@10": outcome}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("what", choices=["settings", "question-words"])
    parser.add_argument("--output", type=Path, help="settings: a JSON line for each trial")
    parser.add_argument("--write", action="store_true", help="question-words: write the table")
    arguments = parser.parse_args()
    tokenizer = Remembering(create_tokenizer("mecab"))
    corpus = Corpus.read(arguments.data / "kowiki/kowiki-20k.jsonl.xz", tokenizer)
    if arguments.what == "settings":
        outcome = choose_settings(corpus, arguments.data, tokenizer, arguments.output)
    else:
        outcome = choose_question_words(corpus, arguments.data, tokenizer, arguments.write)
    print(json.dumps(outcome, ensure_ascii=False))


if __name__ == "__main__":
    main()
