"""Which stage lost a question: for every wrong answer one stage, so that the losses add up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from odqa.metrics import holds_answer, korquad_em, normalize_korquad
from odqa.text.morphemes import morphemes

STAGES: dict[str, str] = {
    "retrieval": "no candidate that was read holds an answer string",
    "rerank": "the first stage had it among as many candidates, the second put it too low",
    "particle": "right but for a particle, copula or ending after it",
    "boundary": "the right place, but a word too much or too little",
    "fusion": "the right reading was there, another was put first",
    "reader": "the answer stood in a candidate, the reader did not find it",
    "abstention": "the right answer was there, but none was given",
    "unanswerable": "an answer was given to a question that has none",
}
"""Every stage and what is lost there, in the order of the data's way."""

_TRAILING_TAGS = ("J", "E", "XSV", "XSA", "VCP")


def stage_of_loss(
    golds: Sequence[str],
    prediction: str,
    best_answer: str,
    *,
    candidates: Sequence[str] | None,
    retrieved: Sequence[str] | None,
    readings: Iterable[str],
) -> str | None:
    """The stage that lost the question; None where the prediction is right (KorQuAD's EM).

    ``prediction`` is what was given ("" for none), ``best_answer`` what would have been given had
    something had to be. ``candidates`` are the texts that were read and ``retrieved`` as many of
    the first stage's; None where the gold passage was given, so that nothing could be lost there.
    ``readings`` are the texts of all readings; a right one among them, a span or not, was not lost
    before it.
    """
    if not golds:
        return "unanswerable" if prediction.strip() else None
    if _is_right(prediction, golds):
        return None
    if _is_right(best_answer, golds):
        return "abstention"
    found = any(_is_right(text, golds) for text in readings)
    if candidates is not None and not found and not _held(candidates, golds):
        return "rerank" if retrieved is not None and _held(retrieved, golds) else "retrieval"
    if best_answer.strip():
        if any(differs_by_particle(best_answer, gold) for gold in golds):
            return "particle"
        if any(differs_by_boundary(best_answer, gold) for gold in golds):
            return "boundary"
    return "fusion" if found else "reader"


def differs_by_particle(prediction: str, gold: str) -> bool:
    """Is one of the two the other with nothing but particles, endings or a copula after it?

    "대통령인" and "대통령", "학교에서는" and "학교"; not "대통령제" and "대통령".
    """
    shorter, longer = sorted((normalize_korquad(prediction), normalize_korquad(gold)), key=len)
    if not shorter or shorter == longer or not longer.startswith(shorter):
        return False
    rest = [m for m in morphemes(longer) if m.end > len(shorter)]
    return rest[0].start == len(shorter) and all(
        m.first_tag.startswith(_TRAILING_TAGS) for m in rest
    )


def differs_by_boundary(prediction: str, gold: str) -> bool:
    """Does one of the two stand in the other (spaces aside, numbers and Latin words whole)?"""
    first, second = (normalize_korquad(text).replace(" ", "") for text in (prediction, gold))
    if not first or not second:
        return False
    return holds_answer(first, [second]) or holds_answer(second, [first])


def _is_right(text: str, golds: Sequence[str]) -> bool:
    return korquad_em(text, golds) == 1.0


def _held(texts: Iterable[str], golds: Sequence[str]) -> bool:
    return any(holds_answer(text, golds) for text in texts)
