"""From a window's start and end logits to the best answer spans: pure decoding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from odqa.models.pieces import Pieces
from odqa.reading.windows import Window

Floats = npt.NDArray[np.float32]

FREE_CHARS = 8


@dataclass(frozen=True, slots=True)
class Span:
    """Characters ``[start, end)`` of a passage and their score."""

    start: int
    end: int
    score: float


def decode_window(
    start_logits: Floats,
    end_logits: Floats,
    window: Window,
    passage: Pieces,
    *,
    max_answer_chars: int,
    n_best: int,
    length_penalty: float = 0.0,
) -> list[Span]:
    """The best spans of one window, best first; ties by start, then end.

    ``start_logits`` and ``end_logits`` are (length,), aligned with ``window.ids``. The score of a
    span is start + end logit less those of the first token, which stands for "no answer in this
    window" (Devlin et al. 2019, section 4.3): so scores of different windows and passages of one
    question can be compared, which a softmax within each window would make impossible.

    Start and end are scored apart, so the start of one candidate and the end of another make a long
    span that both like: each character beyond ``FREE_CHARS``, which nine of ten answers do not
    reach, costs ``length_penalty``.
    """
    n = window.count
    if n == 0:
        return []
    pieces = slice(window.first, window.first + n)
    starts, ends = passage.starts[pieces], passage.ends[pieces]
    part = slice(window.offset, window.offset + n)
    null = np.float32(start_logits[0] + end_logits[0])
    scores = start_logits[part, None] + end_logits[None, part] - null  # (n, n)
    lengths = ends[None, :] - starts[:, None]
    allowed = np.triu(np.ones((n, n), dtype=bool)) & (lengths > 0) & (lengths <= max_answer_chars)
    scores -= np.float32(length_penalty) * np.maximum(lengths - FREE_CHARS, 0)
    scores = np.where(allowed, scores, -np.inf).ravel()
    n_found = min(n_best, int(allowed.sum()))
    if n_found == 0:
        return []
    # all that tie with the last one, so that the order decides between them
    last = np.partition(scores, len(scores) - n_found)[len(scores) - n_found]
    best = np.flatnonzero(scores >= last)
    best = best[np.argsort(-scores[best], kind="stable")[:n_found]]
    spans = (Span(int(starts[i // n]), int(ends[i % n]), float(scores[i])) for i in best)
    return sorted(spans, key=_order)


def best_spans(spans: Iterable[Span], *, n_best: int) -> list[Span]:
    """The best spans of one passage out of those of its windows; each stretch of text once."""
    best: dict[tuple[int, int], Span] = {}
    for span in spans:
        known = best.get((span.start, span.end))
        if known is None or span.score > known.score:
            best[span.start, span.end] = span
    return sorted(best.values(), key=_order)[:n_best]


def _order(span: Span) -> tuple[float, int, int]:
    return (-span.score, span.start, span.end)
