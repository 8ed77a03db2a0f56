"""Uncertainty, calibration and selective answering: pure functions over one value a question."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

_CHUNK = 500  # resamples drawn at once, so that memory stays small


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers whose probability lies in (low, high] (the first bin holds 0 as well)."""

    low: float
    high: float
    n: int
    mean_probability: float
    accuracy: float


def bootstrap_interval(
    values: Sequence[float], *, seed: int, resamples: int = 10_000, level: float = 0.95
) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean (Efron 1979): questions drawn with return."""
    means = _resampled_means(np.asarray(values, dtype=np.float64), seed, resamples)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def paired_bootstrap(
    ours: Sequence[float], theirs: Sequence[float], *, seed: int, resamples: int = 10_000
) -> dict[str, float]:
    """The mean difference ours - theirs over the same questions, and how sure it is.

    ``low`` and ``high`` bound 95 % of the resampled differences; ``p_value`` is two-sided: twice
    the share of resamples on the far side of 0 (Efron & Tibshirani 1993; Koehn 2004), with one
    resample added so that it is never 0.
    """
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    means = _resampled_means(differences, seed, resamples)
    far = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    low, high = np.quantile(means, [0.025, 0.975])
    return {
        "difference": float(differences.mean()),
        "low": float(low),
        "high": float(high),
        "p_value": min(1.0, 2 * (int(far) + 1) / (resamples + 1)),
    }


def mcnemar_exact(only_ours: int, only_theirs: int) -> float:
    """The exact two-sided p-value of McNemar's test (1947): a fair coin for each question that
    only one of two systems has right."""
    n = only_ours + only_theirs
    tail = sum(math.comb(n, i) for i in range(min(only_ours, only_theirs) + 1))
    share: float = 2 * tail / 2**n  # of whole numbers: exact for any n
    return min(1.0, share)


def auroc(scores: Sequence[float], positive: Sequence[bool]) -> float | None:
    """The chance that a positive scores above a negative, ties counted half (Mann & Whitney 1947).

    None where one of the two kinds is missing.
    """
    labels = np.asarray(positive, dtype=bool)
    n_positive = int(labels.sum())
    n_negative = len(labels) - n_positive
    if n_positive == 0 or n_negative == 0:
        return None
    _, group, counts = np.unique(np.asarray(scores), return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2  # ranks from 1; equal scores share theirs
    rank_sum = float(mean_rank[group][labels].sum())
    pairs_won: float = rank_sum - n_positive * (n_positive + 1) / 2
    return pairs_won / (n_positive * n_negative)


def brier(probabilities: Sequence[float], right: Sequence[bool]) -> float:
    """The mean squared difference of probability and outcome (Brier 1950)."""
    return float(np.mean((np.asarray(probabilities) - np.asarray(right, dtype=np.float64)) ** 2))


def reliability(
    probabilities: Sequence[float], right: Sequence[bool], *, n_bins: int = 10
) -> list[Bin]:
    """The bins of equal width that hold an answer, lowest first."""
    values, outcomes = np.asarray(probabilities, dtype=np.float64), np.asarray(right, dtype=bool)
    index = np.clip(np.ceil(values * n_bins).astype(int) - 1, 0, n_bins - 1)
    return [
        Bin(
            low=i / n_bins,
            high=(i + 1) / n_bins,
            n=int(inside.sum()),
            mean_probability=float(values[inside].mean()),
            accuracy=float(outcomes[inside].mean()),
        )
        for i in range(n_bins)
        if (inside := index == i).any()
    ]


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """ECE (Naeini et al. 2015): |accuracy - mean probability| of a bin, weighted by its size."""
    n = sum(item.n for item in bins)
    return sum(item.n * abs(item.accuracy - item.mean_probability) for item in bins) / n


def risk_coverage(
    confidences: Sequence[float], right: Sequence[bool]
) -> tuple[list[tuple[float, float]], float]:
    """The risk–coverage curve and its area (El-Yaniv & Wiener 2010; Geifman et al. 2019).

    A point (coverage, risk) is the share of the questions answered when only the surest are, and
    the share of wrong ones among them; questions of equal confidence come in together. The area
    is the mean risk over the coverages 1/n, 2/n, ... 1, equal confidences taken in random order.
    """
    values, wrong = np.asarray(confidences, dtype=np.float64), ~np.asarray(right, dtype=bool)
    n = len(values)
    levels, group, counts = np.unique(-values, return_inverse=True, return_counts=True)
    wrong_in = np.bincount(group, weights=wrong, minlength=len(levels))
    expected = np.repeat(wrong_in / counts, counts)  # a group's errors, spread evenly over it
    risks = np.cumsum(expected) / np.arange(1, n + 1)
    ends = np.cumsum(counts)
    return [(float(end / n), float(risks[end - 1])) for end in ends], float(risks.mean())


def _resampled_means(values: Values, seed: int, resamples: int) -> Values:
    generator = np.random.default_rng(seed)
    means = [
        values[
            generator.integers(0, len(values), (min(_CHUNK, resamples - begin), len(values)))
        ].mean(axis=1)
        for begin in range(0, resamples, _CHUNK)
    ]
    return np.concatenate(means)
