"""Readers of source formats, and the splitting of articles into passages."""

from odqa.corpus.passages import clean_document, clean_text, split_passages
from odqa.corpus.sources import KNOWN_SOURCES, corpus_name, read_documents

__all__ = [
    "KNOWN_SOURCES",
    "clean_document",
    "clean_text",
    "corpus_name",
    "read_documents",
    "split_passages",
]
