"""Statistics of a run against figures worked by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odqa.evaluation import statistics


def test_bootstrap_interval_brackets_the_mean_and_is_reproducible() -> None:
    values = [1.0] * 60 + [0.0] * 40
    low, high = statistics.bootstrap_interval(values, seed=1)
    assert low < 0.6 < high
    # the normal approximation: 0.6 ± 1.96 * sqrt(0.6 * 0.4 / 100)
    half = 1.96 * (0.6 * 0.4 / 100) ** 0.5
    assert (low, high) == (pytest.approx(0.6 - half, abs=0.02), pytest.approx(0.6 + half, abs=0.02))
    assert statistics.bootstrap_interval(values, seed=1) == (low, high)
    assert statistics.bootstrap_interval([1.0, 1.0], seed=1) == (1.0, 1.0)


def test_the_interval_holds_95_percent() -> None:
    """2,500 questions, half of them right: the mean's deviation is sqrt(0.5 * 0.5 / 2500) = 0.01.

    So 95 % lie within 1.96 * 0.01; 93 % would within 1.81 * 0.01, 97 % within 2.17 * 0.01. That
    2.5 % of 10,000 resamples are counted, not known, moves a bound by some 0.0003.
    """
    values = [1.0, 0.0] * 1250
    expected = (pytest.approx(0.5 - 0.0196, abs=1e-3), pytest.approx(0.5 + 0.0196, abs=1e-3))
    assert statistics.bootstrap_interval(values, seed=1) == expected
    paired = statistics.paired_bootstrap([2.0, 1.0] * 1250, [1.0] * 2500, seed=1)
    assert (paired["low"], paired["high"]) == expected
    # 80 % lie within 1.2816 deviations
    low, high = statistics.bootstrap_interval(values, seed=1, level=0.8)
    assert (low, high) == (pytest.approx(0.4872, abs=1e-3), pytest.approx(0.5128, abs=1e-3))


def test_p_value_of_the_paired_bootstrap() -> None:
    """Three questions gained, one lost: a resample is not above 0 if it draws two gains at most.

    The gains drawn are binomial (4, 3/4), so that has the chance (1 + 4 * 3 + 6 * 9) / 4**4.
    """
    ours, theirs = [1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]
    expected = pytest.approx(2 * (1 + 4 * 3 + 6 * 9) / 4**4, abs=0.03)
    assert statistics.paired_bootstrap(ours, theirs, seed=1)["p_value"] == expected
    assert statistics.paired_bootstrap(theirs, ours, seed=1)["p_value"] == expected


def test_paired_bootstrap() -> None:
    better = statistics.paired_bootstrap([1.0] * 30 + [0.0] * 70, [0.0] * 100, seed=1)
    assert better["difference"] == pytest.approx(0.3)
    assert 0 < better["low"] < 0.3 < better["high"]
    assert better["p_value"] == pytest.approx(2 * 1 / 10_001)
    same = statistics.paired_bootstrap([1.0, 0.0], [1.0, 0.0], seed=1)
    assert (same["difference"], same["low"], same["high"], same["p_value"]) == (0, 0, 0, 1)


def test_pairing_matters() -> None:
    """The same two means: a steady small gain is sure, the same gain among noise is not."""
    steady = statistics.paired_bootstrap([0.6] * 50, [0.5] * 50, seed=1)
    noisy = statistics.paired_bootstrap([1.0] * 30 + [0.0] * 20, [0.0] * 25 + [1.0] * 25, seed=1)
    assert steady["difference"] == pytest.approx(noisy["difference"])
    assert steady["p_value"] < 0.01 < noisy["p_value"]


def test_mcnemar() -> None:
    assert statistics.mcnemar_exact(0, 0) == 1.0
    assert statistics.mcnemar_exact(5, 5) == 1.0
    # 1 head of 6 throws: 2 * (C(6,0) + C(6,1)) / 2**6
    assert statistics.mcnemar_exact(5, 1) == pytest.approx(2 * (1 + 6) / 64)
    assert statistics.mcnemar_exact(1, 5) == statistics.mcnemar_exact(5, 1)
    assert 0 < statistics.mcnemar_exact(2000, 1800) < 0.01  # beyond what floats could count


def test_auroc() -> None:
    # pairs (0.9 or 0.4 against 0.5 or 0.1): won, won, lost, won
    assert statistics.auroc([0.9, 0.4, 0.5, 0.1], [True, True, False, False]) == 3 / 4
    assert statistics.auroc([0.5, 0.5], [True, False]) == 0.5
    assert statistics.auroc([0.5, 0.7, 0.5], [True, False, False]) == (0 + 0.5) / 2
    assert statistics.auroc([0.5], [True]) is None


def test_brier_and_calibration_error() -> None:
    probabilities, right = [0.95, 0.85, 0.9, 0.0], [True, False, True, False]
    assert statistics.brier(probabilities, right) == pytest.approx(
        (0.05**2 + 0.85**2 + 0.1**2 + 0.0**2) / 4
    )
    bins = statistics.reliability(probabilities, right)
    assert [(b.low, b.n, b.accuracy) for b in bins] == [(0.0, 1, 0.0), (0.8, 2, 0.5), (0.9, 1, 1.0)]
    assert [(b.high, b.mean_probability) for b in bins] == [
        (0.1, 0.0),
        (0.9, pytest.approx((0.85 + 0.9) / 2)),
        (1.0, 0.95),
    ]
    assert statistics.expected_calibration_error(bins) == pytest.approx(
        (1 * 0.0 + 2 * abs(0.5 - (0.85 + 0.9) / 2) + 1 * abs(1 - 0.95)) / 4
    )


def test_risk_coverage() -> None:
    points, area = statistics.risk_coverage([0.9, 0.8, 0.3, 0.1], [True, False, True, False])
    assert points == [(1 / 4, 0.0), (2 / 4, 1 / 2), (3 / 4, 1 / 3), (1.0, 2 / 4)]
    assert area == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)


def test_risk_coverage_with_equal_confidences_has_no_order() -> None:
    for right in ([True, False], [False, True]):
        points, area = statistics.risk_coverage([0.5, 0.5], right)
        assert points == [(1.0, 0.5)]
        assert area == 0.5


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
def test_bounds(pairs: list[tuple[float, bool]]) -> None:
    probabilities, right = [p for p, _ in pairs], [r for _, r in pairs]
    bins = statistics.reliability(probabilities, right)
    assert sum(b.n for b in bins) == len(pairs)
    assert 0 <= statistics.expected_calibration_error(bins) <= 1
    points, area = statistics.risk_coverage(probabilities, right)
    assert points[-1] == (1.0, pytest.approx(right.count(False) / len(right)))
    assert 0 <= area <= 1
    score = statistics.auroc(probabilities, right)
    assert score is None or 0 <= score <= 1
