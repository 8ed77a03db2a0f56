"""The index directory: its manifest, its memory-mapped passages, its atomic publishing."""

from odqa.store.duplicates import open_groups
from odqa.store.index import (
    FORMAT,
    MANIFEST_NAME,
    RECIPE_NAME,
    Manifest,
    check_files,
    find_index,
    list_indexes,
    read_manifest,
    write_manifest,
)
from odqa.store.passages import PassageBlock, PassageStore, PassageWriter
from odqa.store.strings import Strings
from odqa.store.work import WorkDirectory, remove, write_json

__all__ = [
    "FORMAT",
    "MANIFEST_NAME",
    "RECIPE_NAME",
    "Manifest",
    "PassageBlock",
    "PassageStore",
    "PassageWriter",
    "Strings",
    "WorkDirectory",
    "check_files",
    "find_index",
    "list_indexes",
    "open_groups",
    "read_manifest",
    "remove",
    "write_json",
    "write_manifest",
]
