"""The command line: one module a command, thin; what they do lives in the layers below."""

from odqa.cli.main import main

__all__ = ["main"]
