"""The house's one rule: a module imports only from below (docs/index.md)."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import odqa

ROOT = Path(odqa.__file__).parent
LAYERS = [
    {"types", "protocols", "errors", "config", "processes"},
    {"text", "corpus", "store", "sample"},
    {"retrieval", "reading", "models", "fusion", "metrics"},
    {"pipeline"},
    {"build", "evaluation", "training", "doctor"},
    {"cli", "__main__"},
]
LAYER_OF = {part: number for number, parts in enumerate(LAYERS) for part in parts}
WITHIN_LAYER = {  # who may import a sibling: part -> siblings
    **dict.fromkeys(LAYERS[0], LAYERS[0]),
    "corpus": {"text", "sample"},
    "store": {"text", "corpus"},
    "retrieval": {"models"},
    "reading": {"models"},
    "evaluation": {"build"},
    "training": {"build", "evaluation"},
    "doctor": {"build"},
    "__main__": {"cli"},
}
HEAVY = {"torch", "transformers", "onnxruntime", "faiss"}
LAZY = {*HEAVY, "bm25s", "numba", "datasets", "elasticsearch", "accelerate"}
MODULES = sorted(ROOT.rglob("*.py"))


def part_of(module: str) -> str:
    """The file or folder directly under ``odqa`` that a dotted module belongs to."""
    return module.split(".")[1] if "." in module else ""


def dotted(path: Path) -> str:
    names = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "odqa":  # from odqa import x: x may be a module
                yield from (f"odqa.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


def test_every_part_has_a_layer() -> None:
    parts = {part_of(dotted(path)) for path in MODULES} - {""}
    assert parts <= set(LAYER_OF), "give the new part its layer here and in docs/index.md"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_go_down(path: Path) -> None:
    part = part_of(dotted(path))
    for module in imported(path):
        other = part_of(module)
        if not module.startswith("odqa.") or other not in LAYER_OF or other == part:
            continue
        allowed = LAYER_OF[other] < LAYER_OF[part] or other in WITHIN_LAYER.get(part, ())
        assert allowed, f"{dotted(path)} (layer {LAYER_OF[part]}) imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_low_layers_know_no_heavy_library(path: Path) -> None:
    part = part_of(dotted(path))
    if part and LAYER_OF[part] <= 1:
        assert not {module.split(".")[0] for module in imported(path)} & HEAVY


def loaded_by(module: str) -> set[str]:
    """The top-level packages that are loaded after importing a module in a fresh process."""
    command = [sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in run.stdout.split()}


def test_the_command_line_starts_light() -> None:
    assert not loaded_by("odqa.cli") & LAZY


def test_the_name_tables_load_no_model_library() -> None:
    assert not loaded_by("odqa.build") & HEAVY


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_nothing_is_pickled(path: Path) -> None:
    assert not {"pickle", "cPickle", "dill", "joblib", "shelve"} & set(imported(path))
