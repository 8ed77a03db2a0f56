"""Errors a user can meet. Each message says what is wrong, where, and what to do about it."""

from __future__ import annotations

from pathlib import Path


class OdqaError(Exception):
    """The run failed (exit code 1)."""

    exit_code = 1


class UsageError(OdqaError):
    """Bad usage: options that make no sense together, an empty question (exit code 2)."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key or value that is not valid."""


class InputError(UsageError):
    """A bad input file. The message begins with ``path[:line][: field]``."""

    def __init__(
        self, message: str, *, path: Path | str, line: int | None = None, field: str | None = None
    ) -> None:
        where = str(path) + (f":{line}" if line is not None else "")
        where += f": field '{field}'" if field is not None else ""
        super().__init__(f"{where}: {message}")


class IndexNotUsableError(OdqaError):
    """An index that is missing, unfinished, damaged or made by another tokenizer or encoder."""


class MissingDependencyError(OdqaError):
    """An optional package is needed; the message is its install line."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed. "
            f"Install it with: pip install 'odqa[{extra}]'"
        )
