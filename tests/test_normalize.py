from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odqa.text.normalize import clean_characters, nfc, repair_parentheses, strip_markup

BROKEN = st.text(alphabet="가나, ;:()[]|또는a1<>&lt;br/파일\n", max_size=60)


def test_nfd_becomes_nfc() -> None:
    text = "훈민정음 café"
    assert nfc(unicodedata.normalize("NFD", text)) == text
    assert nfc("가\ud800나") == "가\ufffd나"


def test_control_and_invisible_characters_go() -> None:
    assert clean_characters("\ufeff가\u200b나\x07다\u00ad") == "가나다"
    assert clean_characters("가\r\n나\r다\u2028라\t마") == "가\n나\n다\n라\t마"
    assert clean_characters("a &lt;b&gt; &amp;lt; AT&T &copy") == "a <b> < AT&T &copy"


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        ("리치(, 1941년 9월 9일~", "리치(1941년 9월 9일~"),
        ("카이사르(: 기원전 100년)", "카이사르(기원전 100년)"),
        ("칭기즈 칸(, , , , 1162년(음력 4월))", "칭기즈 칸(1162년(음력 4월))"),
        ("고대 로마(, , )는", "고대 로마는"),
        ("남한(南韓, ), 한국", "남한(南韓), 한국"),
        ("합중국(合衆國, , US)", "합중국(合衆國, US)"),
        ("후군(症候群, ; , 에이즈)는", "후군(症候群, 에이즈)는"),
        ("우크라이나()는", "우크라이나는"),
        ("서태지와 아이들( 또는 )은", "서태지와 아이들은"),
        ("main() 함수와 for(;;)", "main() 함수와 for(;;)"),
        ("서울(漢城, 1394년)", "서울(漢城, 1394년)"),
        ("줄\n(, 하나)", "줄\n(하나)"),
    ],
)
def test_broken_parentheses_are_mended(broken: str, mended: str) -> None:
    assert repair_parentheses(broken) == mended


def test_leftover_links_and_tags() -> None:
    assert strip_markup("[[닉슨 독트린|괌 독트린]]을 [[1969년]]에") == "괌 독트린을 1969년에"
    assert strip_markup("가[[파일:a.jpg|섬네일|[[히로시마]]의 모습]]나") == "가나"
    assert strip_markup("하나<br />둘<ref name=x>출처</ref>.") == "하나 둘."
    assert strip_markup("배열 a[i][j]와 [[끝이 없다") == "배열 a[i][j]와 [[끝이 없다"


@given(BROKEN)
@settings(max_examples=300, deadline=None)
def test_each_step_is_idempotent(text: str) -> None:
    for step in (clean_characters, strip_markup, repair_parentheses):
        assert step(step(text)) == step(text)
