"""Writes docs/cli.md and docs/configuration.md from the code; tests/test_docs.py holds them to it.

python scripts/write_docs.py
"""

import argparse
import dataclasses
import inspect
import re
from pathlib import Path

from odqa.cli.main import make_parser
from odqa.config import Config

DOCS = Path(__file__).parents[1] / "docs"
_NOTE = "<!-- written by scripts/write_docs.py; edit the code and run `make docs` -->"
_FIELD = re.compile(r"^    (\w+): [^=\n]+= [^#\n]+(?:#\s*(.*))?$", re.MULTILINE)


def cli_page() -> str:
    """Every command with its arguments, options and their help."""
    parser = make_parser()
    lines = [
        "# The command line",
        _NOTE,
        "",
        "What is read and written: [data-contract.md](data-contract.md).",
    ]
    for name, command in _commands(parser).items():
        lines += ["", f"## `odqa {name}`", "", f"{_sentence(command.description or '')}"]
        if name == "train":
            lines += ["", "See `odqa train --help`."]
            continue
        lines += ["", "| option | meaning |", "|---|---|"]
        lines += [_option_row(action) for action in command._actions if action.dest != "help"]
    return "\n".join(lines) + "\n"


def configuration_page() -> str:
    """Every section of the configuration with its keys, defaults and comments."""
    lines = [
        "# Configuration",
        _NOTE,
        "",
        "Keys are set in a YAML file (`--config`) or one by one (`--set section.key=value`); an",
        "unknown key is refused with the nearest valid names. A search follows what is recorded in",
        "its index.",
    ]
    config = Config()
    for field in dataclasses.fields(config):
        section = getattr(config, field.name)
        if not dataclasses.is_dataclass(section):
            continue
        kind = type(section)
        lines += ["", f"## `{field.name}`", "", " ".join((kind.__doc__ or "").split())]
        lines += ["", "| key | default | meaning |", "|---|---|---|"]
        comments = dict(_FIELD.findall(inspect.getsource(kind)))
        for key in dataclasses.fields(section):
            default = _yaml(getattr(section, key.name))
            meaning = _cell(comments.get(key.name) or "")
            lines.append(f"| `{field.name}.{key.name}` | `{default}` | {meaning} |")
    plain = [
        f
        for f in dataclasses.fields(config)
        if not dataclasses.is_dataclass(getattr(config, f.name))
    ]
    lines += ["", "## Top level", "", "| key | default |", "|---|---|"]
    lines += [f"| `{f.name}` | `{_yaml(getattr(config, f.name))}` |" for f in plain]
    return "\n".join(lines) + "\n"


PAGES = {"cli.md": cli_page, "configuration.md": configuration_page}


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise RuntimeError("the parser has no commands")


def _option_row(action: argparse.Action) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    value = ""
    if action.choices:
        value = "|".join(map(str, action.choices))
    elif action.nargs != 0:
        value = str(action.metavar or action.dest.upper())
    shown = f"{names} `{value}`" if names and value else names or f"`{value}`"
    return f"| {_cell(shown)} | {_cell(action.help or '')} |"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _yaml(value: object) -> str:
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


if __name__ == "__main__":
    main()
