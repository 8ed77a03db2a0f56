"""Choose BM25's k1, b and title_weight by a grid over training questions.

    python scripts/tune_bm25.py DATA [--tokenizer mecab] [--output grid.jsonl]

DATA is a folder with ``kowiki/kowiki-20k.jsonl.xz``, ``miracl-ko``, ``mrtydi-ko`` and ``korquad1``.
The setting with the best mean nDCG@10 over the three sets' train questions is chosen; dev questions
are only looked at for the chosen setting and for the configured one. MIRACL and Mr.TyDi are judged
by article over the 20,000 articles, KorQuAD by passage over its own paragraphs.

One JSON line a setting goes to --output, one with the outcome to stdout.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from odqa.build.shards import index_terms
from odqa.config import CorpusConfig, SparseConfig
from odqa.corpus import read_documents
from odqa.corpus.passages import split_passages
from odqa.evaluation.judgements import RetrievalSet, read_retrieval_set
from odqa.metrics import article_of, collapse_to_articles, ndcg_at
from odqa.protocols import Tokenizer
from odqa.retrieval.bm25 import Bm25Retriever, write_bm25
from odqa.text.tokenizers import create_tokenizer
from odqa.types import Passage

DEPTH = 10
CANDIDATES = 60  # passages that give ten articles
SHARD = 5_000  # passages

Numbers = np.ndarray


class Remembering:
    """A tokenizer that parses each question once, whatever the number of settings."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, list[str]] = {}
        self.fingerprint = tokenizer.fingerprint

    def tokenize(self, texts: Sequence[str]) -> list[list[str]]:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known |= dict(zip(new, self._tokenizer.tokenize(new), strict=True))
        return [self._known[text] for text in texts]


class Ids(list[str]):
    """Passage ids as a store; the texts are not looked at."""

    def __getitem__(self, row: int) -> Passage:  # type: ignore[override]
        passage_id = super().__getitem__(row)
        return Passage(passage_id, article_of(passage_id), "", "", 0, 0)

    def passage_ids(self, rows: Sequence[int]) -> list[str]:
        return [super(Ids, self).__getitem__(row) for row in rows]


@dataclass(frozen=True)
class Corpus:
    """The passages of a corpus as term numbers, titles apart from texts."""

    ids: Ids
    titles: list[Numbers]
    texts: list[Numbers]
    vocabulary: list[str]

    @classmethod
    def read(cls, source: Path, tokenizer: Tokenizer) -> Corpus:
        config = CorpusConfig()
        passages = [p for d in read_documents(source) for p in split_passages(d, config)]
        numbers: dict[str, int] = {}
        return cls(
            Ids(passage.passage_id for passage in passages),
            _numbered(tokenizer.tokenize([p.title for p in passages]), numbers),
            _numbered(index_terms(passages, tokenizer, 0), numbers),
            list(numbers),
        )

    def index(self, directory: Path, tokenizer: Tokenizer, config: SparseConfig) -> Bm25Retriever:
        pairs = zip(self.titles, self.texts, strict=True)
        rows = (np.concatenate([*[title] * config.title_weight, text]) for title, text in pairs)
        shards = iter(lambda: list(itertools.islice(rows, SHARD)), [])
        write_bm25(directory, shards, self.vocabulary, config)
        return Bm25Retriever.open(directory, self.ids, tokenizer, config)


def _numbered(passages: Iterable[Sequence[str]], numbers: dict[str, int]) -> list[Numbers]:
    return [
        np.array([numbers.setdefault(term, len(numbers)) for term in terms], dtype=np.int32)
        for terms in passages
    ]


