"""``odqa update-index``: bring an index up to date with a newer state of its corpus."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from odqa.cli.options import (
    add_index_options,
    add_json_option,
    add_name_argument,
    configuration,
    index_name,
)
from odqa.cli.output import Progress, ResultStream

NAME = "update-index"
HELP = "bring an index up to date with a newer state of its corpus"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``odqa update-index``."""
    add_name_argument(parser)
    parser.add_argument(
        "corpus", metavar="CORPUS", help="the new state of the corpus, as build-index reads it"
    )
    add_index_options(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would change, and change nothing"
    )
    add_json_option(parser)


def run(arguments: argparse.Namespace, stream: ResultStream) -> None:
    """Update an index.

    Raises:
        IndexNotUsableError: there is no such index, it is damaged, or it can only be built anew.
        InputError: the corpus is bad.
        UsageError: something is in the way.
    """
    from odqa.build import update_index
    from odqa.store import find_index

    config = configuration(arguments)
    directory = find_index(index_name(arguments), arguments.indexes_dir)
    inside = Path.cwd().is_relative_to(directory.resolve())
    with Progress() as progress:
        changes = update_index(
            directory, arguments.corpus, config, dry_run=arguments.dry_run, progress=progress
        )
    if inside and changes.any and not arguments.dry_run:
        print(
            "odqa: the index was replaced while you stood in it: leave its folder", file=sys.stderr
        )
    if arguments.json:
        record = {"index": directory.name, "path": str(directory), "dry_run": arguments.dry_run}
        stream.json({**record, **dataclasses.asdict(changes)})
        return
    for what, number in dataclasses.asdict(changes).items():
        stream.line(f"{what:<11} {number:,}")
    if not changes.any:
        stream.line(f"{directory}: up to date")
    elif arguments.dry_run:
        stream.line(f"{directory}: nothing was changed (--dry-run)")
    else:
        stream.line(f"{directory}: updated")
