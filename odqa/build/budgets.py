"""Settings with which a build fits into the memory and the disk there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from odqa.build.components import LEGS, index_config, legs_of
from odqa.build.planning import BuildPlan, Measured, measure, predict
from odqa.build.workers import n_workers
from odqa.config import Config, set_values
from odqa.corpus import corpus_name
from odqa.errors import OdqaError
from odqa.retrieval.storages import STORAGES, bytes_per_vector
from odqa.store import read_recipe
from odqa.store.work import work_path


@dataclass(frozen=True, slots=True)
class Budget:
    """What a build may take, in bytes; None: any amount."""

    memory_bytes: int | None = None  # resident, all processes together
    disk_bytes: int | None = None  # at the peak of the build, the index included

    def exceeded_by(self, plan: BuildPlan) -> tuple[str, ...]:
        """What a plan takes too much of, in words; nothing where it fits."""
        needs = (
            ("memory", plan.memory_bytes, self.memory_bytes),
            ("disk", plan.build_disk_bytes, self.disk_bytes),
        )
        return tuple(
            f"{what}: {size_text(needed)} of {size_text(allowed)}"
            for what, needed, allowed in needs
            if allowed is not None and needed > allowed
        )


@dataclass(frozen=True, slots=True)
class Alternative:
    """Settings put over the configuration, and what a build with them takes."""

    settings: tuple[str, ...]  # as ``--set`` takes them; none: as configured
    config: Config
    plan: BuildPlan

    def __str__(self) -> str:
        return " ".join(f"--set {setting}" for setting in self.settings) or "as configured"


@dataclass(frozen=True, slots=True)
class Choice:
    """The best settings that fit, and the better ones that do not with the reasons."""

    chosen: Alternative
    rejected: tuple[tuple[Alternative, tuple[str, ...]], ...]


def fit(
    source: Path | str,
    config: Config,
    budget: Budget,
    *,
    recipe: Mapping[str, Any] | None = None,
) -> Choice:
    """The first settings that fit, going from the best to the cheapest.

    First as configured, then with vectors stored smaller, at last without the dense leg; each with
    as many processes as fit. None of them changes anything but what must be given up.

    Args:
        source: the corpus.
        config: what is wanted.
        budget: what there is.
        recipe: of a build that was begun; only settings with which it can go on are looked at, if
            it was begun with some of these.

    Raises:
        OdqaError: nothing fits; the message says what would be needed.
        InputError, ConfigError: as ``plan_build``.
    """
    measured = measure(source, config)
    families = list(_families(measured, config))
    families = [f for f in families if recipe and _is_of(recipe, f[0].config)] or families
    rejected: list[tuple[Alternative, tuple[str, ...]]] = []
    for family in families:
        fitting = [a for a in family if not budget.exceeded_by(a.plan)]
        # Where no number of processes helps, the cheapest tells enough.
        passed = family[: family.index(fitting[0])] if fitting else family[-1:]
        rejected += [(a, budget.exceeded_by(a.plan)) for a in passed]
        if fitting:
            return Choice(fitting[0], tuple(rejected))
    raise OdqaError(_nothing_fits([a for family in families for a in family]))


def begun_recipe(source: Path | str, name: str | None, indexes_dir: Path) -> dict[str, Any]:
    """The recipe of the unfinished or finished index of that name; empty where there is none."""
    name = name or corpus_name(source)
    return read_recipe(work_path(indexes_dir, name)) or read_recipe(indexes_dir / name)


def size_text(n_bytes: float) -> str:
    """Bytes in MB, or GB from 1 GB up (powers of 1,000)."""
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


def _families(measured: Measured, config: Config) -> Iterator[list[Alternative]]:
    """The same index with ever fewer processes, for each index, best first."""
    for settings in _indexes(measured, config):
        family: list[Alternative] = []
        for workers in _halves(n_workers(config.build.workers)):
            fewer = (f"build.workers={workers}",) if family else ()
            changed = set_values(config, (*settings, *fewer))
            plan = predict(measured, changed)
            if not family or plan.processes < family[-1].plan.processes:
                family.append(Alternative((*settings, *fewer), changed, plan))
        yield family


def _indexes(measured: Measured, config: Config) -> Iterator[tuple[str, ...]]:
    yield ()
    legs, dim = legs_of(config.retrieval.retriever), measured.trial.dim
    if "dense" in legs:
        passages = predict(measured, config).passages
        size = {name: bytes_per_vector(name, passages, dim) for name in STORAGES}
        now = bytes_per_vector(config.dense.faiss, passages, dim)
        for name in sorted(STORAGES, key=lambda name: -size[name]):
            if size[name] < now:
                yield (f"dense.faiss={name}",)
    if legs == LEGS:
        yield ("retrieval.retriever=sparse",)


def _halves(number: int) -> Iterator[int]:
    while number > 1:
        yield number
        number //= 2
    yield 1


def _is_of(recipe: Mapping[str, Any], config: Config) -> bool:
    legs = legs_of(config.retrieval.retriever)
    return recipe.get("legs") == list(legs) and recipe.get("config") == index_config(config, legs)


def _nothing_fits(alternatives: list[Alternative]) -> str:
    least_memory = min(alternatives, key=lambda a: a.plan.memory_bytes)
    least_disk = min(alternatives, key=lambda a: a.plan.build_disk_bytes)
    return (
        "no settings fit the budget: at least "
        f"{size_text(least_memory.plan.memory_bytes)} of memory ({least_memory}) and "
        f"{size_text(least_disk.plan.build_disk_bytes)} of disk ({least_disk}) are needed; give "
        "more, or split the corpus"
    )
