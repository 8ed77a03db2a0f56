"""``odqa repair``: rebuild what is damaged of an index, and only that."""

from __future__ import annotations

import argparse

from odqa.cli.options import (
    add_index_options,
    add_json_option,
    add_name_argument,
    configuration,
    index_name,
)
from odqa.cli.output import Progress, ResultStream

NAME = "repair"
HELP = "rebuild the damaged parts of an index"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``odqa repair``."""
    add_name_argument(parser)
    add_index_options(parser)
    add_json_option(parser)


def run(arguments: argparse.Namespace, stream: ResultStream) -> None:
    """Repair an index.

    Raises:
        IndexNotUsableError: there is no such index, or it can only be built anew.
        UsageError: something is in the way.
    """
    from odqa.build import repair_index
    from odqa.store import find_index

    config = configuration(arguments)
    directory = find_index(index_name(arguments), arguments.indexes_dir, damaged=True)
    with Progress() as progress:
        damaged = repair_index(directory, config, progress=progress)
    if arguments.json:
        stream.json({"index": directory.name, "path": str(directory), "repaired": list(damaged)})
        return
    for name in damaged:
        stream.line(f"repaired    {name}")
    stream.line(f"{directory}: ok" if damaged else f"{directory}: ok, nothing was damaged")
