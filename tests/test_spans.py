"""Decoding of logits worked by hand, and against every span there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odqa.models.pieces import Pieces
from odqa.reading.spans import FREE_CHARS, Span, best_spans, decode_window
from odqa.reading.windows import Window


def passage_of(*lengths: int) -> Pieces:
    """Pieces of so many characters, one after the other."""
    ends = np.cumsum(lengths).astype(np.int32)
    return Pieces(np.arange(len(lengths), dtype=np.int32), ends - np.array(lengths, np.int32), ends)


def window_of(count: int, *, offset: int = 2, first: int = 0) -> Window:
    ids = np.zeros(offset + count + 1, dtype=np.int32)
    return Window(ids, offset, offset, first, count)


def logits(window: Window, values: list[float], null: float = 0.0) -> np.ndarray:
    """Logits of the passage's pieces; -9 on all else but the first token, which has ``null``."""
    found = np.full(len(window.ids), -9, dtype=np.float32)
    found[0] = null
    found[window.offset : window.offset + window.count] = values
    return found


def decode(
    starts: list[float],
    ends: list[float],
    lengths: list[int],
    *,
    null: tuple[float, float] = (0.0, 0.0),
    n_best: int = 3,
    max_answer_chars: int = 60,
    length_penalty: float = 0.0,
) -> list[Span]:
    window = window_of(len(starts))
    return decode_window(
        logits(window, starts, null[0]),
        logits(window, ends, null[1]),
        window,
        passage_of(*lengths),
        max_answer_chars=max_answer_chars,
        n_best=n_best,
        length_penalty=length_penalty,
    )


def test_spans_by_hand() -> None:
    found = decode([1, 5, 0], [0, 3, 2], [2, 3, 4], null=(1, 0.5))
    assert found == [
        Span(2, 5, 5 + 3 - (1 + 0.5)),  # piece 1 alone
        Span(2, 9, 5 + 2 - (1 + 0.5)),  # pieces 1 and 2
        Span(0, 5, 1 + 3 - (1 + 0.5)),  # pieces 0 and 1
    ]


def test_an_end_before_its_start_is_no_span() -> None:
    found = decode([0, 10], [10, 0], [1, 1], n_best=9)
    assert found == [Span(0, 1, 0 + 10), Span(1, 2, 10 + 0), Span(0, 2, 0 + 0)]


def test_each_character_beyond_the_eighth_costs() -> None:
    found = decode([4, 0], [0, 3], [6, 5], length_penalty=0.25, n_best=1)
    assert found == [Span(0, 11, 4 + 3 - 0.25 * (11 - FREE_CHARS))]
    found = decode([4, 0], [0, 3], [6, 5], length_penalty=2.0, n_best=3)
    # 7 - 2 * 3 = 1 is less than the first piece alone, 4 + 0, and the second, 0 + 3
    assert found == [Span(0, 6, 4.0), Span(6, 11, 3.0), Span(0, 11, 4 + 3 - 2.0 * 3)]


def test_a_span_too_long_is_no_answer() -> None:
    found = decode([4, 0], [0, 3], [6, 5], max_answer_chars=10, n_best=9)
    assert found == [Span(0, 6, 4.0), Span(6, 11, 3.0)]
    assert decode([4, 0], [0, 3], [6, 5], max_answer_chars=4) == []


def test_ties_go_to_the_first_start_then_the_first_end() -> None:
    alike = [1.0] * 12
    everything = decode(alike, alike, [1] * 12, n_best=1000)
    assert len(everything) == 12 * 13 / 2
    assert [(s.start, s.end) for s in everything] == sorted((s.start, s.end) for s in everything)
    for n_best in (1, 2, 5, 13, 40):
        assert decode(alike, alike, [1] * 12, n_best=n_best) == everything[:n_best]


def test_a_piece_of_no_characters_is_no_answer() -> None:
    assert decode([9], [9], [0]) == []
    assert decode([9, 0], [9, 0], [0, 2]) == [Span(0, 2, 9.0), Span(0, 2, 0.0)]


def test_a_window_without_passage_gives_nothing() -> None:
    assert decode([], [], []) == []


def test_two_overlapping_windows() -> None:
    passage = passage_of(1, 1, 1, 1)
    settings = {"max_answer_chars": 60, "n_best": 2}
    first, second = window_of(3), window_of(3, first=1)
    found = decode_window(
        logits(first, [0, 0, 2], 1), logits(first, [0, 0, 3], 1), first, passage, **settings
    )
    assert found[0] == Span(2, 3, 2 + 3 - (1 + 1))
    found += decode_window(
        logits(second, [0, 4, 0]), logits(second, [0, 5, 0]), second, passage, **settings
    )
    assert found[2] == Span(2, 3, 4 + 5)  # the same text, seen better
    best = best_spans(found, n_best=3)
    assert best == [
        Span(2, 3, 9.0),
        Span(1, 3, 0 + 5),  # of the second window: pieces 1 and 2
        Span(0, 3, 0 + 3 - (1 + 1)),  # of the first: pieces 0 to 2
    ]
    assert best_spans(reversed(found), n_best=3) == best
    assert best_spans([], n_best=3) == []


values = st.lists(
    st.tuples(st.integers(-6, 6), st.integers(-6, 6), st.integers(0, 7)), min_size=1, max_size=14
)


@settings(deadline=None, max_examples=200)
@given(
    values,
    st.integers(1, 30),
    st.integers(1, 8),
    st.sampled_from([0.0, 0.25]),
    st.tuples(st.integers(-3, 3), st.integers(-3, 3)),
)
def test_the_best_are_those_of_every_span(
    pieces: list[tuple[int, int, int]],
    longest: int,
    n_best: int,
    penalty: float,
    null: tuple[int, int],
) -> None:
    starts, ends, lengths = (list(column) for column in zip(*pieces, strict=True))
    passage = passage_of(*lengths)
    every = []
    for i in range(len(pieces)):
        for j in range(i, len(pieces)):
            start, end = int(passage.starts[i]), int(passage.ends[j])
            if 0 < end - start <= longest:
                cost = penalty * max(end - start - FREE_CHARS, 0)
                every.append(Span(start, end, starts[i] + ends[j] - sum(null) - cost))
    every.sort(key=lambda s: (-s.score, s.start, s.end))
    found = decode(
        starts, ends, lengths, null=null, n_best=n_best,
        max_answer_chars=longest, length_penalty=penalty,
    )  # fmt: skip
    assert [s.score for s in found] == pytest.approx([s.score for s in every[:n_best]])
    if 0 not in lengths:  # two spans of pieces may be one of characters
        assert found == every[:n_best]
