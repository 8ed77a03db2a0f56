"""Made questions are put to a reader and to an index: those that come back are kept.

Round-trip consistency (Alberti et al. 2019): a question from which a reader does not come back to
the answer that it was made for asks for something else, or makes no sense.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from odqa.metrics import korquad_f1
from odqa.protocols import Reader, Retriever
from odqa.text.answers import normalize_answer
from odqa.training.questions import MadeQuestion, QuestionConfig
from odqa.types import Candidate, Reading

logger = logging.getLogger(__name__)

_AT_ONCE = 256  # questions read and searched for together


@dataclass(slots=True)
class Outcomes:
    """How many questions were made and what became of them."""

    made: int = 0
    read_otherwise: int = 0  # the reader does not come back to the answer
    not_found: int = 0  # the search does not come back to the passage
    moved: int = 0  # kept, with the reader's boundaries
    kept: int = 0
    sorts: Counter[str] = field(default_factory=Counter)  # of the answers kept

    def __str__(self) -> str:
        return (
            f"{self.made} questions made, {self.read_otherwise} read otherwise, "
            f"{self.not_found} not found again, {self.kept} kept ({self.moved} with the reader's "
            f"boundaries): {dict(sorted(self.sorts.items()))}"
        )


def kept_questions(
    questions: Iterable[MadeQuestion],
    config: QuestionConfig,
    outcomes: Outcomes,
    *,
    reader: Reader | None = None,
    retriever: Retriever | None = None,
) -> Iterator[MadeQuestion]:
    """The first ``config.questions`` that pass the checks, in their order.

    Args:
        questions: as they are made.
        config: ``agreement``, ``depth`` and ``found`` are the bounds.
        outcomes: counts what becomes of them, up to the last one given.
        reader: reads each question on its own passage; None: all pass, as they are.
        retriever: of an index of the same articles, searched for each question; None: all pass.
    """
    iterator = iter(questions)
    while batch := list(itertools.islice(iterator, _AT_ONCE)):
        read = _read(batch, reader, config) if reader else list(batch)
        rows = [row for row, made in enumerate(read) if made is not None]
        asked = [made for made in read if made is not None]
        found = _find(asked, retriever, config) if retriever else [True] * len(asked)
        back = dict(zip(rows, found, strict=True))
        for row, (made, agreed) in enumerate(zip(batch, read, strict=True)):
            outcomes.made += 1
            if agreed is None:
                outcomes.read_otherwise += 1
            elif not back[row]:
                outcomes.not_found += 1
            else:
                outcomes.kept += 1
                outcomes.moved += agreed != made
                outcomes.sorts[made.sort] += 1
                yield agreed
                if outcomes.kept == config.questions:
                    return
        logger.info("%d questions made, %d kept", outcomes.made, outcomes.kept)


def _read(
    questions: Sequence[MadeQuestion], reader: Reader, config: QuestionConfig
) -> list[MadeQuestion | None]:
    given = [[Candidate(made.passage, 1.0, 0, "given")] for made in questions]
    readings = reader.read([made.question for made in questions], given, k=1)
    return [
        agreed(made, best[0], config.agreement) if best else None
        for made, best in zip(questions, readings, strict=True)
    ]


def agreed(made: MadeQuestion, reading: Reading, least: float) -> MadeQuestion | None:
    """The question with the answer that maker and reader agree on; None: they do not.

    They agree where the reader reads the same answer anywhere in the passage, marks aside, or a
    stretch that overlaps it with an F1 of at least ``least``: that becomes the answer, for the
    reader has learnt from people where answers begin and end.
    """
    if normalize_answer(reading.text) == normalize_answer(made.answer):
        return made
    if reading.start is None or reading.end is None:
        return None
    overlaps = reading.start < made.end and made.start < reading.end
    if not overlaps or korquad_f1(reading.text, [made.answer]) < least:
        return None
    if reading.text in made.question:  # it would be given away
        return None
    return replace(made, answer=reading.text, start=reading.start)


def _find(
    questions: Sequence[MadeQuestion], retriever: Retriever, config: QuestionConfig
) -> list[bool]:
    """Whether each question finds a passage of its article (one with the answer, if so set)."""
    rankings = retriever.retrieve([made.question for made in questions], k=config.depth)
    return [
        any(
            candidate.passage.doc_id == made.passage.doc_id
            and (config.found == "article" or made.answer in candidate.passage.text)
            for candidate in ranking
        )
        for made, ranking in zip(questions, rankings, strict=True)
    ]
