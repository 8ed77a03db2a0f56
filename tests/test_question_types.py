"""What a question asks for, by its form."""

import json
from importlib import resources

import pytest

from odqa.text.question_types import asked_for, is_polar


@pytest.mark.parametrize(
    "question",
    [
        "흡연이 암을 유발할 수 있는가?",
        "젤라틴은 단백질인가요?",
        "맹장 없이 살 수 있을까?",
        "식물은 광합성을 하나요?",
        "임진왜란은 일본이 일으킨 전쟁인가?",  # 왜 within a word asks nothing
        "독도는 대한민국의 영토입니까",
        "두뇌 진화는 전뇌의 부피 증가가 특징적인가요?",  # MeCab sees the noun 가요 at its end
        "지구는 둥글지요?",
        "누가복음은 신약성경인가?",  # 누가 and 웬 within a name ask nothing
        "웬디는 레드벨벳의 멤버인가?",
        "수도는 서울입니까?",
    ],
)
def test_polar(question: str) -> None:
    assert is_polar(question)


@pytest.mark.parametrize(
    "question",
    [
        "훈민정음을 만든 임금은 누구인가?",
        "노무현 대통령은 몇 대 대통령인가",
        "로마는 왜 분열되었는가?",
        "대한민국의 수도는 어딥니까?",
        "한글을 만든 사람은 누굽니까?",
        "이것은 뭡니까?",
        "가장 높은 산을 알려 줄 수 있나요?",
        "헤르만 헤세 사망일은 언젠가요?",
        "오대호의 크기는?",
        "개미는 곤충인가요 동물인가요",
        "서양이란 아메리카를 뜻하는가 아니면 유럽을 뜻하는가?",
        "세종대왕",
        "가장 인기 있는 가요",
        "화학 전문가",
        "?",
        "",
    ],
)
def test_not_polar(question: str) -> None:
    assert not is_polar(question)


def test_no_question_of_the_sample_is_polar() -> None:
    for name in ("train.jsonl", "dev.jsonl"):
        text = resources.files("odqa.sample").joinpath(name).read_text(encoding="utf-8")
        questions = [json.loads(line)["question"] for line in text.splitlines()]
        assert not [question for question in questions if is_polar(question)]


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("도요토미 히데요시는 몇 년도에 죽었는가?", "year"),
        ("명나라는 언제 건국되었나요?", "date"),
        ("헤르만 헤세 사망일은 언젠가요?", "date"),
        ("북유럽의 노르딕 국가는 몇개인가요?", "number"),
        ("공사는 몇 년 동안 이어졌나?", "number"),
        ("광복은 몇 년 몇 월 며칠인가?", "date"),
        ("어느 세기에 지어졌는가?", "date"),
        ("어느 해에 태어났는가?", "year"),
        ("개포주공아파트가 지어진 해는?", "year"),
        ("소설이 나온 연도는?", "year"),
        ("조약이 맺어진 시기는?", "date"),
        ("2008년도 노벨 문학상 수상자는 누구인가?", "name"),
        ("지중해는 어느 대륙 사이에 있는가?", "name"),
        ("태풍 매미로 인한 피해는 얼마인가?", "number"),
        ("세종이 돌아가시기 전 마지막으로 지은 책은 무엇인가?", ""),
        ("가장 멀리 나는 미사일은?", ""),
        ("훈민정음을 만든 임금은 누구인가?", "name"),
        ("독일의 수도는 어딘가요?", "name"),
        ("RNA는 무엇을 의미하는가?", ""),
    ],
)
def test_asked_for(question: str, kind: str) -> None:
    assert asked_for(question) == kind
