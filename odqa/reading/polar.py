"""Yes/no questions: the sentence that says most of what is asked, and whether it denies it.

No reader of spans can say "yes". The question is taken for a statement, the passages are searched
for the sentence that repeats most of it, and the probability that the statement holds grows with
how much that is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from odqa.text.morphemes import morphemes
from odqa.text.question_types import is_polar
from odqa.text.sentences import split_sentences
from odqa.text.tokenizers import create_tokenizer
from odqa.types import Answer, Candidate, Prediction, Reading

YES, NO = "yes", "no"

# Logistic regression on the 32 labelled yes/no questions of XOR-TyDi-ko dev and MKQA-ko dev
# (docs/decisions.md): logit P(yes) = _BIAS + _SLOPE * support.
_BIAS, _SLOPE = -1.25, 3.9

_NEGATION_TAGS = {"않": "VX", "못하": "VX", "없": "VA", "아니": "VCN", "안": "MAG", "못": "MAG"}
_REACH = 4  # morphemes behind a predicate within which its negation stands
_LIGHT = ("있", "하", "되", "이", "수", "것")  # predicates that say nothing of their own
_FICKLE = {0: (8,), 7: (8,), 8: (7, 0)}  # final consonants: none, ㄷ and ㄹ, in Unicode's order
_NOMINAL = ("NN", "XR", "XSN", "SL", "SH", "SN")


@dataclass(frozen=True, slots=True)
class Support:
    """The sentence ``[start, end)`` of a passage that bears most on a question.

    ``coverage`` is the share of the question's words that stand in it or in the article's title;
    ``denied`` whether one of question and sentence negates the predicate and the other does not.
    """

    candidate: Candidate
    start: int
    end: int
    coverage: float
    denied: bool

    @property
    def value(self) -> float:
        """From -1 (the sentence says the opposite) over 0 (nothing) to 1 (it says so)."""
        return -self.coverage if self.denied else self.coverage


class PolarAnswerer:
    """Answers what ``is_polar`` accepts with "yes" and "no", the more probable first."""

    def accepts(self, question: str) -> bool:
        """Is it a yes/no question by its form?"""
        return is_polar(question)

    def answer(
        self, question: str, candidates: Sequence[Candidate], *, k: int
    ) -> tuple[list[Reading], Prediction]:
        """Each passage's readings for both answers, and the prediction: at most ``k`` answers.

        The best-supported sentence alone decides: P(yes) = 1 / (1 + exp(-(a + b * support))).
        Readings and answers are no spans; the evidence is each passage's sentence. A passage
        that shares no word with the question says nothing; where all are so, there is no answer.
        """
        supports = (best_support(question, candidate) for candidate in candidates)
        found = [s for s in supports if s is not None and s.coverage > 0]
        found.sort(key=lambda s: (-s.coverage, s.candidate.rank))
        if not found:
            return [], Prediction(question, (), 1.0)
        yes = 1 / (1 + math.exp(-(_BIAS + _SLOPE * found[0].value)))
        answers = [_answer(YES, yes, found), _answer(NO, 1 - yes, found)]
        answers.sort(key=lambda answer: -answer.probability)
        readings = [reading for answer in answers for reading in answer.evidence]
        return readings, Prediction(question, tuple(answers[:k]), 0.0)


def best_support(question: str, candidate: Candidate) -> Support | None:
    """The sentence of a passage that covers most of the question; None where there is no word.

    Among equals the one that needs the title least, then the first.
    """
    passage = candidate.passage
    spans = split_sentences(passage.text)
    texts = [passage.text[start:end] for start, end in spans]
    tokenized = create_tokenizer("mecab").tokenize([question, passage.title, *texts])
    asked, title, *sentences = (set(words) for words in tokenized)
    if not asked or not spans:
        return None
    _, _, i = max((len(asked & (w | title)), len(asked & w), -i) for i, w in enumerate(sentences))
    head = predicate(question)
    said = next((form for form in _forms(head) if form in texts[-i]), "")
    return Support(
        candidate,
        *spans[-i],
        coverage=len(asked & (sentences[-i] | title)) / len(asked),
        denied=bool(said) and negated(question, head) != negated(texts[-i], said),
    )


def _forms(head: str) -> list[str]:
    """A predicate as other endings leave it; ㄹ and ㄷ come and go: 사는, 살지; 들은, 듣지."""
    last = head[-1:]
    if not "가" <= last <= "힣":
        return [head] if head else []
    other = _FICKLE.get((ord(last) - 0xAC00) % 28, ())
    syllable = ord(last) - (ord(last) - 0xAC00) % 28
    return [*(head[:-1] + chr(syllable + final) for final in other), head]


def predicate(question: str) -> str:
    """The last word with a meaning of its own, a verb by its stem: 해결 of "해결되었는가?".

    Of a compound that is several morphemes, all of them: 분단국가 of "분단국가인가?".
    """
    head, end = "", -1
    for piece in morphemes(question):
        stem, tag = piece.parts[0] if "+" in piece.tag else (piece.surface, piece.tag)
        if tag.startswith(_NOMINAL) and stem not in _LIGHT and tag not in ("NNB", "NNBC"):
            head = head + stem if piece.start == end else stem
            end = piece.end
        elif tag in ("VV", "VA") and stem not in _LIGHT:
            head = stem
    return head


def negated(sentence: str, head: str) -> bool:
    """Is the last occurrence of a word negated: "해결되지 못한", "도시가 아니다", "안 먹는다"?"""
    place = sentence.rfind(head)
    if not head or place < 0:
        return False
    pieces = morphemes(sentence)
    before = [piece for piece in pieces if piece.end <= place][-1:]
    behind = [piece for piece in pieces if piece.start >= place + len(head)][:_REACH]
    return any(
        _NEGATION_TAGS.get(stem) == tag
        and piece.surface[0] == stem[0]  # the dictionary calls some 하 a form of 않
        and (tag == "MAG") == (piece in before)
        for piece in before + behind
        for stem, tag in piece.parts
    )


def _answer(text: str, probability: float, found: Sequence[Support]) -> Answer:
    sign = 1 if text == YES else -1
    evidence = tuple(
        Reading(s.candidate, text, sign * s.value, None, None, (s.start, s.end)) for s in found
    )
    best = evidence[0]
    return Answer(
        text, math.log(probability), probability, best.score, best.candidate.score, evidence
    )
