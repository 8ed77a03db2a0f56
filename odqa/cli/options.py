"""Options that several commands share, and what they mean for the configuration."""

from __future__ import annotations

import argparse
import dataclasses
import re
from pathlib import Path

from odqa.config import Config, load_config

LEGS = ("sparse", "dense", "hybrid")
_SIZE = re.compile(
    r"(?P<number>\d+(\.\d+)?)\s*(?P<prefix>[KMGT])?(?P<binary>(?<=[KMGT])i)?B?", re.IGNORECASE
)


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


def add_index_options(
    parser: argparse.ArgumentParser, *, default: str = "the only one, or sample"
) -> None:
    """``--index`` and ``--indexes-dir``."""
    parser.add_argument(
        "--index",
        metavar="NAME|PATH",
        help=f"a name under --indexes-dir or an index folder (default: {default})",
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


def size(text: str) -> int:
    """Bytes written as "4GB", "800M", "1.5GiB" or a plain number, as an argparse type.

    K, M, G and T are powers of 1,000, with or without a B; KiB, MiB, GiB and TiB of 1,024.

    Raises:
        argparse.ArgumentTypeError: it is no size above 0.
    """
    match = _SIZE.fullmatch(text.strip())
    power = 1 + "KMGT".index(match["prefix"].upper()) if match and match["prefix"] else 0
    base = 1024 if match and match["binary"] else 1000
    n_bytes = int(float(match["number"]) * base**power) if match else 0
    if n_bytes < 1:
        raise argparse.ArgumentTypeError(
            f"must be a size such as 4GB, 800M or 1.5GiB, got '{text}'"
        )
    return n_bytes


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
