from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odqa.config import CorpusConfig
from odqa.corpus.passages import clean_document, clean_text, split_passages
from odqa.types import Document

CONFIG = CorpusConfig(passage_chars=60)
LINE = st.one_of(
    st.sampled_from(
        [
            "생애.",
            "어린 시절.",
            "그는 서울에서 태어났다. 학교를 다녔다.",
            "",
            "가" * 150,
            "(, 1924년)는 짧다.",
        ]
    ),
    st.text(alphabet="가나다 .()“”,A1", max_size=150),
)
ARTICLE = st.lists(LINE, max_size=12).map("\n".join)


def article(text: str) -> Document:
    return Document("42", "제목", text)


def test_a_short_article_is_one_passage() -> None:
    [passage] = split_passages(article("서울은 수도이다. 부산은 항구이다."), CorpusConfig())
    assert passage.passage_id == "42#0"
    assert (passage.doc_id, passage.title, passage.heading) == ("42", "제목", "")
    assert (passage.start, passage.end) == (0, len("서울은 수도이다. 부산은 항구이다."))


def test_boundaries_lie_between_sentences() -> None:
    sentence = "이 문장은 모두 스물두 글자로 되어 있다."
    config = CorpusConfig(passage_chars=70)
    passages = split_passages(article(" ".join([sentence] * 9)), config)
    assert [len(p.text) for p in passages] == [3 * len(sentence) + 2] * 3
    assert all(p.text.endswith("있다.") for p in passages)


LONG = "그는 오래전에 서울에서 태어나 그곳에서 자랐다고 한다. " * 2


def test_headings_go_with_the_passages_under_them() -> None:
    text = f"{LONG}\n생애.\n각주.\n어린 시절.\n{LONG}\n참고 문헌.\n외부 링크."
    passages = split_passages(article(text), CONFIG)
    assert [p.heading for p in passages] == ["", "생애 › 어린 시절"]
    assert [p.text for p in passages] == [LONG.strip()] * 2


def test_a_row_of_short_lines_is_a_list() -> None:
    listed = "서울 강남.\n부산 해운대.\n대구 수성."
    passages = split_passages(article(f"{LONG}\n{listed}\n생애.\n{LONG}"), CONFIG)
    assert [p.heading for p in passages] == ["", "", "생애"]
    assert "".join(p.text for p in passages[:2]).endswith(listed)


def test_what_stands_last_is_no_heading() -> None:
    text = f"{LONG}\n생애.\n{LONG}\n호는 단원(檀園).\n참고 문헌."
    passages = split_passages(article(text), CorpusConfig(passage_chars=100))
    assert [p.heading for p in passages] == ["", "생애"]
    assert passages[1].text.endswith("호는 단원(檀園).")


def test_a_short_section_is_joined_and_its_heading_stays_in_the_text() -> None:
    text = "그는 왕이다.\n생애.\n서울에서 태어나 그곳에서 죽었다."
    [passage] = split_passages(article(text), CONFIG)
    assert passage.text == text
    assert passage.heading == ""


@pytest.mark.parametrize(
    "line",
    [
        "그는 갔다.",
        "서울에서 태어남.",
        "정말일까요.",
        "1924년 서울에서 태어난 그는 왕이다.",
        "왜?",
        "다음과 같다:",
        "본명은 김홍도(金弘道).",
        "조선의 화가. 호는 단원.",
        "서울에서 죽었다(1990년).",
        "• 서울 강남.",
        "3) 부산.",
        "374(삼백칠십사) = 2×11×17.",
        "1996년 12월 31일, 홍백가합전에 출장.",
    ],
)
def test_a_short_sentence_is_no_heading(line: str) -> None:
    long = "그는 오래전에 서울에서 태어나 그곳에서 자랐다고 한다. " * 3
    passages = split_passages(article(f"{long}\n{line}\n{long}"), CONFIG)
    assert {p.heading for p in passages} == {""}
    assert any(line in p.text for p in passages)


