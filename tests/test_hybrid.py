"""The merge of two legs and the second stage, with scores worked by hand."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from conformance import (
    ListStore,
    assert_ranked,
    check_fewer_is_a_prefix,
    check_reranker,
    check_retriever,
    ids,
    make_passage,
)
from hypothesis import given
from hypothesis import strategies as st

from odqa.config import RerankConfig, RetrievalConfig
from odqa.errors import ConfigError
from odqa.retrieval.collapse import Collapser
from odqa.retrieval.hybrid import (
    HybridRetriever,
    min_max,
    reciprocal_rank_fusion,
    weighted_merge,
)
from odqa.retrieval.ranking import Ranking, RowRetriever
from odqa.retrieval.rerank import EncoderReranker, mixed_scores
from odqa.types import Candidate, Passage

CONFIG = RetrievalConfig(sparse_weight=0.25)


def candidates(scores: Mapping[str, float], source: str = "sparse") -> list[Candidate]:
    ordered = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return [
        Candidate(make_passage(passage_id, f"글 {passage_id}"), score, rank, source)
        for rank, (passage_id, score) in enumerate(ordered)
    ]


STORE = ListStore([make_passage(f"{i}#0", f"글 {i}") for i in range(10)])


class TableRetriever(RowRetriever):
    """Answers from a table of scores; a question that is not in it finds nothing."""

    source = "sparse"

    def __init__(self, table: Mapping[str, Mapping[str, float]]) -> None:
        super().__init__(STORE)
        self.table = table
        self.asked: list[int] = []

    def rank(self, questions: Sequence[str], *, k: int) -> list[Ranking]:
        self.asked.append(k)
        return [ranking(self.table.get(q, {}))[:k] for q in questions]


def ranking(scores: Mapping[str, float]) -> Ranking:
    ordered = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return [(int(passage_id.partition("#")[0]), score) for passage_id, score in ordered]


def by_row(scores: Mapping[str, float]) -> dict[int, float]:
    return dict(ranking(scores))


SPARSE = {
    "양쪽": {"1#0": 12.0, "2#0": 8.0, "3#0": 4.0},
    "글자만": {"5#0": 3.0, "4#0": 3.0},
    "한 글": {"7#0": 2.0},
}
DENSE = {
    "양쪽": {"3#0": 0.9, "1#0": 0.8, "9#0": 0.5},
    "뜻만": {"6#0": 0.3, "8#0": -0.1},
    "한 글": {"7#0": 0.4},
}


def hybrid(config: RetrievalConfig = CONFIG) -> HybridRetriever:
    return HybridRetriever(TableRetriever(SPARSE), TableRetriever(DENSE), config)


def test_weighted_merge_worked_by_hand() -> None:
    sparse, dense = by_row(SPARSE["양쪽"]), by_row(DENSE["양쪽"])
    assert weighted_merge(sparse, dense, sparse_weight=0.25) == pytest.approx(
        {
            1: 0.25 * (12 - 4) / (12 - 4) + 0.75 * (0.8 - 0.5) / (0.9 - 0.5),
            2: 0.25 * (8 - 4) / (12 - 4) + 0.75 * 0,
            3: 0.25 * 0 + 0.75 * (0.9 - 0.5) / (0.9 - 0.5),
            9: 0.25 * 0 + 0.75 * 0,
        }
    )


def test_reciprocal_rank_fusion_worked_by_hand() -> None:
    scores = reciprocal_rank_fusion([[1, 2, 3], [3, 1, 9]], rrf_k=60)
    assert scores == pytest.approx(
        {
            1: 1 / (60 + 1) + 1 / (60 + 2),
            2: 1 / (60 + 2),
            3: 1 / (60 + 3) + 1 / (60 + 1),
            9: 1 / (60 + 3),
        }
    )


def test_equal_scores_are_not_divided_by_zero() -> None:
    assert min_max({1: 3.0, 2: 3.0}) == {1: 1.0, 2: 1.0}
    assert min_max({1: 0.0}) == {1: 1.0}
    assert min_max({}) == {}
    assert weighted_merge({1: 0.0, 2: 0.0}, {}, sparse_weight=0.5) == {1: 0.5, 2: 0.5}


@given(
    scores=st.dictionaries(st.integers(0, 99), st.floats(-1e6, 1e6), max_size=8),
    shift=st.integers(-10, 10),
)
def test_min_max_keeps_the_order_and_the_bounds(scores: dict[int, float], shift: int) -> None:
    normal = min_max(scores)
    assert normal.keys() == scores.keys()
    assert all(0 <= score <= 1 for score in normal.values())
    by_score = sorted(scores, key=scores.__getitem__)
    assert [normal[key] for key in by_score] == sorted(normal.values())


@pytest.mark.parametrize("merge", ["weighted", "rrf"])
def test_conformance(merge: str) -> None:
    retriever = hybrid(replace(CONFIG, merge=merge))
    questions = ["양쪽", "글자만", "뜻만", "없는 질문", "", "한 글"]
    check_retriever(retriever, questions, k=3)
    check_fewer_is_a_prefix(retriever, questions, k=5)


@pytest.mark.parametrize("merge", ["weighted", "rrf"])
def test_a_leg_may_find_nothing(merge: str) -> None:
    both, letters, meaning, nothing, single = hybrid(replace(CONFIG, merge=merge)).retrieve(
        ["양쪽", "글자만", "뜻만", "없는 질문", "한 글"], k=10
    )
    assert set(ids(both)) == {"1#0", "2#0", "3#0", "9#0"}
    assert ids(letters) == ["4#0", "5#0"]
    assert ids(meaning) == ["6#0", "8#0"]
    assert nothing == []
    assert ids(single) == ["7#0"]
    assert {c.source for c in both} == {"hybrid"}


def test_hybrid_orders_by_merged_score() -> None:
    (found,) = hybrid().retrieve(["양쪽"], k=3)
    assert ids(found) == ["1#0", "3#0", "2#0"]
    assert [c.score for c in found] == pytest.approx([0.25 + 0.75 * 3 / 4, 0.75, 0.25 / 2])
    (found,) = hybrid(replace(CONFIG, merge="rrf", rrf_k=0)).retrieve(["양쪽"], k=4)
    assert ids(found) == ["1#0", "3#0", "2#0", "9#0"]
    assert [c.score for c in found] == pytest.approx([1 + 1 / 2, 1 / 3 + 1, 1 / 2, 1 / 3])


@pytest.mark.parametrize(("weight", "leg"), [(1.0, SPARSE["양쪽"]), (0.0, DENSE["양쪽"])])
def test_a_weight_of_one_or_zero_is_one_leg(weight: float, leg: dict[str, float]) -> None:
    (merged,) = hybrid(replace(CONFIG, sparse_weight=weight)).retrieve(["양쪽"], k=10)
    assert ids(merged)[:2] == ids(candidates(leg))[:2]


def test_each_leg_is_asked_for_its_depth_and_for_more_where_that_is_too_little() -> None:
    sparse, dense = TableRetriever(SPARSE), TableRetriever(DENSE)
    HybridRetriever(sparse, dense, replace(CONFIG, depth=7)).retrieve(["양쪽"], k=2)
    HybridRetriever(sparse, dense, replace(CONFIG, depth=2)).retrieve(["양쪽", "한 글"], k=9)
    assert sparse.asked == dense.asked == [7, 2, 4]


@pytest.mark.parametrize("merge", ["weighted", "rrf"])
def test_those_asked_for_beyond_the_depth_do_not_disturb_the_first(merge: str) -> None:
    legs = (
        TableRetriever({"가": {"0#0": 9.0, "1#0": 8.0, "2#0": 7.0, "3#0": 1.0, "4#0": 0.0}}),
        TableRetriever({"가": {"2#0": 0.9, "0#0": 0.8, "3#0": 0.7, "5#0": 0.1, "1#0": 0.0}}),
    )
    retriever = HybridRetriever(*legs, replace(CONFIG, depth=2, merge=merge))
    everything = retriever.rank(["가"], k=6)[0]
    assert {row for row, _ in everything} == {0, 1, 2, 3, 4, 5}
    assert all(a > b for (_, a), (_, b) in itertools.pairwise(everything))
    for k in range(1, 6):
        assert retriever.rank(["가"], k=k)[0] == everything[:k]


def test_copies_at_the_top_of_both_legs_do_not_crowd_out_the_rest() -> None:
    scores = {"같은 글": {f"{i}#0": 10.0 - i for i in range(10)}}
    copies = np.array([0, 0, 0, 0, 0, 0, 0, 7, 8, 9])  # the first seven are one passage
    config = replace(CONFIG, depth=3)
    retriever = HybridRetriever(
        TableRetriever(scores), TableRetriever(scores), config, Collapser(STORE, copies, config)
    )
    (found,) = retriever.retrieve(["같은 글"], k=3)
    assert [candidate.passage.passage_id for candidate in found] == ["0#0", "7#0", "8#0"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"merge": "sum"}, r"retrieval\.merge.*weighted, rrf"),
        ({"sparse_weight": 1.1}, r"retrieval\.sparse_weight"),
        ({"depth": 0}, r"retrieval\.depth"),
        ({"rrf_k": -1}, r"retrieval\.rrf_k"),
    ],
)
def test_values_out_of_range_are_refused(change: dict, name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        hybrid(replace(CONFIG, **change))


# --- the second stage ---------------------------------------------------------------------------


class AngleEncoder:
    """A passage's vector is (cos, sin) of the angle its text names; a question's is (1, 0)."""

    fingerprint = "angle/1"
    dim = 2

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode_questions(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[1, 0]] * len(texts), dtype=np.float32).reshape(-1, 2)

    def encode_passages(self, passages: Sequence[Passage]) -> np.ndarray:
        self.encoded += [passage.passage_id for passage in passages]
        cosines = np.array([float(passage.text) for passage in passages])
        return np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1).astype(np.float32)


def first_stage(*rows: tuple[str, float, float]) -> list[Candidate]:
    """Candidates of (passage id, first stage's score, cosine), best first."""
    return [
        Candidate(make_passage(passage_id, str(cosine)), score, rank, "hybrid")
        for rank, (passage_id, score, cosine) in enumerate(rows)
    ]


FOUND = first_stage(("1#0", 10.0, 0.1), ("2#0", 8.0, 0.9), ("3#0", 5.0, 0.3), ("4#0", 2.0, 1.0))


def test_mixed_scores_worked_by_hand() -> None:
    assert mixed_scores([0.1, 0.9], [10.0, 8.0, 5.0], weight=0.75) == pytest.approx(
        [0.75 * 0.1 + 0.25 * 10 / 10, 0.75 * 0.9 + 0.25 * 8 / 10, 0.75 * -1 + 0.25 * 5 / 10]
    )
    assert mixed_scores([0.5], [0.0], weight=0.75) == pytest.approx([0.75 * 0.5])
    assert mixed_scores([], [], weight=0.75) == []


def test_rerank_reorders_what_it_sees_and_leaves_the_rest_behind() -> None:
    encoder = AngleEncoder()
    reranker = EncoderReranker(encoder, RerankConfig(encoder="angle", depth=3, weight=0.75))
    (found,) = reranker.rerank(["질문"], [FOUND])
    assert ids(found) == ["2#0", "3#0", "1#0", "4#0"]
    assert [c.score for c in found] == pytest.approx(
        [
            0.75 * 0.9 + 0.25 * 8 / 10,
            0.75 * 0.3 + 0.25 * 5 / 10,
            0.75 * 0.1 + 0.25 * 10 / 10,
            0.75 * -1 + 0.25 * 2 / 10,
        ],
        abs=1e-6,
    )
    assert [c.rank for c in found] == [0, 1, 2, 3]
    assert {c.source for c in found} == {"rerank"}
    assert encoder.encoded == ["1#0", "2#0", "3#0"]


def test_a_passage_of_two_questions_is_encoded_once() -> None:
    encoder = AngleEncoder()
    reranker = EncoderReranker(encoder, RerankConfig(encoder="angle"))
    reranker.rerank(["하나", "둘"], [FOUND, FOUND[1:]])
    assert encoder.encoded == ids(FOUND)


def test_reranker_conforms() -> None:
    reranker = EncoderReranker(AngleEncoder(), RerankConfig(encoder="angle", depth=2))
    check_reranker(reranker, ["하나", "둘", "셋"], [FOUND, [], FOUND[:1]])


@given(
    rows=st.lists(st.tuples(st.floats(0, 50, width=16), st.floats(-1, 1)), min_size=1, max_size=12),
    depth=st.integers(1, 12),
    weight=st.floats(0, 1),
)
def test_what_the_second_stage_does_not_see_never_overtakes(
    rows: list[tuple[float, float]], depth: int, weight: float
) -> None:
    scores = sorted((score for score, _ in rows), reverse=True)
    found = first_stage(*((f"{i:02}#0", score, rows[i][1]) for i, score in enumerate(scores)))
    config = RerankConfig(encoder="angle", depth=depth, weight=weight)
    (reranked,) = EncoderReranker(AngleEncoder(), config).rerank(["질문"], [found])
    assert_ranked(reranked)
    places = {passage_id: place for place, passage_id in enumerate(ids(reranked))}
    seen, unseen = ids(found)[:depth], ids(found)[depth:]
    assert all(places[a] < places[b] for a in seen for b in unseen)
    assert [p for p in ids(reranked) if p in unseen] == unseen


@pytest.mark.parametrize(
    ("change", "name"),
    [({"weight": -0.1}, r"rerank\.weight"), ({"depth": 0}, r"rerank\.depth")],
)
def test_rerank_values_out_of_range_are_refused(change: dict, name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        EncoderReranker(AngleEncoder(), replace(RerankConfig(), **change))
