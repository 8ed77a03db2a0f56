"""The overlap of question and passage, worked by hand, and the order that it gives."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from conformance import ListStore, check_fewer_is_a_prefix, check_retriever, ids
from hypothesis import given
from hypothesis import strategies as st

from odqa.build import build_index, open_retriever
from odqa.config import Config, OverlapConfig, RetrievalConfig
from odqa.errors import ConfigError
from odqa.retrieval.hybrid import HybridRetriever
from odqa.retrieval.overlap import FEATURES, Overlap, OverlapOrder, OverlapRetriever, overlap_of
from odqa.retrieval.ranking import Ranking, RowRetriever
from odqa.types import Passage

CONFIG = OverlapConfig()
NOTHING = OverlapConfig(passage=0, sentence=0, run=0, title=0, length=0)


def passage(passage_id: str, text: str, title: str = "", heading: str = "") -> Passage:
    doc_id = passage_id.partition("#")[0]
    return Passage(passage_id, doc_id, title, text, 0, len(text), heading)


def test_an_overlap_worked_by_hand() -> None:
    # 서울 울의 의인 인구 구는: the title has 서울, the first sentence 인구 and 구는, the other 울의
    text = "인구는 940만 명이다. 서울의 강."
    (found,) = overlap_of("서울의 인구는?", [passage("1#0", text, "서울 (도시)")])
    assert found == Overlap(
        passage=4 / 5, sentence=(1 + 2) / 5, run=3, title=1 / 1, length=math.log(1 + len(text))
    )


def test_a_heading_counts_as_what_is_said_in_every_sentence() -> None:
    (found,) = overlap_of("가나다라", [passage("1#0", "다라. 가가.", "바사", heading="가나")])
    assert (found.passage, found.sentence, found.title) == (2 / 3, 2 / 3, 0)


def test_spaces_marks_and_width_do_not_count_and_sentences_are_apart() -> None:
    spaced, apart = overlap_of(
        "「해를 품은」ＡＢ", [passage("1#0", "해 를품은 ab"), passage("1#1", "해를. 품은\nAB")]
    )
    assert (spaced.passage, spaced.sentence, spaced.run) == (1, 1, 6)
    assert (apart.passage, apart.sentence, apart.run) == (3 / 5, 1 / 5, 2)


def test_a_letter_alone_and_nothing_at_all() -> None:
    single, none = overlap_of("뇌?", [passage("1#0", "뇌는", "뇌"), passage("2#0", "", "")])
    assert (single.passage, single.sentence, single.run, single.title) == (1, 1, 1, 1)
    assert none == Overlap(0, 0, 0, 0, 0)
    (of_marks,) = overlap_of("?!", [passage("1#0", "글", "글")])
    assert of_marks == Overlap(0, 0, 0, 0, math.log(2))
    assert overlap_of("서울", []) == []


text_strategy = st.text(alphabet="가나다라ab1 .?!\n()「", max_size=30)


@given(question=text_strategy, texts=st.lists(st.tuples(text_strategy, text_strategy), max_size=4))
def test_shares_are_shares_and_passages_do_not_touch_each_other(
    question: str, texts: list[tuple[str, str]]
) -> None:
    passages = [passage(f"{i}#0", text, title) for i, (text, title) in enumerate(texts)]
    found = overlap_of(question, passages)
    assert found == [overlap_of(question, [p])[0] for p in passages]
    for overlap in found:
        assert 0 <= overlap.sentence <= overlap.passage <= 1
        assert 0 <= overlap.title <= 1
        assert 0 <= overlap.run <= len(question)


# --- the order -----------------------------------------------------------------------------------

PASSAGES = [
    passage("1#0", "한강은 흐른다", "서울"),
    passage("1#1", "인구는 많다", "서울"),
    passage("2#0", "인구는 적다", "부산"),
    passage("3#0", "서울의 인구는 940만 명이다", "대한민국"),
    passage("4#0", "서울의 인구는 940만 명이다", "대한민국"),
]
STORE = ListStore(PASSAGES)
RANKED: Ranking = [(0, 9.0), (1, 7.0), (2, 6.0), (3, 5.0), (4, 4.0)]


def test_scores_worked_by_hand() -> None:
    config = replace(NOTHING, depth=3, passage=2.0, title=0.5)
    # pairs 서울 울의 의인 인구 구는: 1, 3 and 2 of them stand in the first three passages
    assert OverlapOrder(STORE, config)("서울의 인구는", RANKED) == [
        (1, pytest.approx((7 - 6) / (9 - 6) + 2 * 3 / 5 + 0.5)),
        (0, pytest.approx((9 - 6) / (9 - 6) + 2 * 1 / 5 + 0.5)),
        (2, pytest.approx((6 - 6) / (9 - 6) + 2 * 2 / 5)),
        (3, pytest.approx((5 - 6) / (9 - 6))),
        (4, pytest.approx((4 - 6) / (9 - 6))),
    ]


def test_equal_scores_go_by_passage_id() -> None:
    order = OverlapOrder(STORE, replace(NOTHING, run=0.1))
    found = order("서울의 인구는", [(4, 2.0), (2, 2.0), (3, 2.0)])
    assert found == [(3, pytest.approx(1.6)), (4, pytest.approx(1.6)), (2, pytest.approx(1.3))]


def test_without_depth_or_weights_nothing_changes() -> None:
    for config in (replace(CONFIG, depth=0), NOTHING):
        assert OverlapOrder(STORE, config)("서울의 인구는", RANKED) == RANKED
    assert OverlapOrder(STORE, CONFIG)("서울", []) == []


@given(
    scores=st.lists(st.floats(-50, 50, width=16), min_size=1, max_size=5),
    depth=st.integers(0, 6),
    question=st.sampled_from(["서울의 인구는", "한강", "?", "940만 명"]),
)
def test_what_is_not_looked_at_never_overtakes(
    scores: list[float], depth: int, question: str
) -> None:
    ranked = list(enumerate(sorted(scores, reverse=True)))
    found = OverlapOrder(STORE, replace(CONFIG, depth=depth))(question, ranked)
    assert sorted(row for row, _ in found) == list(range(len(ranked)))
    head = depth or len(ranked)
    assert {row for row, _ in found[:head]} == set(range(min(head, len(ranked))))
    assert [row for row, _ in found[head:]] == list(range(head, len(ranked)))
    assert [score for _, score in found] == sorted((s for _, s in found), reverse=True)


class Fixed(RowRetriever):
    """Always the same ranking."""

    source = "sparse"

    def __init__(self, ranked: Ranking) -> None:
        super().__init__(STORE)
        self.ranked = ranked
        self.asked: list[int] = []

    def rank(self, questions: Sequence[str], *, k: int) -> list[Ranking]:
        self.asked.append(k)
        return [self.ranked[:k] if question else [] for question in questions]


def test_a_leg_is_asked_for_the_depth_and_conforms() -> None:
    leg = Fixed(RANKED)
    retriever = OverlapRetriever(leg, OverlapOrder(STORE, replace(CONFIG, depth=4)))
    (found,) = retriever.retrieve(["서울의 인구는"], k=2)
    assert ids(found) == ["3#0", "1#1"]
    assert leg.asked == [4]
    check_retriever(retriever, ["서울의 인구는", "", "한강"], k=3)
    check_fewer_is_a_prefix(retriever, ["서울의 인구는", "한강"], k=5)


def test_the_merge_is_ordered_before_duplicates_and_articles_are_cut() -> None:
    config = RetrievalConfig(sparse_weight=1.0, per_article=1)
    order = OverlapOrder(STORE, replace(NOTHING, depth=5, passage=5.0))
    legs = Fixed(RANKED), Fixed([])
    (found,) = HybridRetriever(*legs, config, order=order).retrieve(["서울의 인구는"], k=3)
    assert ids(found) == ["3#0", "4#0", "1#1"]  # without the order the first article gave 1#0
    plain = HybridRetriever(*legs, config).retrieve(["서울의 인구는"], k=3)
    assert ids(plain[0]) == ["1#0", "2#0", "3#0"]


def test_the_features_are_named_as_their_weights() -> None:
    keys = {field.name for field in dataclasses.fields(OverlapConfig)}
    assert keys == {"depth", *FEATURES}


@pytest.mark.parametrize("key", ["depth", *FEATURES])
def test_values_below_zero_are_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"overlap\.{key}"):
        OverlapOrder(STORE, replace(CONFIG, **{key: -1}))


@pytest.mark.parametrize("leg", ["sparse", "dense", "hybrid"])
def test_every_retriever_of_an_index_looks_at_the_passages(tmp_path: Path, leg: str) -> None:
    lines = [
        {"id": "1", "title": "서울", "text": "서울은 대한민국의 수도이다. 한강이 흐른다."},
        {"id": "2", "title": "부산", "text": "부산은 항구이다. 부산의 인구는 330만 명이다."},
        {"id": "3", "title": "한강", "text": "한강은 서울을 지나 서해로 흐른다."},
    ]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    index = build_index(corpus, name="a", indexes_dir=tmp_path, config=Config())
    retriever = open_retriever(index, Config(), leg)
    check_retriever(retriever, ["부산의 인구는?", "한강은 어디로 흐르나?", "xyzzy"], k=2)
    (found,) = retriever.retrieve(["부산의 인구는?"], k=1)
    assert found[0].source == leg
    assert found[0].passage.doc_id == "2"
    assert found[0].score > 1  # the best of a first stage has 1
