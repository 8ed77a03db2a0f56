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
        ("공사는 몇 년 동안 이어졌나?", "date"),
        ("훈민정음을 만든 임금은 누구인가?", "name"),
        ("독일의 수도는 어딘가요?", "name"),
        ("RNA는 무엇을 의미하는가?", ""),
    ],
)
def test_asked_for(question: str, kind: str) -> None:
    assert asked_for(question) == kind
