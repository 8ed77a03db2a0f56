"""odqa: Korean open-domain question answering over your own text."""

__version__ = "0.1.0"
