"""Questions with their passages as windows, and where in each the answer stands."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import numpy as np

from odqa.errors import OdqaError
from odqa.models.pieces import Pieces
from odqa.reading.checkpoint import ReaderTokenizer
from odqa.reading.windows import WindowLimits, make_windows
from odqa.retrieval.cross_encoder import passage_text
from odqa.training.negatives import answers_stand_in
from odqa.training.ranking import RankingExample, mined_passage
from odqa.training.reader_config import ReaderTrainingConfig
from odqa.types import Example, Passage

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LabelledWindow:
    """A window's ids and the positions in it of the answer's first and last piece (0, 0: none).

    ``question`` is the place of its question among the examples.
    """

    ids: np.ndarray[Any, np.dtype[np.int32]]
    segment: int
    start: int
    end: int
    question: int = 0


def labelled_windows(
    examples: Sequence[Example], tokenizer: ReaderTokenizer, config: ReaderTrainingConfig
) -> list[LabelledWindow]:
    """All windows to train on, in a seeded choice.

    Each question gives the windows of its passage that hold the answer, some of those that do not,
    and, if it has an answer, with a chance of ``config.negatives`` a window of another passage of
    the same article in which none stands; an answerless window's label is its first token. A
    question whose answers do not stand in its passage is passed over: it would teach that nothing
    does.
    """
    random = np.random.default_rng(config.loop.seed)
    siblings = _passages_by_title(examples)
    windows: list[LabelledWindow] = []
    passed_over = 0
    for number, example in enumerate(examples):
        if example.passage is None:
            continue
        span = _first_span(example)
        if example.answers and span is None:
            passed_over += 1
            continue
        found = [
            window
            for window in _windows_of(example.question, example.passage, span, tokenizer, config)
            if window.start or not example.answers or random.random() < config.empty_windows
        ]
        # Of a question without an answer it is not known where else one might stand.
        if example.answers and random.random() < config.negatives:
            other = _negative(example, siblings, random)
            if other is not None:
                found += _windows_of(example.question, other, None, tokenizer, config)[:1]
        windows += [replace(window, question=number) for window in found]
    if passed_over:
        logger.warning("%d questions passed over: no answer stands in the passage", passed_over)
    if not windows:
        raise OdqaError("the training data holds no question with a passage; nothing to learn")
    return windows


def negative_windows(
    examples: Sequence[Example],
    mined: Sequence[RankingExample],
    tokenizer: ReaderTokenizer,
    config: ReaderTrainingConfig,
) -> dict[int, list[LabelledWindow]]:
    """The windows of the passages that were mined for a question, by its place among the examples.

    What was mined belongs to the question if the text is the same and the question's own passage
    is among its positives.
    """
    places = {
        (example.question, passage_text(example.passage)): number
        for number, example in enumerate(examples)
        if example.passage is not None and example.answers
    }
    found: dict[int, list[LabelledWindow]] = {}
    for one in mined:
        keys = [(one.question, text) for text in one.positives]
        number = next((places[key] for key in keys if key in places), None)
        if number is None:
            continue
        for text in one.negatives:
            passage = mined_passage(text, f"{number}-{len(found.get(number, ()))}")
            windows = _windows_of(one.question, passage, None, tokenizer, config)
            found.setdefault(number, []).extend(
                replace(window, question=number) for window in windows
            )
    return found


def _first_span(example: Example) -> tuple[int, int] | None:
    """Where the first answer that stands in the passage begins and ends."""
    if example.passage is None:
        return None
    for answer, known in zip_longest(example.answers, example.answer_starts):
        start = example.passage.text.find(answer) if known is None else known
        if start >= 0:
            return start, start + len(answer)
    return None


def _passages_by_title(examples: Sequence[Example]) -> dict[str, list[Passage]]:
    found: dict[str, dict[str, Passage]] = {}
    for example in examples:
        if example.passage is not None and example.passage.title:
            found.setdefault(example.passage.title, {})[example.passage.text] = example.passage
    return {title: list(passages.values()) for title, passages in found.items()}


def _negative(
    example: Example, siblings: dict[str, list[Passage]], random: np.random.Generator
) -> Passage | None:
    """Another passage of the article in which no answer stands (so no false negative)."""
    if example.passage is None:
        return None
    others = siblings.get(example.passage.title, [])
    for place in random.permutation(len(others)):
        passage = others[int(place)]
        if passage.text != example.passage.text and not answers_stand_in(
            passage_text(passage), example.answers
        ):
            return passage
    return None


def _stands_in(answer: str, passage: Passage, text: Pieces, inside: slice) -> bool:
    """Does the stretch of the passage that these pieces cover hold the answer's string?"""
    starts, ends = text.starts[inside], text.ends[inside]
    return len(starts) > 0 and answer in passage.text[starts[0] : ends[-1]]


def _windows_of(
    question: str,
    passage: Passage,
    span: tuple[int, int] | None,
    tokenizer: ReaderTokenizer,
    config: ReaderTrainingConfig,
) -> list[LabelledWindow]:
    question_pieces, title, text = tokenizer.encode([question, passage.title, passage.text])
    limits = WindowLimits(config.max_length, config.stride, config.max_question_length)
    windows = []
    for window in make_windows(question_pieces, title, text, tokenizer.layout, limits):
        start = end = 0
        if span is not None:
            inside = slice(window.first, window.first + window.count)
            # every piece that shares a character with the answer
            hit = np.flatnonzero((text.ends[inside] > span[0]) & (text.starts[inside] < span[1]))
            whole = len(hit) > 0 and text.starts[inside][hit[0]] <= span[0]
            if whole and text.ends[inside][hit[-1]] >= span[1]:
                start, end = window.offset + int(hit[0]), window.offset + int(hit[-1])
            if not start and _stands_in(passage.text[slice(*span)], passage, text, inside):
                continue  # the answer once more: neither its place nor a window without it
        windows.append(LabelledWindow(window.ids, window.segment, start, end))
    return windows
