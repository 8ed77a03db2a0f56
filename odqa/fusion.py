"""From one question's readings to its answers: one scale, equal answers added, probabilities."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from odqa.config import FusionConfig
from odqa.errors import ConfigError, OdqaError
from odqa.text.answers import normalize_answer
from odqa.text.clues import Clues, find_clues
from odqa.types import Answer, Prediction, Reading

CLUES = tuple(field.name for field in dataclasses.fields(Clues))


@dataclass(frozen=True, slots=True)
class FusedReading:
    """A reading with its place on the fused scale; ``retrieval`` is the normalised score."""

    reading: Reading
    retrieval: float
    score: float


class LogLinearFusion:
    """Log-linear fusion of reader and retrieval with aggregation of equal answers.

    For a reading r of the passage c, with the weights of the configuration::

        fused(r) = reader_weight * r.score + retrieval_weight * z(c) + sum of clue weights

    where z is the retrieval score standardised over the question's candidates (see
    ``standardize``). Its mean is 0, so the fused scale keeps the reader's zero, which is where
    ``no_answer_bias`` lives. The clues (``odqa.text.clues``) are those that the span shows; a text
    that is no span has none. With the temperature T::

        Z           = sum over readings of exp(fused / T) + exp(no_answer_bias / T)
        P(answer)   = sum over its readings of exp(fused / T) / Z
        P(none)     = exp(no_answer_bias / T) / Z
        score       = T * ln(sum over its readings of exp(fused / T))

    so that the order by score is the order by probability. Answers are equal when their
    ``normalize_answer`` keys are. Readings of one place with different boundaries ("대통령",
    "대통령인") stay different answers: which boundary is right is the reader's to say.

    Weighted sums of log scores: Yang et al. 2019 (BERTserini), Fajcik et al. 2021 (R2-D2).
    """

    def __init__(self, config: FusionConfig) -> None:
        """Keep the weights.

        Raises:
            ConfigError: a weight is not a finite number, or the temperature is not above 0.
        """
        for field in dataclasses.fields(config):
            if not math.isfinite(getattr(config, field.name)):
                raise ConfigError(f"fusion.{field.name}: must be a finite number")
        if config.temperature <= 0:
            raise ConfigError(f"fusion.temperature: must be above 0, got {config.temperature}")
        self.config = config
        self._clues = {name: weight for name in CLUES if (weight := getattr(config, name)) != 0}

    def fuse(self, question: str, readings: Sequence[Reading], *, k: int) -> Prediction:
        """At most ``k`` answers, best first; ties by passage id, then by place in the passage.

        The probabilities are taken over all readings before the cut to ``k``.

        Raises:
            OdqaError: a reader or retrieval score is not a finite number.
        """
        temperature = self.config.temperature
        groups = _group(self.score_readings(question, readings))
        none = self.config.no_answer_bias / temperature
        totals = [log_sum_exp([f.score / temperature for f in group]) for group in groups]
        log_z = log_sum_exp([*totals, none])
        answers = [
            _answer(group, total * temperature, math.exp(total - log_z))
            for group, total in zip(groups, totals, strict=True)
        ]
        answers.sort(key=lambda answer: (-answer.score, *_place(answer.evidence[0])))
        return Prediction(question, tuple(answers[:k]), math.exp(none - log_z))

    def score_readings(self, question: str, readings: Sequence[Reading]) -> list[FusedReading]:
        """Each different reading once with its fused score, best first.

        A reading given twice (the same text at the same place of the same passage) speaks once,
        with the reader's better score. Blank readings are dropped.
        """
        _check_scores(readings)
        scores = {r.candidate.passage.passage_id: r.candidate.score for r in readings}
        z = standardize(scores)
        best: dict[tuple[str, int, int, str], FusedReading] = {}
        for reading in readings:
            if not reading.text.strip():
                continue
            retrieval = z[reading.candidate.passage.passage_id]
            score = (
                self.config.reader_weight * reading.score
                + self.config.retrieval_weight * retrieval
                + self._sum_of_clues(question, reading)
            )
            place = _place(reading)
            if place not in best or best[place].reading.score < reading.score:
                best[place] = FusedReading(reading, retrieval, score)
        return sorted(best.values(), key=lambda f: (-f.score, *_place(f.reading)))

    def _sum_of_clues(self, question: str, reading: Reading) -> float:
        if not self._clues:
            return 0.0
        clues = clues_of(question, reading)
        return math.fsum(weight for name, weight in self._clues.items() if getattr(clues, name))


def clues_of(question: str, reading: Reading) -> Clues:
    """The clues of a reading; a text that is no span has none."""
    if reading.start is None or reading.end is None:
        return Clues()
    passage = reading.candidate.passage
    first = passage.passage_id.endswith("#0")
    return find_clues(
        question, passage.title, passage.text, reading.start, reading.end, first=first
    )


def standardize(scores: Mapping[str, float]) -> dict[str, float]:
    """z-scores: (score - mean) / standard deviation (of the population), by passage id.

    The scale and the zero of the first stage (BM25, cosine, reciprocal ranks, a mixture) fall out,
    so one weight serves them all. Equal scores, or one candidate alone, say nothing about which
    passage is better: all are 0 then.
    """
    if not scores:
        return {}
    mean = math.fsum(scores.values()) / len(scores)
    variance = math.fsum((score - mean) ** 2 for score in scores.values()) / len(scores)
    deviation = math.sqrt(variance)
    if deviation <= 1e-9 * max(abs(score) for score in scores.values()):  # rounding, not a signal
        return dict.fromkeys(scores, 0.0)
    return {passage_id: (score - mean) / deviation for passage_id, score in scores.items()}


def log_sum_exp(values: Sequence[float]) -> float:
    """ln(sum(exp(values))) without overflow; the values are not empty."""
    highest = max(values)
    return highest + math.log(math.fsum(math.exp(value - highest) for value in values))


def _group(fused: Iterable[FusedReading]) -> list[list[FusedReading]]:
    """Readings by answer; the order within a group is the order given (best first)."""
    groups: dict[str, list[FusedReading]] = {}
    for item in fused:
        groups.setdefault(normalize_answer(item.reading.text), []).append(item)
    return list(groups.values())


def _answer(group: Sequence[FusedReading], score: float, probability: float) -> Answer:
    best = group[0].reading
    return Answer(
        text=best.text,
        score=score,
        probability=probability,
        reader_score=best.score,
        retrieval_score=best.candidate.score,
        evidence=tuple(item.reading for item in group),
    )


def _place(reading: Reading) -> tuple[str, int, int, str]:
    """A total order over readings; a generated text without offsets comes last in its passage."""
    last = 1 << 62
    start = last if reading.start is None else reading.start
    end = last if reading.end is None else reading.end
    return (reading.candidate.passage.passage_id, start, end, reading.text)


def _check_scores(readings: Iterable[Reading]) -> None:
    for reading in readings:
        for name, score in (("reader", reading.score), ("retrieval", reading.candidate.score)):
            if not math.isfinite(score):
                raise OdqaError(
                    f"the {name} score of passage '{reading.candidate.passage.passage_id}' is "
                    f"{score}; a model that gives no finite scores is damaged or runs in too low "
                    "a precision (try --set reader.precision=fp32)"
                )
