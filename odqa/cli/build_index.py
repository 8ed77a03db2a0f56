"""``odqa build-index``: a corpus becomes an index, or a plan of what that would cost."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import TYPE_CHECKING, Any

from odqa.cli.options import (
    LEGS,
    add_indexes_dir,
    add_json_option,
    configuration,
    size,
)
from odqa.cli.output import Progress, ResultStream
from odqa.config import Config
from odqa.errors import UsageError

if TYPE_CHECKING:
    from odqa.build import Budget, BuildPlan, Choice

NAME = "build-index"
HELP = "build the index of a corpus"

_CORPUS_HELP = (
    "sample (bundled, the default); a path to .jsonl[.gz|.xz|.zst], a folder of WikiExtractor "
    "output, a MediaWiki dump .xml[.bz2], or KorQuAD 1.0 / KLUE-MRC .json; kowiki (downloads "
    "Korean Wikipedia); hf:DATASET[:CONFIG]"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``odqa build-index``."""
    parser.add_argument("corpus", nargs="?", default="sample", metavar="CORPUS", help=_CORPUS_HELP)
    parser.add_argument("--name", help="the index's name (default: the corpus's)")
    add_indexes_dir(parser)
    parser.add_argument("--retriever", choices=LEGS, help="the legs to build (default: hybrid)")
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="continue a build that was stopped (default), or begin anew",
    )
    parser.add_argument("--force", action="store_true", help="replace an index of that name")
    parser.add_argument(
        "--plan", action="store_true", help="predict time, disk and memory, and build nothing"
    )
    for what, meaning in (("memory", "in all processes"), ("disk", "at the peak of the build")):
        parser.add_argument(
            f"--{what}-budget",
            type=size,
            metavar="SIZE",
            help=f"choose settings that need no more {what} than this, {meaning} (4GB, 800M)",
        )
    add_json_option(parser)


def run(arguments: argparse.Namespace, stream: ResultStream) -> None:
    """Build, or plan.

    Raises:
        UsageError: the name could not be a folder's; the corpus is empty or unknown.
        InputError: the corpus cannot be read.
        OdqaError: an index of that name is there and ``--force`` is not given.
    """
    config = configuration(arguments)
    if arguments.corpus == "":
        raise UsageError("the corpus is empty: name one, or leave it out for the sample")
    if arguments.name is not None and not arguments.name.strip():
        raise UsageError("--name is empty: the index needs a name, or leave the option out")
    if arguments.plan:
        _plan(arguments, config, stream)
    else:
        _build(arguments, config, stream)


def _build(arguments: argparse.Namespace, config: Config, stream: ResultStream) -> None:
    from odqa.build import build_index
    from odqa.store import read_manifest

    config = _within_budget(arguments, config)
    with Progress() as progress:
        directory = build_index(
            arguments.corpus,
            name=arguments.name,
            indexes_dir=arguments.indexes_dir,
            config=config,
            resume=arguments.resume,
            force=arguments.force,
            progress=progress,
        )
    if not arguments.json:
        stream.line(str(directory))
        return
    manifest = read_manifest(directory)
    stream.json(
        {
            "index": directory.name,
            "path": str(directory),
            "corpus": manifest.corpus,
            "documents": manifest.documents,
            "passages": manifest.passages,
            "legs": list(manifest.legs),
            "bytes": sum(file["bytes"] for file in manifest.files.values()),
            "seconds": manifest.build.get("seconds"),
        }
    )


def _plan(arguments: argparse.Namespace, config: Config, stream: ResultStream) -> None:
    from odqa.build import plan_build

    if _budget(arguments) is None:
        plan = plan_build(arguments.corpus, config)
        if arguments.json:
            stream.json(dataclasses.asdict(plan))
        else:
            _print_plan(plan, stream)
        return
    choice = _fit(arguments, config)
    if arguments.json:
        stream.json(_choice_record(choice))
        return
    _print_plan(choice.chosen.plan, stream)
    stream.line(f"{'settings':<9} {choice.chosen}")
    for rejected, reasons in choice.rejected:
        stream.line(f"{'too much':<9} {rejected} ({'; '.join(reasons)})")


def _print_plan(plan: BuildPlan, stream: ResultStream) -> None:
    from odqa.build.budgets import size_text

    about = "" if plan.exact else "about "
    rows = {
        "articles": f"{about}{plan.documents:,}",
        "passages": f"{about}{plan.passages:,}",
        "time": f"{_duration(plan.seconds)}: {_duration(plan.tokenise_seconds)} to read, split and "
        f"tokenise, {_duration(plan.encode_seconds)} to encode",
        "disk": f"{size_text(plan.disk_bytes)}, {size_text(plan.build_disk_bytes)} while it is "
        "built",
        "memory": f"{size_text(plan.memory_bytes)} at the peak, in {plan.processes} process(es)",
    }
    for name, value in rows.items():
        stream.line(f"{name:<9} {value}")


def _budget(arguments: argparse.Namespace) -> Budget | None:
    from odqa.build import Budget

    if arguments.memory_budget is None and arguments.disk_budget is None:
        return None
    return Budget(arguments.memory_budget, arguments.disk_budget)


def _fit(arguments: argparse.Namespace, config: Config) -> Choice:
    """The settings that fit the budget; those of a build that was begun, if they do.

    Raises:
        OdqaError: nothing fits.
    """
    from odqa.build import Budget, fit
    from odqa.build.budgets import begun_recipe

    go_on = arguments.resume and not arguments.force
    return fit(
        arguments.corpus,
        config,
        _budget(arguments) or Budget(),
        recipe=begun_recipe(arguments.corpus, arguments.name, arguments.indexes_dir)
        if go_on
        else None,
    )


def _choice_record(choice: Choice) -> dict[str, Any]:
    """The chosen plan with its settings, and what was too much."""
    return {
        **dataclasses.asdict(choice.chosen.plan),
        "settings": list(choice.chosen.settings),
        "rejected": [
            {
                "settings": list(rejected.settings),
                "reasons": list(reasons),
                "memory_bytes": rejected.plan.memory_bytes,
                "build_disk_bytes": rejected.plan.build_disk_bytes,
            }
            for rejected, reasons in choice.rejected
        ],
    }


def _within_budget(arguments: argparse.Namespace, config: Config) -> Config:
    """``config`` with what must change to fit the budget, which is said on stderr."""
    if _budget(arguments) is None:
        return config
    choice = _fit(arguments, config)
    for rejected, reasons in choice.rejected:
        print(f"odqa: too much {rejected} ({'; '.join(reasons)})", file=sys.stderr)
    print(f"odqa: fits the budget: {choice.chosen}", file=sys.stderr)
    return choice.chosen.config


def _duration(seconds: float) -> str:
    """Seconds as a person says them: "40 s", "12 min", "3 h 5 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
