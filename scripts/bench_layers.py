"""What quality a reader's speed costs: layers, precision and length of the window.

    python scripts/bench_layers.py QUESTIONS.json BASE READER… --output FILE.json [--also FILE.json]

QUESTIONS is a KorQuAD file; BASE the folder of the 12-layer base model
(``scripts/make_base_model.py``), read by torch in fp32 for comparison; each READER an exported
reader (``odqa train export``) or the name of the bundled one. Every reader reads in every precision
of this processor with windows of 384 tokens, the first one with shorter and longer ones too, in the
precision it takes by itself. Written are EM and F1 on all questions (and on those of ``--also``),
windows of full length a second, beside the base in the same round, and paragraphs a second;
FILE.svg shows EM over paragraphs a second. The rates are medians of rounds in which all take their
turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench_reader import torch_read, windows_of
from transformers import AutoModel

from odqa.config import ReaderConfig
from odqa.corpus.datasets import read_examples
from odqa.evaluation.charts import Axis, Series, line_chart
from odqa.evaluation.run import evaluate_reading
from odqa.models.devices import has_byte_products
from odqa.models.weights import WEIGHTS
from odqa.pipeline import given_candidates
from odqa.reading.extractive import BUNDLED, ExtractiveReader, OnnxSpanModel
from odqa.reading.windows import Window
from odqa.types import Example

LENGTHS = {192: 48, 256: 96, 512: 128}  # beside 384: the stride of each
FIGURES = ("exact_match", "f1", "klue_exact_match", "klue_rouge_w")


@dataclass(frozen=True, slots=True)
class Point:
    """A reader in one of its settings."""

    name: str
    layers: int
    precision: str
    length: int
    model: OnnxSpanModel
    reader: ExtractiveReader


def points_of(folder: Path, *, lengths: bool) -> list[Point]:
    """The settings in which an exported reader is measured, with other ``lengths`` or without."""
    precisions = ["fp32", "int8"] if has_byte_products() else ["fp32"]
    found = []
    for precision in precisions:
        model = OnnxSpanModel(folder, precision)
        shown = {384: 128} | (LENGTHS if lengths and precision == precisions[-1] else {})
        for length, stride in shown.items():
            config = ReaderConfig(model=str(folder), max_length=length, stride=stride)
            reader = ExtractiveReader(model, config)
            layers = _layers(folder)
            found.append(Point(folder.name, layers, precision, length, model, reader))
    return found


def _layers(folder: Path) -> int:
    import onnx

    graph = onnx.load(str(folder / "model.onnx"), load_external_data=False).graph
    return sum(node.op_type in ("Attention", "MultiHeadAttention") for node in graph.node)


def rates(jobs: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """What each job does a second, in rounds in which all take their turn."""
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for done in range(rounds + 1):
        for name, job in jobs.items():
            began = time.perf_counter()
            n = job()
            if done:  # the first round warms up
                found[name].append(n / (time.perf_counter() - began))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("questions", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("readers", nargs="+")
    parser.add_argument("--also", type=Path, action="append", default=[])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--windows", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()

    sets = {p.stem: read_examples(p) for p in (arguments.questions, *arguments.also)}
    folders = [WEIGHTS / BUNDLED if name == BUNDLED else Path(name) for name in arguments.readers]
    points = [p for place, f in enumerate(folders) for p in points_of(f, lengths=place == 0)]
    base = AutoModel.from_pretrained(arguments.base, add_pooling_layer=False).eval()
    windows = windows_of(points[0].model, arguments.questions, arguments.windows, 384)
    examples = sets[arguments.questions.stem][: arguments.windows]

    jobs: dict[str, Callable[[], int]] = {"base": partial(_read_by_torch, base, windows)}
    for place, point in enumerate(points):
        if point.length == 384:
            jobs[f"windows {place}"] = partial(_read_windows, point, windows)
        jobs[f"paragraphs {place}"] = partial(_read_paragraphs, point, examples)
    found = rates(jobs, arguments.rounds)

    rows = []
    for place, point in enumerate(points):
        row: dict[str, Any] = {
            "reader": point.name,
            "layers": point.layers,
            "precision": point.precision,
            "length": point.length,
            "paragraphs_per_second": round(statistics.median(found[f"paragraphs {place}"]), 2),
        }
        if of_windows := found.get(f"windows {place}"):
            ratios = [a / b for a, b in zip(of_windows, found["base"], strict=True)]
            row["windows_per_second"] = round(statistics.median(of_windows), 2)
            row["times_the_base"] = round(statistics.median(ratios), 2)
        for name, asked in sets.items():
            measured = evaluate_reading(point.reader, asked).metrics
            row[name] = {figure: round(float(measured[figure]), 2) for figure in FIGURES}
        print(json.dumps(row), file=sys.stderr)
        rows.append(row)
    result = {"base_windows_per_second": round(statistics.median(found["base"]), 2), "points": rows}
    arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    chart = _chart(rows, arguments.questions.stem)
    arguments.output.with_suffix(".svg").write_text(chart, encoding="utf-8")


def _read_by_torch(base: Any, windows: Sequence[Window]) -> int:
    torch_read(base, windows)
    return len(windows)


def _read_windows(point: Point, windows: Sequence[Window]) -> int:
    point.model.logits(windows)
    return len(windows)


def _read_paragraphs(point: Point, examples: Sequence[Example]) -> int:
    given = [given_candidates([example.passage]) for example in examples if example.passage]
    point.reader.read([example.question for example in examples if example.passage], given, k=1)
    return len(given)


def _chart(rows: Sequence[dict[str, Any]], name: str) -> str:
    """EM over paragraphs a second, a line for each precision, windows of 384 tokens."""
    shown = [row for row in rows if row["length"] == 384]
    series = [
        Series(
            precision,
            sorted(
                (row["paragraphs_per_second"], row[name]["exact_match"])
                for row in shown
                if row["precision"] == precision
            ),
        )
        for precision in dict.fromkeys(row["precision"] for row in shown)
    ]
    most = max(row["paragraphs_per_second"] for row in shown)
    low = 10 * int(min(row[name]["exact_match"] for row in shown) // 10)
    x = Axis(
        "paragraphs a second", list(range(0, int(most) + 21, 20)), high=int(most) // 20 * 20 + 20
    )
    y = Axis("EM", list(range(low, 91, 10)), low=low, high=90)
    return line_chart("EM over speed", series, x, y)


if __name__ == "__main__":
    main()
