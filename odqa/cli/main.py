"""The command ``odqa``: parsing, exit codes, and what a person sees when something goes wrong.

Exit codes: 0 done; 1 the run failed; 2 bad usage, configuration or input file; 130 interrupted.
Nothing but a result goes to stdout: it is given to the command as a ``ResultStream``, and what any
library prints meanwhile goes to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import logging
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from odqa import __version__
from odqa.cli import ask, build_index, doctor, evaluate, repair, search, serve, update_index, verify
from odqa.cli.options import add_common_options
from odqa.cli.output import ResultStream, ResultsUnreadError
from odqa.errors import MissingDependencyError, OdqaError

_DESCRIPTION = "Korean open-domain question answering over your own text."
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")  # how numpy says it
_EXTRAS = {  # packages of which no lower layer has said already how they are installed
    "torch": "hf",
    "transformers": "hf",
    "datasets": "train",
    "safetensors": "train",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if sys.stderr is None:  # closed; print() would turn to stdout instead, where only results go
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # until the end
    command = next((word for word in argv if not word.startswith("-")), None)
    try:
        arguments = make_parser(with_training=command == "train").parse_args(argv)
    except SystemExit as stop:  # --help, --version, or bad usage: argparse has said it all
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt:
        return 130
    except ImportError as error:
        return _failed(_explain(error), 1, debug="--debug" in argv)
    return _run(arguments)


def make_parser(*, with_training: bool = False) -> argparse.ArgumentParser:
    """The parser of all commands.

    The options of ``train`` need its modules, so they are only added ``with_training``.
    """
    parser = argparse.ArgumentParser(prog="odqa", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"odqa {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (build_index, update_index, search, ask, serve, evaluate, verify, repair, doctor):
        command = commands.add_parser(
            module.NAME, help=module.HELP, description=module.HELP, allow_abbrev=False
        )
        module.add_arguments(command)
        add_common_options(command)
        command.set_defaults(run=module.run)
    _add_train(commands, with_training)
    return parser


def _add_train(commands: argparse._SubParsersAction, with_options: bool) -> None:  # type: ignore[type-arg]
    text = "train a reader or an encoder (needs the extra 'train')"
    command = commands.add_parser("train", help=text, description=text, allow_abbrev=False)
    if not with_options:
        return
    training = importlib.import_module("odqa.training.cli")
    training.add_arguments(command)
    if not _has_option(command, "--debug"):
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def run(arguments: argparse.Namespace, stream: ResultStream) -> None:
        training.run(arguments)

    command.set_defaults(run=run)


def _has_option(parser: argparse.ArgumentParser, option: str) -> bool:
    return option in parser._option_string_actions


def _run(arguments: argparse.Namespace) -> int:
    debug = bool(getattr(arguments, "debug", False))
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="odqa: %(message)s")
    logging.getLogger("odqa").setLevel(logging.DEBUG if debug else logging.WARNING)
    stream = ResultStream(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            arguments.run(arguments, stream)
            stream.flush()
    except ResultsUnreadError:
        # Whoever read the results has enough of them (`odqa ask … | head -1`): that is no failure.
        # Python would complain once more when it closes stdout at exit, so give it a sink.
        _discard_stdout()
        return 0
    except KeyboardInterrupt:
        return _failed("interrupted", 130, debug=debug)
    except Exception as error:
        return _failed(_explain(error), getattr(error, "exit_code", 1), debug=debug)
    return 0


def _explain(error: Exception) -> str:
    """What is wrong and what to do, in the user's words."""
    if isinstance(error, OdqaError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name in _EXTRAS:
        return str(MissingDependencyError(error.name, _EXTRAS[error.name], "this"))
    if isinstance(error, MemoryError):
        return (
            "not enough memory. Read fewer passages at once (--set reader.batch_tokens=2048) or "
            "build without vectors (--retriever sparse)"
        )
    if isinstance(error, OSError) and (
        error.errno == errno.ENOSPC or _SHORT_WRITE.fullmatch(str(error))
    ):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}the disk is full. Make room and run the command again"
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return (
        f"unexpected error: {type(error).__name__}: {error}. "
        "Run the command again with --debug to see where it happened"
    )


def _failed(message: str, exit_code: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    with contextlib.suppress(OSError):  # stderr itself may be gone
        print(
            f"odqa: error: {message}" if exit_code != 130 else f"odqa: {message}", file=sys.stderr
        )
    return exit_code


def _discard_stdout() -> None:
    with contextlib.suppress(OSError, ValueError):
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())
