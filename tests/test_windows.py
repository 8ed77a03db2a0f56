"""Windows cover the passage, overlap by the stride, and are laid out as the model was trained."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from odqa.models.pieces import Pieces
from odqa.reading.windows import Layout, Window, WindowLimits, make_windows

ROBERTA = Layout((0,), (2, 2), (2,), pad=1)
TITLED = Layout((0,), (2, 2), (2,), pad=1, title_separator=(2,))
BERT = Layout((101,), (102,), (102,), pad=0, token_types=True)


def pieces(n: int, first: int = 1000) -> Pieces:
    ids = np.arange(first, first + n, dtype=np.int32)
    offsets = np.arange(n, dtype=np.int32)
    return Pieces(ids, 2 * offsets, 2 * offsets + 2)


def ids(window: Window) -> list[int]:
    return [int(i) for i in window.ids]


def test_the_layout_of_one_window() -> None:
    limits = WindowLimits(max_length=20, stride=4, max_question_length=5, max_title_length=2)
    question, title, passage = pieces(3, 10), pieces(4, 20), pieces(4, 30)
    (window,) = make_windows(question, title, passage, ROBERTA, limits)
    assert ids(window) == [0, 10, 11, 12, 2, 2, 30, 31, 32, 33, 2]
    assert (window.segment, window.offset, window.first, window.count) == (5, 6, 0, 4)
    (window,) = make_windows(question, title, passage, TITLED, limits)  # title cut to two
    assert ids(window) == [0, 10, 11, 12, 2, 2, 20, 21, 2, 30, 31, 32, 33, 2]
    assert (window.segment, window.offset) == (5, 9)
    (window,) = make_windows(question, None, passage, BERT, limits)
    assert ids(window) == [101, 10, 11, 12, 102, 30, 31, 32, 33, 102]
    assert (window.segment, window.offset) == (5, 5)  # [SEP] after the question is of type 0


def test_a_long_question_is_cut() -> None:
    limits = WindowLimits(max_length=20, stride=4, max_question_length=5, max_title_length=2)
    (window,) = make_windows(pieces(50, 10), None, pieces(2, 90), BERT, limits)
    assert ids(window) == [101, 10, 11, 12, 13, 14, 102, 90, 91, 102]
    assert window.segment == 7


def test_a_long_passage_by_hand() -> None:
    limits = WindowLimits(max_length=12, stride=2, max_question_length=3, max_title_length=0)
    windows = make_windows(pieces(3, 10), None, pieces(15, 100), BERT, limits)
    # room for 12 - (1 + 3 + 1) - 1 = 6 pieces; each window begins 6 - 2 = 4 after the last
    assert [(w.first, w.count) for w in windows] == [(0, 6), (4, 6), (8, 6), (12, 3)]
    assert ids(windows[1])[5:-1] == [104, 105, 106, 107, 108, 109]
    windows = make_windows(pieces(3, 10), None, pieces(6, 100), BERT, limits)
    assert [(w.first, w.count) for w in windows] == [(0, 6)]


def test_an_empty_passage_has_one_window_with_nothing_of_it() -> None:
    (window,) = make_windows(pieces(2, 10), None, pieces(0), ROBERTA, WindowLimits())
    assert ids(window) == [0, 10, 11, 2, 2, 2]
    assert window.count == 0


@settings(deadline=None)
@given(
    st.integers(0, 400),
    st.integers(0, 40),
    st.integers(0, 30),
    st.integers(0, 30),
    st.sampled_from([ROBERTA, TITLED, BERT]),
)
def test_windows_cover_the_passage(
    n: int, n_question: int, n_title: int, stride: int, layout: Layout
) -> None:
    limits = WindowLimits(80, stride, 20, 10)
    passage = pieces(n)
    windows = make_windows(pieces(n_question, 10), pieces(n_title, 60), passage, layout, limits)
    seen: list[int] = []
    for before, window in zip([None, *windows], windows, strict=False):
        assert len(window.ids) <= limits.max_length
        assert window.ids.dtype == np.int32
        inside = window.ids[window.offset : window.offset + window.count]
        stretch = slice(window.first, window.first + window.count)
        np.testing.assert_array_equal(inside, passage.ids[stretch])
        assert ids(window)[window.offset + window.count :] == list(layout.after)
        if before is not None:
            assert before.first + before.count - window.first == stride
            assert len(before.ids) == limits.max_length
        seen += range(window.first, window.first + window.count)
    assert sorted(set(seen)) == list(range(n))
