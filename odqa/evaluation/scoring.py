"""From one score a question to the figures of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from odqa import metrics
from odqa.evaluation import statistics
from odqa.evaluation.losses import STAGES

Record = Mapping[str, Any]

ANSWER_METRICS: dict[str, metrics.AnswerMetric] = {
    "exact_match": metrics.korquad_em,
    "f1": metrics.korquad_f1,
    "korquad2_exact_match": metrics.korquad2_em,
    "korquad2_f1": metrics.korquad2_f1,
    "klue_exact_match": metrics.klue_em,
    "klue_rouge_w": metrics.klue_rouge_w,
    "klue_fixed_exact_match": metrics.klue_fixed_em,
    "klue_fixed_rouge_w": metrics.klue_fixed_rouge_w,
    "xor_exact_match": metrics.xor_em,
    "xor_f1": metrics.xor_f1,
    "syllable_distance": metrics.syllable_distance,
    "jamo_distance": metrics.jamo_distance,
}
"""Every answer metric; ``exact_match`` and ``f1`` are KorQuAD 1.0's."""

DISTANCES = ("syllable_distance", "jamo_distance")
"""Counts, lower is better; all other answer metrics are shares."""

_ANSWER_HEADLINES = ("exact_match", "f1", "xor_exact_match", "xor_f1")
HEADLINES = {
    "open": _ANSWER_HEADLINES,
    "reading": _ANSWER_HEADLINES,
    "retrieval": ("ndcg@10", "hit@10"),
}
"""The figures of a task that get an interval and are compared: KorQuAD's and XOR-TyDi's (MKQA's)
own metrics, or the ranking's."""

RANKING_METRICS = {
    "ndcg": metrics.ndcg_at,
    "mrr": metrics.mrr_at,
    "recall": metrics.recall_at,
    "hit": metrics.hit_at,
}
CUTS = (1, 3, 5, 10, 20, 50, 100)


def score_answer(prediction: str, golds: Sequence[str]) -> dict[str, float]:
    """Every answer metric of one prediction.

    A question without an answer is scored as in SQuAD 2.0: an empty prediction is right by every
    metric, any other is wrong.
    """
    if golds:
        return {name: metric(prediction, golds) for name, metric in ANSWER_METRICS.items()}
    empty = float(not prediction.strip())
    return {
        name: metric(prediction, [""]) if name in DISTANCES else empty
        for name, metric in ANSWER_METRICS.items()
    }


def score_ranking(
    ranking: Sequence[str], relevance: Mapping[str, int], depth: int
) -> dict[str, float]:
    """Every ranking metric at the usual k up to ``depth``, such as ``ndcg@10``."""
    return {
        f"{name}@{k}": metric(k, ranking, relevance)
        for name, metric in RANKING_METRICS.items()
        for k in CUTS
        if k <= depth
    }


def answer_recall(texts: Sequence[str], golds: Sequence[str], depth: int) -> dict[str, float]:
    """``answer_recall@k`` at the usual k up to ``depth`` (and at ``depth`` itself)."""
    holds = [metrics.holds_answer(text, golds) for text in texts]
    cuts = sorted({k for k in CUTS if k < depth} | {depth})
    return {f"answer_recall@{k}": float(any(holds[:k])) for k in cuts}


def mean_scores(records: Sequence[Record], *, key: str = "scores") -> dict[str, float]:
    """The mean of every score over the questions: shares in percent for answers, distances as
    they are; a record without the score counts 0."""
    names = dict.fromkeys(name for record in records for name in record.get(key, {}))
    return {
        name: scale_of(name) * mean(record.get(key, {}).get(name, 0.0) for record in records)
        for name in names
    }


def scale_of(name: str) -> float:
    """100 for the answer metrics that are given in percent, 1 for the rest."""
    return 100.0 if name in ANSWER_METRICS and name not in DISTANCES else 1.0


def format_value(name: str, value: float, *, sign: str = "") -> str:
    """A figure for a person: two decimals for what is in percent, three for the rest."""
    decimals = 2 if scale_of(name) == 100 else 3
    return f"{value:{sign}.{decimals}f}"


def intervals(records: Sequence[Record], task: str, *, seed: int) -> dict[str, list[float]]:
    """95 % bootstrap intervals of the task's headline figures."""
    found: dict[str, list[float]] = {}
    for name in HEADLINES[task]:
        values = [record["scores"][name] for record in records if name in record["scores"]]
        if values:
            bounds = statistics.bootstrap_interval(values, seed=seed)
            found[name] = [scale_of(name) * bound for bound in bounds]
    return found


def losses(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """Questions lost at each stage and the EM (in points) they cost; with EM it adds up to 100."""
    lost = [record["stage"] for record in records if record["stage"]]
    return {
        stage: {"n": n, "exact_match": 100 * n / len(records)}
        for stage in STAGES
        if (n := lost.count(stage))
    }


def calibration(records: Sequence[Record]) -> dict[str, Any]:
    """Is the best answer's probability the share of right ones? ECE, Brier score, bins."""
    probabilities = [record["probability"] for record in records]
    right = [record["best_is_right"] for record in records]
    bins = statistics.reliability(probabilities, right)
    return {
        "expected_calibration_error": statistics.expected_calibration_error(bins),
        "brier": statistics.brier(probabilities, right),
        "bins": [
            {"low": b.low, "high": b.high, "n": b.n, "mean_probability": b.mean_probability,
             "accuracy": b.accuracy}
            for b in bins
        ],
    }  # fmt: skip


def selective(records: Sequence[Record]) -> dict[str, Any]:
    """Risk and coverage when only the surest answers are given (by ``record["confidence"]``)."""
    points, area = statistics.risk_coverage(
        [record["confidence"] for record in records],
        [record["best_is_right"] for record in records],
    )
    step = max(1, len(points) // 200)
    kept = points[::step] if points[::step][-1] == points[-1] else [*points[::step], points[-1]]
    return {"area": area, "points": [list(point) for point in kept]}


def no_answer(records: Sequence[Record]) -> dict[str, Any] | None:
    """How well questions without an answer are told apart; None where there are none."""
    unanswerable = [not record["answers"] for record in records]
    if not any(unanswerable):
        return None
    given_none = [not record["prediction"] for record in records]
    both = sum(u and g for u, g in zip(unanswerable, given_none, strict=True))
    return {
        "n": sum(unanswerable),
        "auroc": statistics.auroc([r["no_answer_score"] for r in records], unanswerable),
        "n_abstained": sum(given_none),
        "precision": both / sum(given_none) if any(given_none) else None,
        "recall": both / sum(unanswerable),
    }


def latency(seconds: Sequence[float]) -> dict[str, float]:
    """Quantiles of the seconds that a question alone takes."""
    p50, p95 = np.quantile(np.asarray(seconds), [0.5, 0.95])
    return {"n": len(seconds), "p50_seconds": float(p50), "p95_seconds": float(p95)}


def mean(values: Iterable[float]) -> float:
    """The mean; 0 of nothing."""
    kept = list(values)
    return float(np.mean(kept)) if kept else 0.0
