"""Finished and unfinished indexes."""

from __future__ import annotations

import dataclasses
import shlex
import time
from pathlib import Path

from odqa import __version__
from odqa.config import DenseConfig
from odqa.doctor.checks import Finding, Surroundings, failed, ok, skipped, warning
from odqa.errors import IndexNotUsableError
from odqa.store import Manifest, is_being_built, read_manifest

_AGAIN = "build it again with: odqa build-index CORPUS --name {} --force"
_QUESTION = "서울"


def files(surroundings: Surroundings) -> Finding:
    """Format, version and the sizes of the files."""
    path = _index(surroundings)
    manifest = read_manifest(path)
    size = sum(int(file["bytes"]) for file in manifest.files.values())
    return ok(
        f"format {manifest.format}, built by odqa {manifest.odqa} (this is {__version__}), "
        f"{manifest.documents:,} articles, {manifest.passages:,} passages, "
        f"{len(manifest.files)} files of the recorded sizes, {size / 1e6:,.1f} MB"
    )


def fingerprints(surroundings: Surroundings) -> Finding:
    """Whether tokenizer, dictionary and encoder are those that the index was made with."""
    path = _index(surroundings)
    manifest = _manifest(path)
    if manifest is None:
        return skipped("its files are not in order")
    recorded = {"tokenizer": manifest.tokenizer, "encoder": manifest.encoder}
    here = _installed_now(manifest)
    said = [
        f"{what} was {recorded[what]}, here it is {here[what]}"
        for what in recorded
        if recorded[what] is not None and recorded[what] != here[what]
    ]
    if said:
        return failed("; ".join(said), _AGAIN.format(shlex.quote(path.name)))
    return ok("; ".join(str(value) for value in recorded.values() if value is not None))


def search(surroundings: Surroundings) -> Finding:
    """Whether the index opens with the configuration, and answers a query."""
    from odqa.build import open_retriever

    path = _index(surroundings)
    if _manifest(path) is None:
        return skipped("its files are not in order")
    started = time.perf_counter()
    (found,) = open_retriever(path, surroundings.config).retrieve([_QUESTION], k=1)
    seconds = time.perf_counter() - started
    best = f"'{found[0].passage.title}' first" if found else "nothing found"
    return ok(f"'{_QUESTION}': {best}, {seconds:.1f} s with opening")


def leftovers(surroundings: Surroundings) -> Finding:
    """What builds that did not come to their end have left."""
    folder = surroundings.indexes_dir
    if not folder.is_dir():
        return ok("none")
    faults, mends = [], []
    for path in sorted(folder.glob(".*.building")):
        if is_being_built(path):
            faults.append(f"{path.name} is being built now")
        else:
            faults.append(_unfinished(path))
            mends.append(f"or throw it away: rm -r {shlex.quote(str(path))}")
    for path in sorted(folder.glob(".*.old")):
        name = path.name[1 : -len(".old")]
        faults.append(f"{path} is what index '{name}' was before the last build")
        if (folder / name).exists():
            mends.append(f"rm -r {shlex.quote(str(path))}")
        else:
            mends.append(f"put it back: {shlex.join(['mv', str(path), str(folder / name)])}")
    if mends:
        return warning("; ".join(faults), "; ".join(mends))
    return ok("; ".join(faults) or "none")


def _unfinished(path: Path) -> str:
    try:
        read_manifest(path)
    except IndexNotUsableError as error:  # says how to go on
        return str(error)
    return f"{path}: complete, but not in its place yet; run the same odqa build-index again"


def _installed_now(manifest: Manifest) -> dict[str, str | None]:
    """The fingerprints that a build with the index's settings would have here."""
    from odqa.build import create_encoder, create_tokenizer

    here: dict[str, str | None] = {"tokenizer": None, "encoder": None}
    if "sparse" in manifest.legs:
        here["tokenizer"] = create_tokenizer(manifest.config["tokenizer"]["name"]).fingerprint
    if "dense" in manifest.legs:
        known = {field.name for field in dataclasses.fields(DenseConfig)}
        dense = {key: value for key, value in manifest.config["dense"].items() if key in known}
        here["encoder"] = create_encoder(DenseConfig(**dense)).fingerprint
    return here


def _manifest(path: Path) -> Manifest | None:
    """None where the check of the files has said already what is wrong."""
    try:
        return read_manifest(path)
    except IndexNotUsableError:
        return None


def _index(surroundings: Surroundings) -> Path:
    if surroundings.index is None:
        raise RuntimeError("no index was given to examine")
    return surroundings.index
