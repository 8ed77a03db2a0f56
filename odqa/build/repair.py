"""Repairing a damaged index: what is undamaged is kept, the rest is built again.

The parts of an index are its folders: passages, and the legs. A leg is made from the passages, so
the source is needed only where the passages themselves are damaged. The repaired index is put
together in the work folder of its name and takes the damaged one's place in one step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from odqa.build.components import retriever_of
from odqa.build.indexing import IndexBuild, Progress, no_progress
from odqa.build.recipe import SHARDS, SHARDS_DONE, differences
from odqa.build.verify import Inspection, inspect_files, verify_index
from odqa.config import Config, merge
from odqa.errors import ConfigError, IndexNotUsableError, InputError, OdqaError, UsageError
from odqa.store import (
    MANIFEST_NAME,
    RECIPE_NAME,
    REPAIR,
    Manifest,
    WorkDirectory,
    check_files,
    checksum,
    complete_manifest,
    is_legible_checksum,
    legible_build,
    parse_manifest,
    read_recipe,
    remove,
    write_json,
    write_manifest,
)

logger = logging.getLogger(__name__)

_DIGESTS = "passages/digests.npy"


def repair_index(
    directory: Path, config: Config, *, progress: Progress | None = None
) -> tuple[str, ...]:
    """Rebuild what is damaged of a finished index; returns the files that were damaged.

    Args:
        directory: the index. It stays as it is until the repaired one takes its place.
        config: how the encoder is run; what the index is built with is recorded in it.
        progress: told how far each stage is.

    Raises:
        IndexNotUsableError: it cannot be proven that the repaired index would be the old one: the
            source has changed and the passages are damaged, the program or its models are others,
            or too much of the records is lost. The message says how to build it anew.
        UsageError: files that are no part of the index are in it, or an unfinished build is in
            the way.
    """
    directory = directory.resolve()
    with WorkDirectory(directory.parent, directory.name) as work:
        inspection = inspect_files(directory, progress=progress)
        if inspection.unexpected:
            raise UsageError(
                f"{directory} holds files that are no part of the index: "
                f"{', '.join(inspection.unexpected)}; move them elsewhere, then repair"
            )
        if inspection.damaged:
            _Repair(work, inspection, config, progress or no_progress).run()
        return tuple(inspection.damaged)


class _Repair:
    """One run of ``repair_index``."""

    def __init__(
        self, work: WorkDirectory, inspection: Inspection, config: Config, progress: Progress
    ) -> None:
        """
        Raises:
            IndexNotUsableError: this program cannot build what is damaged as it was.
        """
        self._work = work
        self._index = work.final_path
        self._inspection = inspection
        self._config = config
        self._recipe = self._read_recipe()
        self._build = self._new_build(progress)
        self._parts = tuple(name for name in self._build.entries if name != RECIPE_NAME)
        self._damaged = self._damaged_parts()

    def run(self) -> None:
        """Put the repaired index together and publish it."""
        if not self._finished_before():
            self._prepare()
            for part in self._parts:
                if part not in self._damaged:
                    self._take_over(part)
            if "passages" in self._damaged:
                self._restore_passages()
            self._build.index_legs(self._work.path)
            self._finish()
        self._work.publish()

    def _read_recipe(self) -> dict[str, Any]:
        manifest = self._inspection.manifest
        recipe = dict(manifest.recipe) if manifest is not None else read_recipe(self._index)
        if not {"source", "legs", "config"} <= recipe.keys():
            raise self._hopeless("neither its manifest nor its recipe can be read", {})
        return recipe

    def _new_build(self, progress: Progress) -> IndexBuild:
        legs = tuple(self._recipe["legs"])
        settings: dict[str, Any] = {**self._recipe["config"]}
        settings["retrieval"] = {"retriever": retriever_of(legs)}
        try:
            config = merge(self._config, settings, where=str(self._index))
        except ConfigError as error:
            raise self._hopeless(f"its settings are of another version ({error})", {}) from error
        build = IndexBuild(self._recipe["source"], config, progress)
        differing = [
            name
            for name in differences(self._recipe, build.recipe)
            if name.partition(".")[0] not in ("source", "source_state")
        ]
        if differing:
            raise self._hopeless(
                f"it was built otherwise than this program builds ({', '.join(differing)})",
                self._recipe,
            )
        build.recipe = self._recipe
        return build

    def _damaged_parts(self) -> frozenset[str]:
        """The parts that are not proven to be as they were written."""
        damaged = {name.partition("/")[0] for name in self._inspection.damaged}
        recorded = {name.partition("/")[0] for name in self._inspection.recorded}
        parts = frozenset(self._parts) & damaged | frozenset(self._parts) - recorded
        if self._inspection.manifest is not None:
            return parts
        if self._whole_is_proven():
            return frozenset()
        if RECIPE_NAME in damaged or RECIPE_NAME not in recorded:
            raise self._hopeless("manifest and recipe are both damaged", self._recipe)
        if "passages" in parts and _DIGESTS not in self._inspection.recorded:
            raise self._hopeless(
                "its passages and the record of what they were made of are damaged", self._recipe
            )
        return parts

    def _whole_is_proven(self) -> bool:
        """Does the manifest that fits the files have the checksum in the damaged manifest?

        Then it is the manifest that was written, and the files are those it was written for.
        """
        with contextlib.suppress(OdqaError, OSError):
            entries = self._build.entries
            manifest = complete_manifest(self._index, self._manifest(self._index), entries)
            return is_legible_checksum(self._index, manifest.checksum)
        return False

    def _finished_before(self) -> bool:
        """Was a repair killed when all that was left to do was to publish its index?"""
        path = self._work.path
        if not (path / MANIFEST_NAME).exists() or read_recipe(path) != self._recipe:
            return False
        try:
            return not check_files(path, parse_manifest(path))
        except IndexNotUsableError:
            return False

    def _prepare(self) -> None:
        """Leave in the work folder nothing but what this very repair left there before."""
        mark = {**self._recipe, REPAIR: sorted(self._damaged)}
        path = self._work.path
        found = read_recipe(path)
        if found == mark:
            return
        if REPAIR not in found and any(path.glob(f"{SHARDS}/*.npz")):
            raise UsageError(
                f"an unfinished build of '{self._work.name}' is in the way; finish it with the "
                f"command it was begun with, or throw it away by removing {path}"
            )
        self._work.clear()
        write_json(path / RECIPE_NAME, mark)

    def _take_over(self, part: str) -> None:
        """Put an undamaged folder of the index into the work folder, as links if possible."""
        target = self._work.path / part
        if target.exists():
            return
        unfinished = target.with_name(f"{part}.part")
        remove(unfinished)
        shutil.copytree(self._index / part, unfinished, copy_function=_link_or_copy)
        unfinished.rename(target)

    def _restore_passages(self) -> None:
        """Read the source again; keep the legs only if the passages become what they were."""
        path = self._work.path
        try:
            self._build.store_passages(path)
        except InputError as error:
            self._work.clear()
            raise self._hopeless(
                f"its passages are damaged, and its source cannot be read again: {error}",
                self._recipe,
            ) from error
        recorded = {
            name: entry["blake2b"]
            for name, entry in self._inspection.recorded.items()
            if name.startswith("passages/")
        }
        found = {f"passages/{f.name}": checksum(f) for f in (path / "passages").iterdir()}
        if found[_DIGESTS] != recorded[_DIGESTS] and not self._same_documents():
            self._work.clear()
            raise self._hopeless(
                f"its passages are damaged, and {self._recipe['source']} has changed since",
                self._recipe,
            )
        if found != recorded:
            logger.warning("the passages are stored otherwise than before; all is built again")
            for name in (*self._parts, SHARDS, SHARDS_DONE):
                if name != "passages":
                    remove(path / name)

    def _same_documents(self) -> bool:
        """Were the passages made of the same documents in another order, as by an update?"""
        if _DIGESTS in self._inspection.damaged:
            return False  # nobody knows what they were made of
        before, now = (np.load(folder / _DIGESTS) for folder in (self._index, self._work.path))
        return np.array_equal(np.unique(before, axis=0), np.unique(now, axis=0))

    def _finish(self) -> None:
        """Write recipe and manifest, and see whether the index opens."""
        path = self._work.path
        self._build.remove_leftovers(path)
        write_json(path / RECIPE_NAME, self._recipe)
        write_manifest(path, self._manifest(path), self._build.entries)
        report = verify_index(path, self._config)
        if not report.ok:
            self._work.clear()
            why = "; ".join((*report.damaged, *report.unexpected, *report.disagreements))
            raise self._hopeless(f"what was repaired is of no use ({why})", self._recipe)

    def _manifest(self, directory: Path) -> Manifest:
        """The manifest of the index, with the time of its first making where that is known."""
        manifest, before = self._build.manifest(directory), self._inspection.manifest
        build = before.build if before is not None else legible_build(self._index)
        return dataclasses.replace(manifest, build=build) if build else manifest

    def _hopeless(self, why: str, recipe: Mapping[str, Any]) -> IndexNotUsableError:
        source = str(recipe.get("source", "CORPUS"))
        command = ["odqa", "build-index", source, "--name", self._work.name, "--force"]
        command += ["--indexes-dir", str(self._index.parent)]
        return IndexNotUsableError(
            f"{self._index}: the index cannot be repaired: {why}; build it anew with: "
            f"{shlex.join(command)} (and the options it was built with)"
        )


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)
