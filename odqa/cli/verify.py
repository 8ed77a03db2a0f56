"""``odqa verify``: is an index still what was built?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from odqa.cli.options import (
    add_index_options,
    add_json_option,
    add_name_argument,
    configuration,
    index_name,
)
from odqa.cli.output import Progress, ResultStream
from odqa.errors import IndexNotUsableError

if TYPE_CHECKING:
    from odqa.build import IndexReport

NAME = "verify"
HELP = "check every file of an index against its checksum"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``odqa verify``."""
    add_name_argument(parser)
    add_index_options(parser)
    add_json_option(parser)


def run(arguments: argparse.Namespace, stream: ResultStream) -> None:
    """Check an index and report.

    Raises:
        IndexNotUsableError: there is no such index, or something is wrong with it (after the
            report).
    """
    from odqa.build import verify_index
    from odqa.store import find_index, mend

    config = configuration(arguments)
    directory = find_index(index_name(arguments), arguments.indexes_dir, damaged=True)
    with Progress() as progress:
        report = verify_index(directory, config, progress=progress)
    if arguments.json:
        stream.json(_record(directory, report))
    else:
        for line in _lines(directory, report):
            stream.line(line)
    if report.ok:
        return
    stream.flush()
    advice = mend(directory)
    if not report.damaged:
        advice = "move away what does not belong to it, or build it again with --force"
    raise IndexNotUsableError(f"{directory}: the index is not as it was built; {advice}")


def _lines(directory: Path, report: IndexReport) -> list[str]:
    """The report as a person reads it: what is wrong, a line each, and how much was looked at."""
    lines = [f"damaged     {name}: {what}" for name, what in report.damaged.items()]
    lines += [f"unexpected  {name}" for name in report.unexpected]
    lines += [f"disagrees   {what}" for what in report.disagreements]
    lines += [f"note        {what}" for what in report.notes]
    if report.ok:
        lines.append(
            f"{directory}: ok ({report.files} files, {report.bytes / 1e6:,.1f} MB, "
            f"{report.documents:,} documents, {report.passages:,} passages)"
        )
    return lines


def _record(directory: Path, report: IndexReport) -> dict[str, object]:
    return {
        "index": directory.name,
        "path": str(directory),
        "ok": report.ok,
        "files": report.files,
        "bytes": report.bytes,
        "documents": report.documents,
        "passages": report.passages,
        "damaged": [{"file": name, "problem": what} for name, what in report.damaged.items()],
        "unexpected": list(report.unexpected),
        "disagreements": list(report.disagreements),
        "notes": list(report.notes),
    }
