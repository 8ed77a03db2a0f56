"""Sliding windows: a question and a stretch of a passage, in the layout a reader was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from odqa.models.pieces import Pieces

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Layout:
    """The special tokens around question, title and passage, and the padding token.

    ``<s> question </s></s> passage </s>`` is before (0,), between (2, 2), after (2,). Where
    ``title_separator`` is set, the title and it stand before the passage.
    ``token_types`` tells whether the second segment has token type 1.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    pad: int
    title_separator: tuple[int, ...] | None = None
    token_types: bool = False

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Layout:
        """The inverse of ``dataclasses.asdict``, after a way through JSON."""
        separator = values["title_separator"]
        return cls(
            before=tuple(values["before"]),
            between=tuple(values["between"]),
            after=tuple(values["after"]),
            pad=values["pad"],
            title_separator=None if separator is None else tuple(separator),
            token_types=values["token_types"],
        )


@dataclass(frozen=True, slots=True)
class WindowLimits:
    """Lengths in pieces. ``stride`` is what two neighbouring windows share."""

    max_length: int = 384
    stride: int = 128
    max_question_length: int = 64
    max_title_length: int = 16


@dataclass(frozen=True, slots=True)
class Window:
    """One input of the model.

    ``ids[offset + i]`` is piece ``first + i`` of the passage, for i in ``range(count)``. The second
    segment (token type 1, where the model has types) begins at ``segment``.
    """

    ids: Ints  # (length,)
    segment: int
    offset: int
    first: int
    count: int


def make_windows(
    question: Pieces, title: Pieces | None, passage: Pieces, layout: Layout, limits: WindowLimits
) -> list[Window]:
    """Windows that together cover the passage; a long one is cut with overlap.

    Question and title are cut at the end if they exceed their limits. An empty passage has one
    window with no passage piece in it.
    """
    head = [*layout.before, *question.ids[: limits.max_question_length].tolist(), *layout.between]
    segment = len(layout.before) + min(len(question), limits.max_question_length)
    segment += (len(layout.between) + 1) // 2  # BERT's one [SEP] is of type 0, RoBERTa has none
    if title is not None and layout.title_separator is not None:
        head += [*title.ids[: limits.max_title_length].tolist(), *layout.title_separator]
    room = max(limits.max_length - len(head) - len(layout.after), 1)
    step = max(room - limits.stride, 1)
    windows = []
    for first in range(0, max(len(passage), 1), step):
        part = passage.ids[first : first + room]
        ids = np.array([*head, *part.tolist(), *layout.after], dtype=np.int32)
        windows.append(Window(ids, segment, len(head), first, len(part)))
        if first + room >= len(passage):
            break
    return windows
