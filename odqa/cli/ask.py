"""``odqa ask``: answers for a question, a file of questions, lines on stdin, or at a prompt."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odqa.cli.options import (
    add_index_options,
    add_json_option,
    add_leg_options,
    configuration,
    positive,
)
from odqa.cli.output import Progress, ResultStream, open_output, terminal_in
from odqa.cli.questions import (
    Question,
    batches,
    one_question,
    read_passages,
    read_questions,
    stdin_questions,
)
from odqa.config import Config
from odqa.errors import UsageError
from odqa.types import Reading

if TYPE_CHECKING:
    from odqa.pipeline import Pipeline, Trace

NAME = "ask"
HELP = "answer a question"

_BATCH = 32
_PROMPT_END = ("", ":q", "exit", "quit")

Ask = Callable[[Sequence[str]], "list[Trace]"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``odqa ask``."""
    parser.add_argument(
        "question", nargs="*", help="the question (without one: lines on stdin, or a prompt)"
    )
    parser.add_argument("--questions", type=Path, metavar="FILE", help=".tsv or .jsonl, a batch")
    parser.add_argument("--output", type=Path, metavar="FILE.jsonl", help="write answers there")
    parser.add_argument(
        "--top-n",
        type=positive,
        metavar="N",
        help="answers a question (default: 1 on the screen, 5 in JSON)",
    )
    parser.add_argument(
        "--explain", action="store_true", help="show each score that went into an answer"
    )
    parser.add_argument(
        "--passages", type=Path, metavar="FILE.jsonl", help="read these instead of an index"
    )
    parser.add_argument(
        "--no-timing",
        action="store_true",
        help="write null for the seconds, so that two runs give the same bytes",
    )
    add_leg_options(parser)
    add_index_options(parser)
    add_json_option(parser)


def run(arguments: argparse.Namespace, stream: ResultStream) -> None:
    """Answer.

    Raises:
        UsageError: options that make no sense together, an empty question.
        InputError: a bad file of questions or passages.
        OdqaError: the index or a model cannot be used.
    """
    config = configuration(arguments)
    single = one_question(arguments.question, arguments.questions)
    if single:
        questions = [single]
    elif arguments.questions is not None:
        questions = read_questions(arguments.questions)
    else:
        questions = []
    to_program = arguments.json or arguments.output is not None
    prompting = not questions and terminal_in(sys.stdin) and not to_program
    if not questions and sys.stdin is None:
        raise UsageError("no question: odqa ask '질문', or --questions FILE")
    in_records = to_program or arguments.questions is not None
    ask = open_ask(arguments, config, arguments.top_n or (5 if in_records else 1))
    command = _Asking(arguments, stream, ask, _scores(arguments, config))
    if prompting:
        command.prompt()
    elif not questions:
        command.lines()
    elif arguments.output is not None:
        command.to_file(questions)
    else:
        command.to_stdout(questions, single=single is not None)


def open_ask(arguments: argparse.Namespace, config: Config, k: int) -> Ask:
    """The function that answers a batch: over an index, or over the passages given.

    Raises:
        UsageError: both are given.
        InputError: the passages cannot be read.
        IndexNotUsableError: the index cannot be used.
    """
    if arguments.passages is None:
        pipeline = _index_pipeline(arguments, config)
        return lambda questions: pipeline.trace(questions, k=k)
    if arguments.index is not None:
        raise UsageError("give either --index or --passages, not both")
    passages = read_passages(arguments.passages)
    reading = _reading_pipeline(config)
    return lambda questions: reading.trace_passages(questions, [passages] * len(questions), k=k)


def record(
    question: Question, trace: Trace, seconds: float | None, *, explain: bool = False
) -> dict[str, Any]:
    """A question's answers as the data contract has them; ``seconds`` None is written as null."""
    prediction = trace.prediction
    values: dict[str, Any] = {
        "id": question.question_id,
        "question": question.text,
        "no_answer_probability": float(prediction.no_answer_probability),
        "seconds": seconds if seconds is None else round(seconds, 4),
        "answers": [_answer_record(answer) for answer in prediction.answers],
    }
    if explain:
        from odqa.cli.search import candidate_record

        values["candidates"] = [candidate_record(c, c.rank + 1) for c in trace.candidates]
    return values


