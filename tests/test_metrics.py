"""Every metric against figures worked by hand, written as arithmetic."""

import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odqa import metrics

KOREAN = st.text(alphabet="가나다 라세종대왕《》'\"().,1a9Z", max_size=12)


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("《훈민정음》", "훈민정음"),
        ("‘세종’ 대왕", "세종 대왕"),
        ("세종(이도)대왕", "세종 이도 대왕"),  # a bracket separates
        ("1,446년.", "1446년"),  # ASCII punctuation joins
        ("U-제조 스테이션", "u제조 스테이션"),
        ("“세종”", "“세종”"),  # double curly quotes stay: not on the list, not ASCII
        ("  한   글 ", "한 글"),
        ("「한글」", "「한글」"),
        ("3·1", "3·1"),
    ],
)
def test_normalize_korquad(text: str, normalized: str) -> None:
    assert metrics.normalize_korquad(text) == normalized


def test_korquad_em_counts_spaces_and_particles() -> None:
    assert metrics.korquad_em("《세종》", ["이도", "세종"]) == 1.0
    assert metrics.korquad_em("세종 대왕", ["세종대왕"]) == 0.0
    assert metrics.korquad_em("세종은", ["세종"]) == 0.0
    assert metrics.korquad_em("", ["세종"]) == 0.0
    assert metrics.korquad_em("세종", []) == 0.0


def test_korquad_normalises_no_unicode() -> None:
    assert metrics.korquad_em(unicodedata.normalize("NFD", "세종"), ["세종"]) == 0.0


def test_korquad_f1() -> None:
    # 세종대왕은 against 세종: 2 shared, P = 2/5, R = 2/2.
    assert metrics.korquad_f1("세종대왕은", ["세종"]) == pytest.approx(
        2 * (2 / 5) * 1 / (2 / 5 + 1)
    )
    # a multiset: 아아아 against 아아 shares two, not three.
    assert metrics.korquad_f1("아아아", ["아아"]) == pytest.approx(2 * (2 / 3) * 1 / (2 / 3 + 1))
    # order and spaces do not count
    assert metrics.korquad_f1("왕 대종세", ["세종대왕"]) == 1.0
    # the best gold of several
    assert metrics.korquad_f1("세종", ["이순신", "세종대왕"]) == pytest.approx(
        2 * 1 * (2 / 4) / (1 + 2 / 4)
    )


def test_korquad_f1_of_nothing_is_nothing() -> None:
    assert metrics.korquad_f1("", [""]) == 0.0
    assert metrics.korquad_f1("...", ["..."]) == 0.0
    assert metrics.korquad_em("", [""]) == 1.0


def test_em_and_f1_choose_their_golds_separately() -> None:
    golds = ["1,446", "1446년 9월"]
    assert metrics.korquad_em("1446", golds) == 1.0
    assert metrics.korquad_f1("1446년", golds) == pytest.approx(2 * (4 / 5) * 1 / (4 / 5 + 1))


def test_korquad2_strips_html_and_spacing() -> None:
    assert metrics.korquad2_em("<b>세종</b> 대왕", ["세종대왕"]) == 1.0
    assert metrics.korquad2_em("세종&amp;대왕", ["세종대왕"]) == 1.0
    assert metrics.korquad2_em("1 < 2", ["1 2"]) == 1.0  # no tag: the sign is a symbol
    assert metrics.korquad2_em("<![foo", ["<![foo"]) == 1.0  # html.parser gives up on these
    assert metrics.korquad2_f1("<td>세종</td>", ["세종대왕"]) == pytest.approx(
        2 * 1 * (2 / 4) / (1 + 2 / 4)
    )


def test_klue_keeps_the_brackets_that_the_fixed_one_strips() -> None:
    assert metrics.klue_em("《훈민정음》", ["훈민정음"]) == 0.0
    assert metrics.klue_fixed_em("《훈민정음》", ["훈민정음"]) == 1.0
    assert metrics.klue_em("'훈민정음'", ["훈민정음"]) == 1.0  # ASCII quotes are punctuation
    assert metrics.klue_em("훈민(정음)", ["훈민정음"]) == 1.0  # deleted, not made a space
    assert metrics.klue_fixed_em("훈민(정음)", ["훈민 정음"]) == 1.0


def test_klue_rouge_w() -> None:
    # longest common substring of "세종 대왕" and "세종 임금": "세종 " of 3; 5 characters each
    assert metrics.klue_rouge_w("세종 대왕", ["세종 임금"]) == pytest.approx(3 / 5)
    # 대통령인 / 대통령: L = 3, P = 3/4, R = 3/3
    assert metrics.klue_rouge_w("대통령인", ["대통령"]) == pytest.approx(
        2 * (3 / 4) * 1 / (3 / 4 + 1)
    )
    # contiguous: 가나다라 and 가다나라 share one character at a time
    assert metrics.klue_rouge_w("가나다라", ["가다나라"]) == pytest.approx(1 / 4)
    assert metrics.klue_rouge_w("《가》", ["가"]) == pytest.approx(2 * (1 / 3) * 1 / (1 / 3 + 1))
    assert metrics.klue_fixed_rouge_w("《가》", ["가"]) == 1.0


def test_klue_unanswerable_is_the_empty_string() -> None:
    for golds in ([], [""]):
        assert metrics.klue_em("", golds) == 1.0
        assert metrics.klue_rouge_w("", golds) == 1.0
        assert metrics.klue_em("세종", golds) == 0.0
        assert metrics.klue_rouge_w("세종", golds) == 0.0
    assert metrics.klue_rouge_w("", ["세종"]) == 0.0


