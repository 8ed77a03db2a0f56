"""``odqa serve``: answers over HTTP, and a page to ask on."""

from __future__ import annotations

import argparse
import ipaddress
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odqa.cli.ask import record
from odqa.cli.options import add_index_options, add_leg_options, configuration
from odqa.cli.output import ResultStream
from odqa.cli.questions import Question
from odqa.cli.search import candidate_record
from odqa.config import Config
from odqa.errors import MissingDependencyError, OdqaError

if TYPE_CHECKING:
    from odqa.pipeline import Pipeline

NAME = "serve"
HELP = "answer questions over HTTP"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``odqa serve``."""
    parser.add_argument("--host", default="127.0.0.1", help="address (default: this machine only)")
    parser.add_argument(
        "--port", type=_port, default=8000, help="default: 8000; 0: any that is free"
    )
    add_leg_options(parser)
    add_index_options(parser)


def run(arguments: argparse.Namespace, stream: ResultStream) -> None:
    """Serve until interrupted.

    Raises:
        MissingDependencyError: the extra ``serve`` is not installed.
        OdqaError: the address cannot be used, or the index or a model cannot.
    """
    config = configuration(arguments)
    try:
        import uvicorn

        from odqa.cli.web import make_app
    except ImportError as error:
        raise MissingDependencyError(error.name or "starlette", "serve", "odqa serve") from error
    from odqa.store import find_index

    directory = find_index(arguments.index, arguments.indexes_dir)
    with _listen(arguments.host, arguments.port) as listener:
        service = Service.open(directory, config)
        host, port = listener.getsockname()[:2]
        app = make_app(service, _hosts(arguments.host, host))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        address = f"{_in_url(host)}:{port}"
        print(f"odqa: answering from '{directory.name}' at http://{address}", file=sys.stderr)
        server.run(sockets=[listener])


class Service:
    """Records as ``odqa ask --json`` and ``odqa search --json`` write them."""

    def __init__(self, index: str, pipeline: Pipeline) -> None:
        self.index = index
        self._pipeline = pipeline

    @classmethod
    def open(cls, directory: Path, config: Config) -> Service:
        """The index's pipeline, warmed up by one question so that the first visitor does not wait.

        Raises:
            OdqaError: the index or a model cannot be used.
        """
        from odqa.build import open_pipeline

        pipeline = open_pipeline(directory, config)
        pipeline.trace(["한국의 수도는 어디인가?"], k=1)
        return cls(directory.name, pipeline)

    def answer(
        self, questions: list[Question], *, top_n: int, explain: bool
    ) -> list[dict[str, Any]]:
        """A record for each question.

        Raises:
            UsageError: a question is empty.
        """
        traces = self._pipeline.trace([question.text for question in questions], k=top_n)
        return [
            record(question, trace, None, explain=explain)
            for question, trace in zip(questions, traces, strict=True)
        ]

    def search(self, question: str, *, top_k: int) -> dict[str, Any]:
        """The first passages, with the second stage if one is configured.

        Raises:
            UsageError: the question is empty.
        """
        found = self._pipeline.retrieve([question], k=top_k)[0]
        records = [candidate_record(c, rank) for rank, c in enumerate(found, start=1)]
        return {"question": question, "candidates": records}


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()  # who reads the address may connect at once
    except OSError as error:
        listener.close()
        raise OdqaError(
            f"cannot listen at {host}, port {port}: {error.strerror or error}; "
            "give another --port or --host"
        ) from error
    return listener


def _hosts(told: str, bound: str) -> frozenset[str] | None:
    """The hosts that may be asked for: None, any, unless only this machine is listened to.

    Args:
        told: ``--host``.
        bound: the address that it has become.
    """
    if not ipaddress.ip_address(bound).is_loopback:
        return None
    return frozenset({"localhost", "127.0.0.1", "[::1]", _in_url(told).lower(), _in_url(bound)})


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _port(text: str) -> int:
    """A port as an argparse type.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not (text.isdecimal() and int(text) < 65_536):
        raise argparse.ArgumentTypeError(f"must be a port from 0 to 65535, got '{text}'")
    return int(text)
