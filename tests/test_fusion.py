import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odqa.config import FusionConfig
from odqa.errors import ConfigError, OdqaError
from odqa.fusion import CLUES, LogLinearFusion, log_sum_exp, standardize
from odqa.types import Candidate, Passage, Reading

WITHOUT_CLUES = dict.fromkeys(CLUES, 0.0)
PLAIN = FusionConfig(**WITHOUT_CLUES, temperature=1.0, retrieval_weight=1.0, no_answer_bias=0.0)


def candidate(
    passage_id: str, score: float, text: str = "세종대왕이 훈민정음을 지었다."
) -> Candidate:
    passage = Passage(passage_id, passage_id.partition("#")[0], "제목", text, 0, len(text))
    return Candidate(passage, score, 0, "sparse")


def reading(
    passage_id: str, text: str, score: float, *, retrieval: float = 0.0, start: int | None = 0
) -> Reading:
    end = None if start is None else start + len(text)
    return Reading(candidate(passage_id, retrieval), text, score, start, end)


def test_one_reading_against_no_answer() -> None:
    prediction = LogLinearFusion(PLAIN).fuse("q", [reading("1#0", "세종", 2.0)], k=5)
    (answer,) = prediction.answers
    # One candidate says nothing by its retrieval score, so fused = 1.0 * 2.0 + 1.0 * 0.
    assert answer.score == pytest.approx(2.0)
    assert answer.probability == pytest.approx(math.exp(2) / (math.exp(2) + math.exp(0)))
    assert prediction.no_answer_probability == pytest.approx(1 / (math.exp(2) + 1))


def test_weights_temperature_and_bias_by_hand() -> None:
    config = FusionConfig(
        **WITHOUT_CLUES,
        reader_weight=0.5,
        retrieval_weight=2.0,
        temperature=2.0,
        no_answer_bias=1.0,
    )
    readings = [
        reading("1#0", "세종", 4.0, retrieval=10.0),
        reading("2#0", "태종", 6.0, retrieval=20.0),
    ]
    # mean 15, standard deviation 5: z = -1 and +1.
    sejong, taejong = 0.5 * 4.0 + 2.0 * -1, 0.5 * 6.0 + 2.0 * 1
    z = math.exp(sejong / 2) + math.exp(taejong / 2) + math.exp(1.0 / 2)
    prediction = LogLinearFusion(config).fuse("q", readings, k=5)
    assert [answer.text for answer in prediction.answers] == ["태종", "세종"]
    assert prediction.answers[0].score == pytest.approx(taejong)
    assert prediction.answers[0].probability == pytest.approx(math.exp(taejong / 2) / z)
    assert prediction.answers[1].probability == pytest.approx(math.exp(sejong / 2) / z)
    assert prediction.no_answer_probability == pytest.approx(math.exp(1.0 / 2) / z)
    assert prediction.answers[0].reader_score == 6.0
    assert prediction.answers[0].retrieval_score == 20.0


def test_equal_answers_add_their_evidence_and_overtake() -> None:
    readings = [
        reading("1#0", "태종", 3.0),
        reading("2#0", "《세종 대왕》", 2.5),
        reading("3#0", "세종대왕", 2.6),
    ]
    prediction = LogLinearFusion(PLAIN).fuse("q", readings, k=5)
    best = prediction.answers[0]
    assert best.text == "세종대왕"  # the words of the best evidence
    assert best.score == pytest.approx(math.log(math.exp(2.5) + math.exp(2.6)))
    assert best.score > 3.0
    assert [e.candidate.passage.passage_id for e in best.evidence] == ["3#0", "2#0"]


def test_score_is_aggregated_at_the_temperature() -> None:
    readings = [reading("1#0", "가", 1.0), reading("2#0", "가", 3.0)]
    (answer,) = (
        LogLinearFusion(FusionConfig(**WITHOUT_CLUES, temperature=4.0))
        .fuse("q", readings, k=1)
        .answers
    )
    assert answer.score == pytest.approx(4 * math.log(math.exp(1 / 4) + math.exp(3 / 4)))


def test_other_boundaries_stay_other_answers() -> None:
    readings = [reading("1#0", "대통령", 2.0), reading("1#0", "대통령인", 1.0)]
    prediction = LogLinearFusion(PLAIN).fuse("q", readings, k=5)
    assert [answer.text for answer in prediction.answers] == ["대통령", "대통령인"]


def test_a_reading_given_twice_speaks_once() -> None:
    readings = [reading("1#0", "세종", 2.0), reading("1#0", "세종", 1.0)]
    (answer,) = LogLinearFusion(PLAIN).fuse("q", readings, k=5).answers
    assert answer.score == pytest.approx(2.0)
    assert len(answer.evidence) == 1


def test_ties_by_passage_id_then_place_then_generated_last() -> None:
    readings = [
        reading("2#0", "나", 1.0),
        reading("1#0", "다", 1.0, start=None),
        reading("1#0", "라", 1.0, start=5),
        reading("1#0", "가", 1.0, start=0),
    ]
    for order in (readings, readings[::-1]):
        prediction = LogLinearFusion(PLAIN).fuse("q", order, k=5)
        assert [answer.text for answer in prediction.answers] == ["가", "라", "다", "나"]


