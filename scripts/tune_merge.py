"""Choose the weights of the hybrid merge on training questions, by cross-validation.

    python scripts/tune_merge.py INDEX DATASET... [--split train] [--depth 100]

INDEX is the folder of an index, a DATASET a folder with ``SPLIT.topics.tsv`` and
``SPLIT.qrels.tsv``, judged by article. Both legs are asked once. In each of five folds the setting
with the best nDCG@10 on the other four is chosen and measured on the fold, so that the figure
"cross-validated" is of questions that were not chosen on. One JSON line goes to stdout.

An encoder that was itself trained on these questions looks better on them than on others, and the
weight leans towards it: compare with questions that it has not seen.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from odqa.build import open_retriever
from odqa.config import Config, RetrievalConfig
from odqa.evaluation.judgements import read_retrieval_set
from odqa.metrics import collapse_to_articles, ndcg_at
from odqa.retrieval.hybrid import HybridRetriever, merge_rankings
from odqa.retrieval.ranking import PassageLookup, Ranking

DEPTH = 10
FOLDS = 5
SETTINGS = [
    *(RetrievalConfig(sparse_weight=weight / 20) for weight in range(21)),
    *(RetrievalConfig(merge="rrf", rrf_k=k) for k in (10, 30, 60)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("datasets", type=Path, nargs="+", metavar="DATASET")
    parser.add_argument("--split", default="train")
    parser.add_argument("--depth", type=int, default=100, help="candidates of each leg")
    arguments = parser.parse_args()
    retriever = open_retriever(arguments.index, Config(), "hybrid")
    if not isinstance(retriever, HybridRetriever):
        raise SystemExit(f"{arguments.index} has not both legs")
    table = {
        path.name: _scores(retriever, path, arguments.split, arguments.depth)
        for path in arguments.datasets
    }
    everything = {name: list(range(len(rows))) for name, rows in table.items()}
    best = _best(table, everything)
    outcome = {
        "chosen": _name(SETTINGS[best]),
        "cross-validated": _cross_validated(table),
        "all": {
            _name(setting): {name: _mean(table[name], everything[name], i) for name in table}
            for i, setting in enumerate(SETTINGS)
        },
    }
    print(json.dumps(outcome))


Table = dict[str, list[list[float]]]
"""nDCG@10 by data set, question and setting."""


def _scores(retriever: HybridRetriever, path: Path, split: str, depth: int) -> list[list[float]]:
    judged = read_retrieval_set(path, split).at_level("article")
    questions = list(judged.topics.values())
    sparse = retriever.sparse.rank(questions, k=depth)
    dense = retriever.dense.rank(questions, k=depth)
    return [
        [_ndcg(s, d, dict(judged.qrels[q]), setting, retriever.store) for setting in SETTINGS]
        for q, s, d in zip(judged.topics, sparse, dense, strict=True)
    ]


def _ndcg(
    sparse: Ranking,
    dense: Ranking,
    relevance: dict[str, int],
    setting: RetrievalConfig,
    store: PassageLookup,
) -> float:
    scores = merge_rankings(sparse, dense, setting)
    ids = dict(zip(scores, store.passage_ids(list(scores)), strict=True))
    order = sorted(scores, key=lambda row: (-scores[row], ids[row]))
    return ndcg_at(DEPTH, collapse_to_articles([ids[row] for row in order]), relevance)


def _mean(rows: list[list[float]], questions: Sequence[int], setting: int) -> float:
    return round(fmean(rows[q][setting] for q in questions), 4)


def _best(table: Table, chosen: dict[str, list[int]]) -> int:
    """The setting with the best mean over the data sets, on the questions given."""
    means = [
        fmean(_mean(table[name], questions, i) for name, questions in chosen.items())
        for i in range(len(SETTINGS))
    ]
    return means.index(max(means))


def _cross_validated(table: Table) -> dict[str, float]:
    scores: dict[str, list[float]] = {name: [] for name in table}
    for fold in range(FOLDS):
        others = {
            name: [q for q in range(len(rows)) if q % FOLDS != fold] for name, rows in table.items()
        }
        best = _best(table, others)
        for name, rows in table.items():
            scores[name] += [rows[q][best] for q in range(fold, len(rows), FOLDS)]
    return {name: round(fmean(values), 4) for name, values in scores.items()}


def _name(setting: RetrievalConfig) -> str:
    values = dataclasses.asdict(setting)
    keys = ("sparse_weight",) if setting.merge == "weighted" else ("merge", "rrf_k")
    return " ".join(f"{key}={values[key]}" for key in keys)


if __name__ == "__main__":
    main()
