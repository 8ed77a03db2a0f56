"""Questions about what an article's beginning says of its subject."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odqa.corpus import read_documents
from odqa.corpus.datasets import read_examples
from odqa.errors import ConfigError
from odqa.training.leads import lead_questions
from odqa.training.questions import QuestionConfig, make_questions
from odqa.types import Document

DATA = Path(__file__).parents[2] / "shared" / "data"


def asked(text: str, title: str) -> dict[str, set[str]]:
    """Every question that some seed makes, by its answer; answers stand where they are said to."""
    found: dict[str, set[str]] = {}
    for seed in range(60):
        for made in lead_questions(text, title, np.random.default_rng(seed)):
            assert text[made.start : made.start + len(made.answer)] == made.answer
            found.setdefault(made.answer, set()).add(made.question)
    return found


def test_when_a_person_lived() -> None:
    text = "김소월(金素月, 1902년 9월 7일 ~ 1934년 12월 24일)은 한국의 시인이다. 본명은 김정식이다."
    found = asked(text, "김소월")
    assert found.keys() == {
        "1902년 9월 7일", "1902년", "1934년 12월 24일", "1934년", "한국", "김정식"
    }  # fmt: skip
    assert "김소월은 언제 태어났나요?" in found["1902년 9월 7일"]
    assert "김소월이 태어난 해는?" in found["1902년"]
    assert "김소월의 사망일은 언제인가요?" in found["1934년 12월 24일"]
    assert "김소월은 어느 나라의 시인인가?" in found["한국"]
    assert found["김정식"] == {
        "김소월의 본명은?", "김소월의 본명은 무엇인가?", "김소월의 본명은 무엇인가요?"
    }  # fmt: skip


def test_of_the_living_no_death_is_asked_and_particles_fit() -> None:
    found = asked("루시(1986년 10월 1일 ~ )는 미국의 축구 선수이다.", "루시 (축구 선수)")
    assert found.keys() == {"1986년 10월 1일", "1986년", "미국"}
    assert "루시는 언제 태어났는가?" in found["1986년 10월 1일"]
    assert "루시는 어느 나라 축구 선수인가요?" in found["미국"]


def test_states_and_events_begin_and_end() -> None:
    found = asked("당(唐, 618년 ~ 907년)은 중국의 통일왕조이다.", "당나라")
    assert "당나라는 언제 건국되었나요?" in found["618년"]
    assert "당나라는 언제 멸망했는가?" in found["907년"]
    found = asked(
        "겨울전쟁(1939년 11월 30일 ~ 1940년 3월 13일)은 핀란드가 치른 전쟁이다.", "겨울전쟁"
    )
    assert "겨울전쟁은 언제 끝났나요?" in found["1940년 3월 13일"]
    # of what lasts otherwise nothing is known
    assert asked("무엇(1990년 ~ 1994년)은 미국에서 팔린 과자 상표이다.", "무엇") == {}


def test_a_verb_names_no_class() -> None:
    assert asked("김(1950년 ~ 1999년)은 미국의 뉴욕에서 태어났다.", "김") == {}
    assert "김은 어느 나라 선수인가요?" in asked("김은 미국의 선수다.", "김")["미국"]


def test_a_reign_is_no_life() -> None:
    found = asked("성종(재위: 981년 ~ 997년)은 고려의 제6대 국왕이다.", "고려 성종")
    assert "고려 성종은 언제 즉위했는가?" in found["981년"]
    assert "고려 성종은 언제까지 재위했나요?" in found["997년"]
    text = "순종(1874년 3월 25일 ~ 1926년 4월 25일, 재위 1907년 ~ 1910년)은 조선의 황제이다."
    found = asked(text, "순종")
    assert "순종은 언제 죽었나요?" in found["1926년 4월 25일"]
    assert all("즉위" in question for question in found["1907년"])


def test_short_statements() -> None:
    text = (
        "모래주는 어느 섬에 있는 주로, 주도는 갈대시이며 면적은 1,219.5km2, "
        "인구는 55,441명(2015년 기준), 인구 밀도는 45.5명/km2이다."
    )
    found = asked(text, "모래주")
    assert found.keys() == {"갈대시", "1,219.5km2", "55,441명", "45.5명/km2"}
    assert "모래주의 주도는 어디인가?" in found["갈대시"]
    assert "모래주의 인구는 얼마인가?" in found["55,441명"]
    # a clause is no name
    assert asked("그는 살았다. 어머니는 마을에서 태어난 사람이었다.", "김") == {}


@given(st.text("가나은는이다의 (),.~1년월일미국수도인구", max_size=80), st.text(max_size=8))
def test_of_any_text_answers_stand_in_it_and_not_in_the_question(text: str, title: str) -> None:
    for made in lead_questions(text, title, np.random.default_rng(1)):
        assert made.answer
        assert text[made.start : made.start + len(made.answer)] == made.answer
        assert made.answer not in made.question


LIVES = [
    Document(
        str(i), name, f"{name}(19{10 + i}년 1월 1일 ~ )은 일본의 배우이다. 그는 도쿄에서 자랐다."
    )
    for i, name in enumerate(("하나코", "지로", "사부로", "시로"))
]


def test_only_leads_and_articles_that_a_test_asks_about_are_left_out() -> None:
    config = QuestionConfig(leads=2, per_passage=0)
    made = list(make_questions(LIVES, config, without_named=["배우 사부로의 생일은?"]))
    assert [q.question_id for q in made] == [f"s{i}-{n}" for i in (0, 1, 3) for n in (0, 1)]
    assert {q.passage.title for q in made} == {"하나코", "지로", "시로"}
    assert list(make_questions(LIVES, QuestionConfig(per_passage=0))) == []


@pytest.mark.parametrize("name", ["leads", "per_passage"])
def test_less_than_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be 0 or more"):
        QuestionConfig(**{name: -1}).check()


def test_to_make_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="both 0"):
        QuestionConfig(per_passage=0).check()
    QuestionConfig(per_passage=0, leads=1).check()


@pytest.mark.skipif(not DATA.exists(), reason="the data sets are not here")
def test_on_real_articles() -> None:
    corpus = DATA / "kowiki" / "kowiki-20k.jsonl.xz"
    named = {example.question for example in read_examples(DATA / "mkqa-ko" / "dev.jsonl")}
    config = QuestionConfig(leads=2, per_passage=0)
    articles = islice(read_documents(str(corpus)), 1500)
    made = list(make_questions(articles, config, without_named=named))
    assert len(made) > 300
    for question in made:
        assert question.passage.text[question.start : question.end] == question.answer
    sorts = {q.sort for q in made}
    assert {"date", "year", "place", "number", "thing"} <= sorts
