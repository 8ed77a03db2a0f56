"""Where a command's output goes: results to stdout or a file, everything else to stderr."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from odqa.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console


class ResultsUnreadError(BrokenPipeError):
    """Whoever read the results has gone."""


class ResultStream:
    """The result's way out: stdout, which nothing else may write to.

    What is not a terminal gets UTF-8 whatever the locale says, so that a pipe or a file holds
    the same bytes everywhere. A terminal gets what its encoding lacks as ``\\uXXXX``.
    """

    def __init__(self, stream: TextIO | None) -> None:
        if stream is None:  # closed by whoever started the command: nobody wants the result
            stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # until the end
        self._stream = stream
        self.is_terminal = stream.isatty()
        if hasattr(stream, "reconfigure"):
            encoding = None if self.is_terminal else "utf-8"  # None: as it is
            stream.reconfigure(encoding=encoding, errors="backslashreplace")

    def line(self, text: str = "") -> None:
        """Write one line."""
        with _unread():
            self._stream.write(text + "\n")

    def json(self, value: Any) -> None:
        """Write one JSON object: indented for a terminal, else on one line."""
        indent = 2 if self.is_terminal else None
        self.line(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent))

    def console(self) -> Console:
        """A rich console on this stream: colours and wrapping for a terminal only."""
        from rich.console import Console

        class ResultConsole(Console):
            def on_broken_pipe(self) -> None:
                raise ResultsUnreadError

        return ResultConsole(
            file=self._stream, highlight=False, markup=False, emoji=False, soft_wrap=False
        )

    def as_stdout(self) -> contextlib.AbstractContextManager[TextIO]:
        """While it lasts, ``sys.stdout`` is this stream again (for a prompt's line editing)."""
        return contextlib.redirect_stdout(self._stream)

    def flush(self) -> None:
        """Send everything out now."""
        with _unread():
            self._stream.flush()


@contextlib.contextmanager
def _unread() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise ResultsUnreadError(*error.args) from error


def status_console() -> Console:
    """The console for everything that is no result: stderr."""
    from rich.console import Console

    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False)


@contextlib.contextmanager
def open_output(path: Path) -> Iterator[TextIO]:
    """A UTF-8 text file that is complete or absent: it gets its name when all is written.

    What is no plain file (a pipe, ``/dev/null``) is written directly.

    Raises:
        UsageError: the place cannot be written to.
    """
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; --output needs the name of a file")
    direct = path.exists() and not path.is_file()
    part = path if direct else path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("w", encoding="utf-8", newline="\n")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        with file:
            yield file
    except BaseException:
        if not direct:
            part.unlink(missing_ok=True)
        raise
    if not direct:
        part.replace(path)


class Progress:
    """Progress of named stages on stderr; usable as ``progress(stage, done, total)``.

    A terminal gets a bar with the time left; a log gets a line when a stage begins and one every
    ``log_seconds``.
    """

    def __init__(self, *, log_seconds: float = 30.0) -> None:
        self._console = status_console()
        self._log_seconds = log_seconds
        self._stage: str | None = None
        self._said = 0.0
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __call__(self, stage: str, done: int, total: int | None = None) -> None:
        """Say that ``done`` of ``total`` (None: not known) units of the stage are done."""
        if self._console.is_terminal:
            self._draw(stage, done, total)
        else:
            self._log(stage, done, total)
        self._stage = stage

    def _draw(self, stage: str, done: int, total: int | None) -> None:
        if self._bar is None:
            self._bar = _new_bar(self._console)
            self._bar.start()
        if stage != self._stage:
            self._task = self._bar.add_task(stage, total=total)
        self._bar.update(self._task, completed=done, total=total)

    def _log(self, stage: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if stage == self._stage and now - self._said < self._log_seconds:
            return
        self._said = now
        of = f" of {total}" if total is not None else ""
        with contextlib.suppress(OSError):  # nobody reads stderr: the work goes on
            print(f"odqa: {stage}: {done}{of}", file=sys.stderr)


def _new_bar(console: Console) -> Any:
    from rich import progress

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=console,
    )


def terminal_in(stream: TextIO | None) -> bool:
    """Whether a person is at the other end of an input stream (a closed one has nobody)."""
    if stream is None or stream.closed:
        return False
    with contextlib.suppress(OSError, ValueError):
        return os.isatty(stream.fileno())
    return False