def test_cut_to_k_leaves_probabilities_alone() -> None:
    readings = [reading("1#0", "가", 1.0), reading("2#0", "나", 0.0)]
    fusion = LogLinearFusion(PLAIN)
    whole, cut = fusion.fuse("q", readings, k=5), fusion.fuse("q", readings, k=1)
    assert cut.answers == whole.answers[:1]
    assert cut.no_answer_probability == whole.no_answer_probability


def test_no_reading_is_no_answer() -> None:
    prediction = LogLinearFusion(PLAIN).fuse("q", [], k=5)
    assert prediction.answers == ()
    assert prediction.no_answer_probability == 1.0


def test_blank_readings_are_dropped() -> None:
    assert LogLinearFusion(PLAIN).fuse("q", [reading("1#0", " ", 9.0)], k=5).answers == ()


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (FusionConfig(**WITHOUT_CLUES, temperature=0.0), "fusion.temperature"),
        (FusionConfig(**WITHOUT_CLUES, temperature=-1.0), "fusion.temperature"),
        (FusionConfig(**WITHOUT_CLUES, reader_weight=math.nan), "fusion.reader_weight"),
        (FusionConfig(**WITHOUT_CLUES, no_answer_bias=math.inf), "fusion.no_answer_bias"),
    ],
)
def test_bad_configuration_is_named(config: FusionConfig, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        LogLinearFusion(config)


def test_a_score_that_is_no_number_is_an_error() -> None:
    with pytest.raises(OdqaError, match="1#0"):
        LogLinearFusion(PLAIN).fuse("q", [reading("1#0", "가", math.nan)], k=1)


def test_standardize() -> None:
    assert standardize({"a": 1.0, "b": 3.0}) == {"a": (1 - 2) / 1, "b": (3 - 2) / 1}
    assert standardize({"a": 0.1 + 0.2, "b": 0.3}) == {"a": 0.0, "b": 0.0}  # rounding only
    assert standardize({"a": 7.0}) == {"a": 0.0}
    assert standardize({}) == {}


def test_log_sum_exp_does_not_overflow() -> None:
    assert log_sum_exp([1000.0, 1000.0]) == pytest.approx(1000 + math.log(2))
    assert log_sum_exp([-1000.0]) == -1000.0


scores = st.floats(-50, 50)
some_readings = st.lists(
    st.builds(
        lambda n, text, score, retrieval: reading(f"{n}#0", text, score, retrieval=retrieval + n),
        st.integers(0, 3),
        st.sampled_from(["세종", "세종대왕", "《세종》", "태종"]),
        scores,
        st.just(1.0),
    ),
    max_size=12,
)


@given(some_readings, st.floats(0.1, 10), st.floats(-10, 10))
def test_probabilities_sum_to_one_and_order_holds(
    readings: list[Reading], temperature: float, bias: float
) -> None:
    config = FusionConfig(**WITHOUT_CLUES, temperature=temperature, no_answer_bias=bias)
    prediction = LogLinearFusion(config).fuse("q", readings, k=100)
    total = sum(answer.probability for answer in prediction.answers)
    assert total + prediction.no_answer_probability == pytest.approx(1.0)
    answer_scores = [answer.score for answer in prediction.answers]
    assert answer_scores == sorted(answer_scores, reverse=True)
    again = LogLinearFusion(config).fuse("q", readings[::-1], k=100)
    assert again.answers == prediction.answers


@given(some_readings, st.floats(-5, 5))
def test_more_bias_only_makes_no_answer_likelier(readings: list[Reading], bias: float) -> None:
    low = LogLinearFusion(FusionConfig(**WITHOUT_CLUES, no_answer_bias=bias)).fuse(
        "q", readings, k=100
    )
    high = LogLinearFusion(FusionConfig(**WITHOUT_CLUES, no_answer_bias=bias + 1)).fuse(
        "q", readings, k=100
    )
    assert [a.text for a in low.answers] == [a.text for a in high.answers]
    assert high.no_answer_probability >= low.no_answer_probability


def test_clues_are_added_by_hand() -> None:
    config = dataclasses.replace(PLAIN, names_article=3.0, article_start=0.5, single_character=-7.0)
    item = reading("1#0", "세종", 2.0)
    (fused,) = LogLinearFusion(config).score_readings("제목은 무엇인가?", [item])
    assert fused.score == pytest.approx(2.0 + 3.0 + 0.5)
    (fused,) = LogLinearFusion(config).score_readings("무엇인가?", [reading("1#1", "세", 2.0)])
    assert fused.score == pytest.approx(2.0 - 7.0)
    generated = reading("1#0", "세종", 2.0, start=None)
    (fused,) = LogLinearFusion(config).score_readings("제목은 무엇인가?", [generated])
    assert fused.score == pytest.approx(2.0)


@pytest.mark.parametrize("name", CLUES)
def test_every_clue_has_a_finite_weight(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        LogLinearFusion(dataclasses.replace(PLAIN, **{name: math.nan}))
