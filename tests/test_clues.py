"""Clues for and against a span, by hand."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odqa.text.clues import Clues, find_clues

TEXT = "카툰 네트워크(미국)는 1992년 10월 1일에 1,200개국에서 개국했다. 창립자는 테드 터너이다."


def clues_of(question: str, answer: str, title: str = "카툰 네트워크 (방송)") -> Clues:
    start = TEXT.index(answer)
    return find_clues(question, title, TEXT, start, start + len(answer), first=False)


def shown(clues: Clues) -> set[str]:
    return {name for name, value in dataclasses.asdict(clues).items() if value}


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("카툰 네트워크는 언제 개국했나요?", "1992년 10월 1일", {"names_article"}),
        ("방송은 언제 개국했나요?", "미국", {"wrong_type"}),
        ("방송은 몇 년에 개국했나요?", "1992년 10월 1일", {"wrong_type"}),
        ("방송은 몇 년에 개국했나요?", "1992년", set()),
        ("창립자는 누구인가?", "테드 터너", set()),
        ("창립자는 누구인가?", "1992년", {"wrong_type"}),
        ("방송은 무엇인가?", "카툰 네트워크", {"is_title"}),
        ("방송은 무엇인가?", "카툰 네트워크(미국", {"broken"}),
        ("방송은 무엇인가?", "네트워크", set()),
        ("방송은 무엇인가?", "트워크", {"broken"}),
        ("몇 나라에서 개국했나요?", "1", {"broken", "single_character"}),
        ("몇 나라에서 개국했나요?", "1,200", set()),
        ("몇 나라에서 개국했나요?", "200", set()),
        ("무엇인가?", "(", {"broken"}),
    ],
)
def test_clues(question: str, answer: str, expected: set[str]) -> None:
    if answer == "1":
        start = TEXT.index("1,200")
        found = find_clues(question, "제목", TEXT, start, start + 1, first=False)
    else:
        found = clues_of(question, answer)
    assert shown(found) == expected


@pytest.mark.parametrize(
    ("question", "answer", "wrong"),
    [
        ("몇 년 몇 월 며칠인가?", "1945년 8월 15일", False),
        ("언제 생겨났나?", "46억 년 전", False),
        ("언제 만들어졌나?", "조선 후기", False),
        ("언제 만들어졌나?", "이성계", True),
        ("몇 마리인가?", "스물네 마리", False),
        ("몇 차례 우승했나?", "두 차례", False),
        ("몇 년 동안 다스렸나?", "삼십 년", False),
        ("얼마나 줄었나?", "절반", False),
        ("몇 개인가?", "네모", True),
        ("몇 권인가?", "삼국사기", True),
        ("누가 만들었나?", "60킬로그램", True),
        ("어느 건물인가?", "63빌딩", False),
        ("어느 노선인가?", "3호선", False),
        ("어떤 전쟁인가?", "5·18 민주화운동", False),
    ],
)
def test_the_kind_of_an_answer(question: str, answer: str, wrong: bool) -> None:
    found = find_clues(question, "제목", answer, 0, len(answer), first=False)
    assert found.wrong_type is wrong


def test_the_first_passage_of_an_article() -> None:
    assert find_clues("무엇인가?", "제목", TEXT, 0, 2, first=True).article_start


@given(st.text(max_size=20), st.text(max_size=10), st.text(min_size=1, max_size=30), st.data())
def test_any_text(question: str, title: str, text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    clues = find_clues(question, title, text, start, end, first=False)
    assert clues == find_clues(question, title, text, start, end, first=False)
