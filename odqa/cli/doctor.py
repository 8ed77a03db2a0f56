"""``odqa doctor``: what is wrong with the installation or an index, and how to mend it."""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from typing import TYPE_CHECKING

from odqa import __version__
from odqa.cli.options import add_index_options, add_json_option, configuration
from odqa.cli.output import Progress, ResultStream
from odqa.errors import OdqaError

if TYPE_CHECKING:
    from odqa.doctor import Check

NAME = "doctor"
HELP = "look for the usual faults, each with its mend"

_STATUSES = ("ok", "warning", "failed", "skipped")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``odqa doctor``."""
    add_index_options(parser, default="all in --indexes-dir")
    add_json_option(parser)


def run(arguments: argparse.Namespace, stream: ResultStream) -> None:
    """Examine everything, print what was found.

    Raises:
        OdqaError: something is broken.
    """
    from odqa.doctor import run_checks

    config = configuration(arguments)
    with Progress() as progress:
        checks = run_checks(
            config, arguments.indexes_dir, arguments.index, progress=progress.__call__
        )
    counts: Counter[str] = Counter(check.status for check in checks)
    if arguments.json:
        stream.json(
            {
                "odqa": __version__,
                **{status: counts[status] for status in _STATUSES},
                "checks": [dataclasses.asdict(check) for check in checks],
            }
        )
    else:
        _print(checks, counts, stream)
    if counts["failed"]:
        names = ", ".join(check.name for check in checks if check.status == "failed")
        raise OdqaError(f"broken: {names}")


def _print(checks: list[Check], counts: Counter[str], stream: ResultStream) -> None:
    width = max(len(check.name) for check in checks)
    for check in checks:
        stream.line(f"{check.status:<8} {check.name:<{width}}  {check.found}")
        if check.mend:
            stream.line(f"{'':<8} {'':<{width}}  -> {check.mend}")
    stream.line(", ".join(f"{counts[status]} {status}" for status in _STATUSES))
