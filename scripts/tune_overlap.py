"""Fit the weights of the overlap with the question, by cross-validation.

    python scripts/tune_overlap.py INDEX DATASET... [--split dev] [--set SECTION.KEY=VALUE]

INDEX is the folder of an index with both legs, a DATASET a folder with ``SPLIT.topics.tsv`` and
``SPLIT.qrels.tsv``, judged by article, or with questions and answers. A candidate is good if it is
of a relevant article, or holds an answer's string. The weights maximise the log probability of the
good ones under a softmax over the first candidates of each question, every data set counting alike
(needs torch). Measured are nDCG@10 by article, or the share of questions with an answer in the
first 20 passages: of the configured weights, of weights fitted without the question's fold
("cross-validated"), and of weights fitted on all. One JSON line goes to stdout.

Do not use questions that the dense encoder was trained on: it looks better on them than elsewhere.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from odqa.build import open_retriever
from odqa.config import Config, load_config
from odqa.corpus.datasets import read_examples
from odqa.evaluation.judgements import QRELS, read_retrieval_set
from odqa.metrics import article_of, collapse_to_articles, holds_answer, ndcg_at
from odqa.retrieval.hybrid import HybridRetriever, merge_rankings
from odqa.retrieval.overlap import FEATURES, overlap_of
from odqa.retrieval.ranking import best_first

FOLDS = 5
ARTICLES, PASSAGES = 10, 20
PENALTY = 1e-2  # on the squared weights of standardised features


@dataclass(frozen=True)
class Asked:
    """One question's first candidates.

    ``features`` is (candidates, 1 + features): the first stage's score in [0, 1], then the overlap.
    ``relevance`` is of articles, None where ``good`` says which candidates hold an answer.
    """

    features: np.ndarray
    good: np.ndarray
    ids: list[str]
    relevance: Mapping[str, int] | None

    def score(self, weights: np.ndarray) -> float:
        values = self.features @ weights
        order = sorted(range(len(self.ids)), key=lambda i: (-values[i], self.ids[i]))
        if self.relevance is None:
            return float(self.good[order[:PASSAGES]].any())
        articles = collapse_to_articles([self.ids[i] for i in order])
        return ndcg_at(ARTICLES, articles, self.relevance)


def questions_of(
    path: Path, split: str
) -> list[tuple[str, Sequence[str], Mapping[str, int] | None]]:
    """(question, answers, relevance of articles) of a data set."""
    if (path / f"{split}{QRELS}").exists():
        judged = read_retrieval_set(path, split).at_level("article")
        return [(text, (), judged.qrels[i]) for i, text in judged.topics.items()]
    return [(e.question, e.answers, None) for e in read_examples(path, split) if e.answers]


def ask(retriever: HybridRetriever, path: Path, split: str, config: Config) -> list[Asked]:
    depth, store = config.overlap.depth, retriever.store
    found = []
    for question, answers, relevance in questions_of(path, split):
        legs = (leg.rank([question], k=config.retrieval.depth)[0]
                for leg in (retriever.sparse, retriever.dense))  # fmt: skip
        merged = merge_rankings(*legs, config.retrieval)
        rows, values = np.array(list(merged), dtype=np.int64), np.array(list(merged.values()))
        ranked = best_first(rows, values, depth, store)
        passages = store.passages([row for row, _ in ranked])
        first = np.array([score for _, score in ranked])
        spread = np.ptp(first) if len(first) else 0.0
        stretched = (first - first.min()) / spread if spread > 0 else np.ones(len(first))
        overlaps = [dataclasses.astuple(o) for o in overlap_of(question, passages)]
        features = np.column_stack([stretched, np.reshape(overlaps, (-1, len(FEATURES)))])
        good = np.array(
            [holds_answer(p.text, answers) if relevance is None
             else relevance.get(article_of(p.passage_id), 0) > 0 for p in passages],
            dtype=bool,
        )  # fmt: skip
        found.append(Asked(features, good, [p.passage_id for p in passages], relevance))
    print(f"{path}: {len(found)} questions", file=sys.stderr, flush=True)
    return found


def fit(table: Mapping[str, Sequence[Asked]], fold: int | None) -> np.ndarray:
    """Weights of the features, fitted on the questions outside ``fold``."""
    chosen = [
        (asked, 1 / len(of_set))
        for of_set in table.values()
        for i, asked in enumerate(of_set)
        if i % FOLDS != fold and asked.good.any() and not asked.good.all()
    ]
    features = np.concatenate([asked.features for asked, _ in chosen])
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-9
    x = torch.tensor((features - mean) / spread)
    group = torch.tensor(np.repeat(np.arange(len(chosen)), [len(a.ids) for a, _ in chosen]))
    good = torch.tensor(np.concatenate([asked.good for asked, _ in chosen]))
    share = torch.tensor([weight for _, weight in chosen])
    share = share / share.sum()
    weights = torch.zeros(x.shape[1], dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def log_sum(scores: torch.Tensor) -> torch.Tensor:
        # features are standardised, so the exponentials stay in range
        return torch.zeros(len(chosen), dtype=x.dtype).scatter_add(0, group, scores).log()

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        exponentials = (x @ weights).exp()
        losses = log_sum(exponentials) - log_sum(exponentials * good)
        loss = (losses * share).sum() + PENALTY * (weights**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return np.maximum(weights.detach().numpy() / spread, 0)  # a weight is never below 0


def tune(table: Mapping[str, Sequence[Asked]], config: Config) -> dict[str, object]:
    configured = np.array([1.0, *(getattr(config.overlap, name) for name in FEATURES)])
    held_out = [fit(table, fold) for fold in range(FOLDS)]
    fitted = fit(table, None)
    first_stage = np.eye(1, 1 + len(FEATURES))[0]

    def means(weights_of: list[np.ndarray]) -> dict[str, float]:
        scores = {
            name: [asked.score(weights_of[i % FOLDS]) for i, asked in enumerate(of_set)]
            for name, of_set in table.items()
        }
        return {name: round(float(np.mean(of_set)), 4) for name, of_set in scores.items()}

    return {
        "first stage": means([first_stage] * FOLDS),
        "configured": means([configured] * FOLDS),
        "cross-validated": means(held_out),
        "fitted": means([fitted] * FOLDS),
        "overlap": dict(
            zip(FEATURES, (round(float(w), 3) for w in fitted[1:] / fitted[0]), strict=True)
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("datasets", type=Path, nargs="+", metavar="DATASET")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    arguments = parser.parse_args()
    config = load_config(overrides=arguments.overrides)
    retriever = open_retriever(arguments.index, config, "hybrid")
    if not isinstance(retriever, HybridRetriever):
        raise SystemExit(f"{arguments.index} has not both legs")
    torch.set_num_threads(1)
    table = {p.name: ask(retriever, p, arguments.split, config) for p in arguments.datasets}
    print(json.dumps(tune(table, config)))


if __name__ == "__main__":
    main()