@pytest.mark.parametrize(
    "line",
    [
        "죽음.",
        "개요.",
        "6.25 전쟁.",
        "2010년대.",
        "활동 (1990년 ~ 2000년).",
        "젊은 시절.",
        "반란이 일어난 배경.",
        "스쿠터(Scooter).",
    ],
)
def test_a_heading_is_recognised(line: str) -> None:
    long = "그는 오래전에 서울에서 태어나 그곳에서 자랐다고 한다. " * 2
    passages = split_passages(article(f"{long}\n{line}\n{long}"), CONFIG)
    assert [p.heading for p in passages] == ["", line[:-1]]


def test_an_article_of_nothing_but_short_lines_keeps_them() -> None:
    [passage] = split_passages(article("서울.\n부산.\n대구."), CONFIG)
    assert passage.text == "서울.\n부산.\n대구."


def test_a_long_sentence_is_cut_at_a_space() -> None:
    text = "낱말들 " * 50
    passages = split_passages(article(text), CONFIG)
    assert all(p.text.split() == ["낱말들"] * len(p.text.split()) for p in passages)
    assert sum(len(p.text.split()) for p in passages) == 50


def test_overlap_repeats_whole_sentences() -> None:
    sentence = "이 문장은 모두 스물두 글자로 되어 있다."
    config = dataclasses.replace(CONFIG, overlap_chars=30)
    plain = split_passages(article(" ".join([sentence] * 9)), CONFIG)
    overlapping = split_passages(article(" ".join([sentence] * 9)), config)
    step = len(sentence) + 1
    assert [p.start for p in overlapping] == [0] + [p.start - step for p in plain[1:]]
    assert [p.end for p in overlapping] == [p.end for p in plain]


def test_parentheses_are_repaired_before_splitting() -> None:
    document = article("리치(, 1941년)는 미국의 과학자다. 우크라이나()는 나라다.")
    cleaned = clean_document(document, CONFIG)
    assert cleaned.text == "리치(1941년)는 미국의 과학자다. 우크라이나는 나라다."
    assert split_passages(document, CONFIG) == split_passages(cleaned, CONFIG)
    kept = clean_text(document.text, dataclasses.replace(CONFIG, repair_parentheses=False))
    assert kept == document.text


def test_a_single_passage_is_left_as_it_is() -> None:
    text = " 로마(, )는\n 도시다. " * 40
    document = Document("0-0", "로마", text, {"single_passage": True})
    [passage] = split_passages(document, CONFIG)
    assert (passage.text, passage.start, passage.end) == (text, 0, len(text))


def test_an_article_without_text_has_no_passage() -> None:
    assert split_passages(article(""), CONFIG) == split_passages(article(" \n "), CONFIG) == []
    assert split_passages(Document("1", "", " ", {"single_passage": True}), CONFIG) == []


@given(ARTICLE, st.sampled_from([20, 60, 500]), st.sampled_from([0, 15, 60]))
@settings(max_examples=300, deadline=None)
def test_passages_keep_their_promises(text: str, chars: int, overlap: int) -> None:
    config = CorpusConfig(passage_chars=chars, overlap_chars=overlap)
    cleaned = clean_document(article(text), config)
    assert clean_document(cleaned, config) is cleaned
    passages = split_passages(article(text), config)
    covered = set[int]()
    for n, passage in enumerate(passages):
        assert passage.passage_id == f"42#{n}"
        assert passage.text == cleaned.text[passage.start : passage.end]
        assert passage.text == passage.text.strip() != ""
        assert len(passage.text) <= chars + chars // 4 + overlap
        covered.update(range(passage.start, passage.end))
    for before, after in itertools.pairwise(passages):
        assert before.start < after.start
        assert before.end < after.end
        assert overlap or before.end <= after.start
    headings = {name for p in passages for name in p.heading.split(" › ")}
    missing = "".join(c for i, c in enumerate(cleaned.text) if i not in covered)
    for line in filter(None, map(str.strip, missing.split("\n"))):
        assert line.endswith(".")
        assert line[:-1] in headings  # nothing is lost: it stands over a passage
    assert bool(passages) == bool(cleaned.text.strip())