class _Asking:
    """One run of the command: how answers are asked for and shown."""

    def __init__(
        self, arguments: argparse.Namespace, stream: ResultStream, ask: Ask, scores: Any
    ) -> None:
        self._arguments = arguments
        self._stream = stream
        self._ask = ask
        self._scores = scores

    def to_stdout(self, questions: Sequence[Question], *, single: bool) -> None:
        """A single question for a person or as one object; a batch as one object or lines."""
        if single and not self._arguments.json:
            self._show(self._timed(questions)[0][1])
        elif single:
            self._stream.json(self._records(questions)[0])
        elif self._arguments.json:
            records = [r for batch in self._batches(questions) for r in self._records(batch)]
            self._stream.json({"results": records})
        else:
            for batch in self._batches(questions):
                for values in self._records(batch):
                    self._stream.line(_json_line(values))

    def to_file(self, questions: Sequence[Question]) -> None:
        """A record a line, in input order; ``--json`` says on stdout how it went."""
        started = time.perf_counter()
        with open_output(self._arguments.output) as file:
            for batch in self._batches(questions):
                file.writelines(_json_line(values) + "\n" for values in self._records(batch))
        if self._arguments.json:
            seconds = round(time.perf_counter() - started, 3)
            path = str(self._arguments.output)
            self._stream.json({"output": path, "questions": len(questions), "seconds": seconds})

    def lines(self) -> None:
        """Each line of stdin is answered before the next is read.

        Raises:
            UsageError: there was no line.
        """
        if self._arguments.output is not None:
            self.to_file(self._stdin())
            return
        n_questions = 0
        for question in stdin_questions():
            n_questions += 1
            if self._arguments.json:
                self._stream.line(_json_line(self._records([question])[0]))
            else:
                self._show(self._timed([question])[0][1])
            self._stream.flush()
        if n_questions == 0:
            raise _no_question()

    def prompt(self) -> None:
        """A question at a time from a person, until an empty line or the end of input."""
        print("Ask a question; an empty line or Ctrl-D ends.", file=sys.stderr)
        with self._line_editing():
            while (text := _input()) not in _PROMPT_END:
                try:
                    (timed,) = self._timed([Question("1", text)])
                except UsageError as error:
                    print(f"odqa: error: {error}", file=sys.stderr)
                    continue
                self._show(timed[1])
                self._stream.flush()

    @contextlib.contextmanager
    def _line_editing(self) -> Iterator[None]:
        """Arrow keys and history where stdout is a terminal too; else the prompt is on stderr."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # its import alone gives input() line editing
        if hasattr(sys.stdin, "reconfigure"):
            sys.stdin.reconfigure(errors="surrogateescape")  # bad bytes: an error, not a crash
        with self._stream.as_stdout() if self._stream.is_terminal else contextlib.nullcontext():
            yield

    def _stdin(self) -> list[Question]:
        questions = list(stdin_questions())
        if not questions:
            raise _no_question()
        return questions

    def _batches(self, questions: Sequence[Question]) -> Iterator[list[Question]]:
        with Progress() as progress:
            done = 0
            for batch in batches(questions, _BATCH):
                yield batch
                done += len(batch)
                if len(questions) > 1:
                    progress("answering", done, len(questions))

    def _records(self, batch: Sequence[Question]) -> list[dict[str, Any]]:
        timed, explain = not self._arguments.no_timing, self._arguments.explain
        return [
            record(question, trace, seconds if timed else None, explain=explain)
            for question, trace, seconds in self._timed(batch)
        ]

    def _timed(self, batch: Sequence[Question]) -> list[tuple[Question, Trace, float]]:
        """The seconds of a question are its batch's, divided by the questions in it."""
        started = time.perf_counter()
        traces = self._ask([question.text for question in batch])
        seconds = (time.perf_counter() - started) / len(batch)
        return [(question, trace, seconds) for question, trace in zip(batch, traces, strict=True)]

    def _show(self, trace: Trace) -> None:
        from odqa.cli.render import print_answers, print_explanation

        console = self._stream.console()
        print_answers(console, trace)
        if self._scores is not None:
            fused = [reading for reading in trace.readings if reading.sentence is None]
            print_explanation(console, trace, self._scores(trace.question, fused))


def _answer_record(answer: Any) -> dict[str, Any]:
    """``evidence`` holds the places of this very string; other writings of it are ``variants``."""
    same = [reading for reading in answer.evidence if reading.text == answer.text]
    other = [reading for reading in answer.evidence if reading.text != answer.text]
    values = {
        "text": answer.text,
        "probability": float(answer.probability),
        "score": float(answer.score),
        "reader_score": float(answer.reader_score),
        "retrieval_score": float(answer.retrieval_score),
        "evidence": [_evidence_record(reading) for reading in same],
    }
    if other:
        values["variants"] = [{"answer": r.text, **_evidence_record(r)} for r in other]
    return values


def _evidence_record(reading: Reading) -> dict[str, Any]:
    passage = reading.candidate.passage
    sentence = {}
    if reading.sentence is not None:
        begin, end = reading.sentence
        sentence = {"sentence": passage.text[begin:end]}
    return {
        "passage_id": passage.passage_id,
        "doc_id": passage.doc_id,
        "title": passage.title,
        "text": passage.text,
        "start": reading.start,
        "end": reading.end,
        **sentence,
    }


def _index_pipeline(arguments: argparse.Namespace, config: Config) -> Pipeline:
    from odqa.build import open_pipeline
    from odqa.store import find_index

    return open_pipeline(find_index(arguments.index, arguments.indexes_dir), config)


def _reading_pipeline(config: Config) -> Pipeline:
    from odqa.build import create_fusion, create_polar, create_reader
    from odqa.pipeline import Pipeline

    return Pipeline(
        None,
        create_reader(config.reader),
        create_fusion(config.fusion),
        n_passages=config.reader.passages,
        polar=create_polar(config.reader),
    )


def _scores(arguments: argparse.Namespace, config: Config) -> Any:
    """With ``--explain``: a question's readings to their places on the fused scale."""
    if not arguments.explain:
        return None
    from odqa.fusion import LogLinearFusion

    return LogLinearFusion(config.fusion).score_readings


def _json_line(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, allow_nan=False)


def _input() -> str:
    """The next line at the prompt; "" at its end."""
    try:
        return input("\n? ").strip()
    except EOFError:
        print(file=sys.stderr)
        return ""


def _no_question() -> UsageError:
    return UsageError("no question: odqa ask '질문', --questions FILE, or lines on stdin")
