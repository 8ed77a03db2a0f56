import pytest
from hypothesis import given
from hypothesis import strategies as st

from odqa.text.answers import normalize_answer


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("제2차 세계 대전", "제2차 세계대전"),
        ("《훈민정음》", "훈민정음"),
        ("「관동별곡」", "관동별곡"),
        ("‘세종’", "세종"),
        ("1,000명", "1000명"),
        ("１９１９년", "1919년"),
        ("Seoul", "SEOUL."),
        ("−5도", "-5도"),
        ("이순신(장군)", "이순신 장군"),
        ("6·25 전쟁", "6ㆍ25전쟁"),  # the dot of a Korean keyboard
        ("6・25 전쟁", "6.25 전쟁"),
        ("서울ㆍ부산", "서울·부산"),
    ],
)
def test_same_answer(one: str, other: str) -> None:
    assert normalize_answer(one) == normalize_answer(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3.5", "35"),
        ("3·1 운동", "31 운동"),
        ("10:30", "1030"),
        ("C++", "C"),
        ("C#", "C"),
        ("-5도", "5도"),
        ("대통령", "대통령인"),
        ("1, 2", "12"),
        ("?", "!"),
    ],
)
def test_other_answer(one: str, other: str) -> None:
    assert normalize_answer(one) != normalize_answer(other)


def test_punctuation_alone_is_its_own_key() -> None:
    assert normalize_answer(" ? ") == "?"
    assert normalize_answer(" \n") == ""


@given(st.text())
def test_nothing_but_blank_has_the_empty_key(text: str) -> None:
    assert (normalize_answer(text) == "") == (not "".join(text.split()))
