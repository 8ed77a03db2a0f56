"""What a person sees of an answer: the answer, its evidence sentence, the scores behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from odqa.fusion import FusedReading
from odqa.pipeline import Trace
from odqa.reading.polar import NO, YES
from odqa.text.sentences import split_sentences
from odqa.types import Answer, Candidate, Reading

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

_EVIDENCE_STYLE = "bold yellow"
_MAX_EVIDENCE_CHARS = 300
_SHOWN_CHARS = 160
_SAID = {YES: "예", NO: "아니요"}


def print_answers(console: Console, trace: Trace) -> None:
    """The answers, best first, each with the sentence it stands in and where that is from."""
    from rich.text import Text

    answers = trace.prediction.answers
    if not answers:
        console.print("no answer found")
        return
    for answer in answers:
        line = Text(_SAID.get(answer.text, answer.text), style="bold green")
        line.append(f"  {answer.probability:.1%}", style="not bold default")
        _line(console, line)
        reading = answer.evidence[0]
        passage = reading.candidate.passage
        sentence = evidence_sentence(reading, mark=not _has_colour(console))
        _line(console, sentence, indent=2)
        heading = f" · {passage.heading}" if passage.heading else ""
        source = Text(f"— {passage.title}{heading} ({passage.passage_id})", style="dim")
        _line(console, source, indent=2)
    if trace.prediction.no_answer_probability > answers[0].probability:
        doubt = f"likelier: no answer in these passages ({_none(trace)})"
        _line(console, Text(doubt, style="yellow"))


def print_explanation(console: Console, trace: Trace, fused: Sequence[FusedReading]) -> None:
    """Every score that went into the answers: those read, and the readings of each answer.

    ``fused`` holds the readings with their place on the fused scale; what answers yes or no has
    none.
    """
    console.print()
    _table(
        console,
        "Passages read",
        ("rank", "passage", "title", "first stage", "read as", "score"),
        [_candidate_row(trace, candidate) for candidate in trace.candidates],
    )
    places = {id(item.reading): item for item in fused}
    rows = [row for answer in trace.prediction.answers for row in _answer_rows(answer, places)]
    headers = ("answer", "probability", "passage", "reader", "retrieval", "retrieval z", "fused")
    _table(console, "Evidence of each answer", headers, rows)
    _line(console, f"probability that none of the readings is right: {_none(trace)}")


def evidence_sentence(reading: Reading, *, mark: bool) -> Text:
    """The sentences around a reading with the answer in them marked.

    The mark is a colour, and with ``mark`` 【 】 as well, for an output without colours.
    """
    from rich.text import Text

    text = reading.candidate.passage.text
    if reading.start is None or reading.end is None:
        begin, end = reading.sentence or (0, len(text))
        return Text(_shorten(" ".join(text[begin:end].split()), _SHOWN_CHARS))
    start, end = _sentence_bounds(text, reading.start, reading.end)
    before = _one_line(text[start : reading.start])
    after = _one_line(text[reading.end : end])
    room = _MAX_EVIDENCE_CHARS // 2
    before = before if len(before) <= room else "… " + before[-room:].lstrip()
    after = after if len(after) <= room else after[:room].rstrip() + " …"
    answer = _one_line(text[reading.start : reading.end])
    marked = f"【{answer}】" if mark else answer
    return Text.assemble(before.lstrip(), (marked, _EVIDENCE_STYLE), after.rstrip())


def print_passages(console: Console, candidates: Sequence[Candidate]) -> None:
    """Candidates with their titles, ids, scores and the beginning of their text."""
    from rich.text import Text

    if not candidates:
        console.print("no passage found")
    for rank, candidate in enumerate(candidates, start=1):
        passage = candidate.passage
        line = Text(f"{rank:>3}  ")
        line.append(passage.title, style="bold")
        if passage.heading:
            line.append(f" · {passage.heading}")
        line.append(f"  {passage.passage_id}  {candidate.score:.4g}", style="dim")
        _line(console, line)
        _line(console, Text(_shorten(_one_line(passage.text).strip(), _SHOWN_CHARS)), indent=5)


def _sentence_bounds(text: str, start: int, end: int) -> tuple[int, int]:
    """From the beginning of the sentence that ``start`` is in to the end of the one ``end`` is."""
    spans = [(s, e) for s, e in split_sentences(text) if s < end and e > start]
    if not spans:
        return start, end
    return min(start, spans[0][0]), max(end, spans[-1][1])


def _candidate_row(trace: Trace, candidate: Candidate) -> tuple[str, ...]:
    passage_id = candidate.passage.passage_id
    first = next(c for c in trace.retrieved if c.passage.passage_id == passage_id)
    return (
        str(candidate.rank + 1),
        passage_id,
        candidate.passage.title,
        f"{first.score:.4g} ({first.source}, {first.rank + 1})",
        candidate.source,
        f"{candidate.score:.4g}",
    )


def _answer_rows(answer: Answer, places: Mapping[int, FusedReading]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for number, reading in enumerate(answer.evidence):
        fused = places.get(id(reading))
        scale = (f"{fused.retrieval:+.3f}", f"{fused.score:.3f}") if fused else ("", "")
        rows.append(
            (
                reading.text,
                f"{answer.probability:.1%}" if number == 0 else "",
                reading.candidate.passage.passage_id,
                f"{reading.score:.3f}",
                f"{reading.candidate.score:.4g}",
                *scale,
            )
        )
    return rows


def _table(
    console: Console, title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE)
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _line(console: Console, text: Text | str, *, indent: int = 0) -> None:
    """One line; a terminal wraps it under its indentation, a pipe gets it whole."""
    from rich.padding import Padding
    from rich.text import Text

    if console.is_terminal:
        body: RenderableType = Padding(text, (0, 0, 0, indent), expand=False) if indent else text
        console.print(body)
    else:
        console.print(Text.assemble(" " * indent, text), soft_wrap=True)


def _has_colour(console: Console) -> bool:
    return console.is_terminal and not console.no_color and console.color_system is not None


def _none(trace: Trace) -> str:
    return f"{trace.prediction.no_answer_probability:.1%}"


def _one_line(text: str) -> str:
    """Line breaks and tabs as spaces, character by character."""
    return "".join(" " if character.isspace() else character for character in text)


def _shorten(text: str, n_chars: int) -> str:
    return text if len(text) <= n_chars else text[:n_chars].rstrip() + " …"
