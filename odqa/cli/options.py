"""Options that several commands share, and what they mean for the configuration."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from odqa.config import Config, load_config

LEGS = ("sparse", "dense", "hybrid")


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """``--config``, ``--set`` and ``--debug``, which every command takes."""
    group = parser.add_argument_group("configuration")
    group.add_argument("--config", type=Path, metavar="FILE.yaml", help="configuration file")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="one setting, such as fusion.temperature=1.5 (can be repeated)",
    )
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")


def add_index_options(parser: argparse.ArgumentParser) -> None:
    """``--index`` and ``--indexes-dir``."""
    parser.add_argument(
        "--index",
        metavar="NAME|PATH",
        help="a name under --indexes-dir or an index folder (default: the only one, or sample)",
    )
    add_indexes_dir(parser)


def add_indexes_dir(parser: argparse.ArgumentParser) -> None:
    """``--indexes-dir``."""
    parser.add_argument(
        "--indexes-dir",
        type=Path,
        default=Path("indexes"),
        metavar="DIR",
        help="where indexes live (default: indexes)",
    )


def add_leg_options(parser: argparse.ArgumentParser) -> None:
    """``--retriever`` and ``--no-rerank``."""
    parser.add_argument("--retriever", choices=LEGS, help="the first stage (default: hybrid)")
    parser.add_argument("--no-rerank", action="store_true", help="leave the second stage out")


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def positive(text: str) -> int:
    """A whole number of at least 1, as an argparse type.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got '{text}'")
    return number


def configuration(arguments: argparse.Namespace) -> Config:
    """The defaults, ``--config``, ``--set``, then ``--retriever`` and ``--no-rerank``.

    A second stage belongs to the hybrid first stage: one leg alone is shown as it is.

    Raises:
        InputError: the file is missing or no YAML.
        ConfigError: an unknown key or a bad value.
    """
    config = load_config(arguments.config, arguments.overrides)
    if getattr(arguments, "retriever", None):
        retrieval = dataclasses.replace(config.retrieval, retriever=arguments.retriever)
        config = dataclasses.replace(config, retrieval=retrieval)
    if getattr(arguments, "no_rerank", False) or config.retrieval.retriever != "hybrid":
        rerank = dataclasses.replace(config.rerank, encoder="none")
        config = dataclasses.replace(config, rerank=rerank)
    return config
