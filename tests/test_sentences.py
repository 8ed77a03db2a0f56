from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odqa.text.sentences import split_sentences

TEXT = st.text(alphabet="가나다요. \n\"“”'()「」?!12Aa…。[]", max_size=120)


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in split_sentences(text)]


@pytest.mark.parametrize(
    "expected",
    [
        ["서울은 수도이다.", "부산은 항구이다."],
        ["정말 그런가?", "그렇다!", "끝."],
        ["값은 3.5배 늘었다.", "2023. 1. 5. 개봉한 영화다."],
        ["J. K. 롤링의 책이다.", "U.S. 스틸은 Mr. Kim이 세웠다."],
        ["“나는 간다. 너도 와라.”라고 말했다.", "“끝이다.”", "그는 갔다."],
        ["“간다.” 라고 말했다.", "그리고 떠났다."],
        ['"간다. 온다."고 말했다.', "그뿐이다."],
        ["도쿄(영어: Tokyo. 수도이다. 크다)는 도시다.", "사람이 많다."],
        ["폐지되었다(제329조).", "그 뒤이다."],
        ["야후! 재팬은 회사다.", "가. 개요이다."],
        ["그는 기다렸다…", "아무도 없었다."],
        ["증가하였다.[1]", "그 뒤 줄었다."],
        ["彼は行った。", "다음 문장이다."],
    ],
)
def test_sentences_of_a_line(expected: list[str]) -> None:
    assert sentences(" ".join(expected)) == expected


def test_line_breaks_and_forgotten_spaces() -> None:
    assert sentences("제목\n\n  본문이다.  \n") == ["제목", "본문이다."]
    assert sentences("그는 갔다.그는 왔다.") == ["그는 갔다.", "그는 왔다."]
    assert sentences("") == sentences(" \n ") == []


def test_an_unclosed_or_very_long_quotation_does_not_hold_the_text_together() -> None:
    assert sentences("(그는 갔다. 그는 왔다.") == ["(그는 갔다.", "그는 왔다."]
    speech = "“" + " ".join(["나는 간다."] * 60) + "”"
    assert len(sentences(speech)) == 60


def test_every_bracket_pair_counts_in_a_line_of_many() -> None:
    """Pairs within pairs and behind each other; only the ends outside of all of them count."""
    line = "그는 (왕이 되었다. (곧 죽었다.) 그렇다.) 갔다. “또 왔다. 갔다.” 했다. 끝났다."
    assert sentences(line) == [
        "그는 (왕이 되었다. (곧 죽었다.) 그렇다.)", "갔다.", "“또 왔다. 갔다.” 했다.", "끝났다.",
    ]  # fmt: skip
    assert sentences(" ".join([line] * 300)) == sentences(line) * 300


@given(TEXT)
@settings(max_examples=300, deadline=None)
def test_spans_are_ordered_trimmed_and_cover_the_text(text: str) -> None:
    spans = split_sentences(text)
    covered = 0
    for before, after in itertools.pairwise(spans):
        assert before[1] <= after[0]
    for start, end in spans:
        assert text[start:end].strip() == text[start:end] != ""
        covered += sum(not c.isspace() for c in text[start:end])
    assert covered == sum(not c.isspace() for c in text)
