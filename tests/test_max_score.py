"""The search of a sum of columns against adding all of them, whatever the blocks."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odqa.retrieval.max_score import Column, MaxScore


def make_columns(
    n_rows: int, sizes: Sequence[int], weights: Sequence[float], seed: int
) -> list[Column]:
    """Longer columns have smaller entries, as with terms; few values, so that sums tie."""
    rng = np.random.default_rng(seed)
    columns = []
    for size, weight in zip(sizes, weights, strict=False):
        rows = np.sort(rng.choice(n_rows, min(size, n_rows), replace=False)).astype(np.int32)
        share = np.log(1 + n_rows / len(rows)) / 4
        entries = (share * rng.integers(1, 5, len(rows))).astype(np.float32)
        columns.append(Column(rows, entries, np.float32(weight), weight * float(entries.max())))
    return sorted(columns, key=lambda column: -column.bound)


def add_all(n_rows: int, columns: Sequence[Column], k: int) -> dict[int, float]:
    sums = np.zeros(n_rows, dtype=np.float32)
    for column in columns:
        sums[column.rows] += column.entries * column.weight
    above = np.sort(sums[sums > 0])
    kth = above[-k] if len(above) >= k else 0
    return {row: float(sums[row]) for row in np.flatnonzero((sums > 0) & (sums >= kth)).tolist()}


def found(search: MaxScore, columns: Sequence[Column], k: int) -> dict[int, float]:
    rows, sums = search.top_rows(columns, k)
    assert len(set(rows.tolist())) == len(rows)
    return dict(zip(rows.tolist(), sums.tolist(), strict=True))


@given(
    n_rows=st.sampled_from([1, 63, 64, 65, 500, 2000]),
    sizes=st.lists(st.sampled_from([1, 3, 30, 120, 400, 1500]), max_size=8),
    weights=st.lists(st.sampled_from([0.25, 1.0, 1.0, 2.0]), min_size=8, max_size=8),
    k=st.sampled_from([1, 2, 10, 100, 3000]),
    block=st.sampled_from([64, 192, 1024, 4096]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=150, deadline=None)
def test_it_finds_what_adding_everything_finds(
    n_rows: int, sizes: list[int], weights: list[float], k: int, block: int, seed: int
) -> None:
    columns = make_columns(n_rows, sizes, weights, seed)
    search = MaxScore(n_rows, rows_of_a_block=block)
    expected = add_all(n_rows, columns, k)
    for _ in range(2):  # the second time with what the first has left behind
        assert found(search, columns, k) == expected  # to the last bit


@pytest.mark.parametrize("block", [1 << 12, 1 << 16])
@pytest.mark.parametrize("k", [1, 10, 100])
def test_on_columns_as_long_as_real_ones(k: int, block: int) -> None:
    n_rows = 50_000
    search = MaxScore(n_rows, rows_of_a_block=block)
    for seed in range(20):
        sizes = np.random.default_rng(seed).zipf(1.2, 12) % 30_000 + 1
        columns = make_columns(n_rows, sizes.tolist(), [1.0, 0.5] * 6, seed)
        assert found(search, columns, k) == add_all(n_rows, columns, k)


def test_few_entries_of_long_columns_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    n_rows = 200_000
    columns = make_columns(n_rows, [300, 1_000, 20_000, 90_000], [1.0] * 4, seed=1)
    added = 0
    add_at = np.add.at

    class Counting:
        def at(self, sums: object, places: np.ndarray, entries: object) -> None:
            nonlocal added
            added += len(places)
            add_at(sums, places, entries)

    monkeypatch.setattr(np, "add", Counting())
    result = found(MaxScore(n_rows), columns, 20)
    monkeypatch.undo()
    assert result == add_all(n_rows, columns, 20)
    assert added < 5_000


def test_threads_share_a_search() -> None:
    n_rows = 20_000
    search = MaxScore(n_rows, rows_of_a_block=2048)
    asked = [
        make_columns(n_rows, [50, 700, 3_000, 9_000], [1.0, 2.0, 0.5, 1.0], seed)
        for seed in range(40)
    ]
    expected = [add_all(n_rows, columns, 30) for columns in asked]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda columns: found(search, columns, 30), asked)) == expected


def test_an_interrupted_search_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    n_rows = 5_000
    columns = make_columns(n_rows, [40, 400, 2_000], [1.0] * 3, seed=3)
    search = MaxScore(n_rows, rows_of_a_block=1024)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("odqa.retrieval.max_score._Block.reaching", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search.top_rows(columns, 10)
    monkeypatch.undo()
    assert found(search, columns, 10) == add_all(n_rows, columns, 10)


def test_no_columns_and_no_rows() -> None:
    assert found(MaxScore(10), [], 3) == {}
    assert found(MaxScore(0), [], 3) == {}