def test_xor_deletes_counters_and_counts_tokens() -> None:
    assert metrics.xor_em("1446년", ["1446"]) == 1.0
    assert metrics.xor_em("Sly, Fox", ["sly fox"]) == 1.0
    # tokens: {세종, 대왕} against {세종, 임금, 대왕}: 2 shared, P = 2/2, R = 2/3
    assert metrics.xor_f1("세종 대왕", ["세종 임금 대왕"]) == pytest.approx(
        2 * 1 * (2 / 3) / (1 + 2 / 3)
    )
    assert metrics.xor_f1("세종대왕", ["세종 대왕"]) == 0.0
    assert metrics.xor_f1("년", ["人"]) == 0.0  # both empty: nothing shared


def test_edit_distance() -> None:
    assert metrics.levenshtein("kitten", "sitting") == 3
    assert metrics.syllable_distance("세종은", ["세종", "이도"]) == 1
    assert metrics.syllable_distance("", ["세종"]) == 2
    assert metrics.syllable_distance("세종", []) == 2  # unanswerable: the gold is nothing
    # 강 and 간 differ in one jamo of three, but by a whole syllable
    assert metrics.jamo_distance("강", ["간"]) == 1
    assert metrics.syllable_distance("강", ["간"]) == 1
    assert metrics.jamo_distance("", ["강가"]) == 3 + 2


@given(KOREAN, KOREAN)
def test_answer_metrics_stay_in_bounds_and_love_the_gold(prediction: str, gold: str) -> None:
    for name in ("korquad", "korquad2", "klue", "klue_fixed", "xor"):
        em = getattr(metrics, f"{name}_em")
        soft = getattr(metrics, f"{name}_f1", None) or getattr(metrics, f"{name}_rouge_w")
        assert em(gold, ["다른 것", gold]) == 1.0
        assert em(prediction, [gold]) in (0.0, 1.0)
        assert 0.0 <= soft(prediction, [gold]) <= 1.0
        assert soft(prediction, [gold]) == pytest.approx(soft(gold, [prediction]))
        if em(prediction, [gold]) and metrics.normalize_xor(gold):
            assert soft(prediction, [gold]) in (0.0, pytest.approx(1.0))


@given(KOREAN, KOREAN, KOREAN)
def test_levenshtein_is_a_metric(a: str, b: str, c: str) -> None:
    assert metrics.levenshtein(a, b) == metrics.levenshtein(b, a)
    assert (metrics.levenshtein(a, b) == 0) == (a == b)
    assert metrics.levenshtein(a, c) <= metrics.levenshtein(a, b) + metrics.levenshtein(b, c)


RANKING = ["a", "b", "c", "d", "e"]


def test_ndcg() -> None:
    relevance = {"b": 1, "d": 1, "x": 1, "a": 0}
    dcg = 1 / math.log2(2 + 1) + 1 / math.log2(4 + 1)
    ideal = 1 / math.log2(1 + 1) + 1 / math.log2(2 + 1) + 1 / math.log2(3 + 1)
    assert metrics.ndcg_at(10, RANKING, relevance) == pytest.approx(dcg / ideal)
    cut = 1 / math.log2(2 + 1)
    ideal_of_two = 1 / math.log2(1 + 1) + 1 / math.log2(2 + 1)
    assert metrics.ndcg_at(2, RANKING, relevance) == pytest.approx(cut / ideal_of_two)
    graded = {"a": 1, "b": 3}
    assert metrics.ndcg_at(5, RANKING, graded) == pytest.approx(
        (1 / 1 + 3 / math.log2(3)) / (3 / 1 + 1 / math.log2(3))
    )
    assert metrics.ndcg_at(5, RANKING, {"a": 0}) == 0.0
    assert metrics.ndcg_at(5, [], relevance) == 0.0


def test_mrr_recall_hit_are_three_things() -> None:
    relevance = {"b": 1, "d": 1, "x": 1}
    assert metrics.mrr_at(10, RANKING, relevance) == 1 / 2
    assert metrics.mrr_at(1, RANKING, relevance) == 0.0
    assert metrics.recall_at(3, RANKING, relevance) == 1 / 3
    assert metrics.recall_at(10, RANKING, relevance) == 2 / 3
    assert metrics.hit_at(3, RANKING, relevance) == 1.0
    assert metrics.hit_at(1, RANKING, relevance) == 0.0
    for metric in (metrics.mrr_at, metrics.recall_at, metrics.hit_at):
        assert metric(5, RANKING, {}) == 0.0
        assert metric(5, RANKING, {"a": 0}) == 0.0


@pytest.mark.parametrize(
    ("text", "answer", "holds"),
    [
        ("글자는 28자였다", "28", True),
        ("글자는 128자였다", "28", False),
        ("글자는 281자였다", "28", False),
        ("128자에서 28자로", "28", True),
        ("인구는 28,000명이다", "28", False),
        ("높이는 1.28m이다", "28", False),
        ("높이는 28.5m이다", "28", False),
        ("28, 29일", "28", True),
        ("모두 28.", "28", True),
        ("구글(Google)", "Go", False),
        ("SLY  FOX가 불렀다", "Sly Fox", True),
        (unicodedata.normalize("NFD", "세종은"), "세종", True),
        ("세종은", " ", False),
        ("C++로 짠", "C++", True),
    ],
)
def test_holds_answer(text: str, answer: str, holds: bool) -> None:
    assert metrics.holds_answer(text, [answer]) is holds


def test_collapse_to_articles_keeps_the_first() -> None:
    assert metrics.collapse_to_articles(["7#2", "3#0", "7#0", "a#b#1", "x"]) == [
        "7",
        "3",
        "a#b",
        "x",
    ]