@dataclass(frozen=True)
class Trial:
    """A question set, the corpus it is asked over, and how it is judged."""

    name: str
    corpus: Corpus
    questions: RetrievalSet
    by_article: bool

    def ndcg(self, retriever: Bm25Retriever) -> float:
        """Mean nDCG@10 over the questions; one that finds nothing counts 0."""
        found = retriever.retrieve(list(self.questions.topics.values()), k=CANDIDATES)
        scores = []
        for question_id, candidates in zip(self.questions.topics, found, strict=True):
            ranking = [candidate.passage.passage_id for candidate in candidates]
            relevance = dict(self.questions.qrels[question_id])
            if self.by_article:
                ranking = collapse_to_articles(ranking)
                judged = sorted(relevance.items(), key=lambda item: item[1])
                relevance = {article_of(item): grade for item, grade in judged}
            scores.append(ndcg_at(DEPTH, ranking, relevance))
        return fmean(scores)


def read_trials(data: Path, tokenizer: Tokenizer, split: str, corpora: list[Corpus]) -> list[Trial]:
    wiki, train_paragraphs, dev_paragraphs = corpora
    paragraphs = train_paragraphs if split == "train" else dev_paragraphs
    korquad = read_retrieval_set(data / "korquad1", split)
    return [
        *(Trial(name, wiki, read_retrieval_set(data / name, split), True)
          for name in ("miracl-ko", "mrtydi-ko")),
        Trial("korquad1", paragraphs, korquad, False),
    ]  # fmt: skip


def measure(
    trials: Sequence[Trial], tokenizer: Tokenizer, config: SparseConfig
) -> dict[str, float]:
    """nDCG@10 of each trial, and their mean."""
    scores = {}
    with tempfile.TemporaryDirectory() as folder:
        retrievers: dict[int, Bm25Retriever] = {}
        for trial in trials:
            key = id(trial.corpus)
            if key not in retrievers:
                directory = Path(folder, str(len(retrievers)))
                retrievers[key] = trial.corpus.index(directory, tokenizer, config)
            scores[trial.name] = round(trial.ndcg(retrievers[key]), 4)
    return {**scores, "mean": round(fmean(scores.values()), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--tokenizer", default="mecab")
    parser.add_argument("--k1", type=float, nargs="+", default=[0.9, 1.2, 1.6, 2.2, 3.0])
    parser.add_argument("--b", type=float, nargs="+", default=[0.2, 0.3, 0.4, 0.55, 0.75])
    parser.add_argument("--title-weight", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--output", type=Path, help="a JSON line for each setting")
    arguments = parser.parse_args()

    tokenizer = Remembering(create_tokenizer(arguments.tokenizer))
    sources = ("kowiki/kowiki-20k.jsonl.xz", "korquad1/train.json", "korquad1/dev.json")
    corpora = [Corpus.read(arguments.data / source, tokenizer) for source in sources]
    train = read_trials(arguments.data, tokenizer, "train", corpora)
    lines = []
    grid = itertools.product(arguments.title_weight, arguments.k1, arguments.b)
    for title_weight, k1, b in grid:
        config = SparseConfig(k1=k1, b=b, title_weight=title_weight)
        lines.append((measure(train, tokenizer, config), config))
        print(json.dumps({**_setting(config), **lines[-1][0]}), file=sys.stderr, flush=True)
    if arguments.output is not None:
        rows = (json.dumps({**_setting(config), **scores}) for scores, config in lines)
        arguments.output.write_text("\n".join(rows) + "\n", encoding="utf-8")

    best = max(lines, key=lambda line: line[0]["mean"])[1]
    dev = read_trials(arguments.data, tokenizer, "dev", corpora)
    outcome = {
        "tokenizer": arguments.tokenizer,
        "metric": f"nDCG@{DEPTH}",
        "chosen": {**_setting(best), "dev": measure(dev, tokenizer, best)},
        "configured": {**_setting(SparseConfig()), "dev": measure(dev, tokenizer, SparseConfig())},
    }
    print(json.dumps(outcome))


def _setting(config: SparseConfig) -> dict[str, float]:
    return {key: asdict(config)[key] for key in ("k1", "b", "title_weight")}


if __name__ == "__main__":
    main()
