"""Build time, latency and memory as a corpus grows, as a table and a picture.

    python scripts/bench_growth.py CORPUS --passages 10000 100000 1000000 --output docs/growth

For each size the first articles of CORPUS that make about so many passages are built into an index
with the defaults, in a process of its own, and the first 100 questions of --questions are asked of
it one at a time on one thread, warm. Points are kept in OUTPUT.json and not measured again;
OUTPUT.svg is drawn from all of them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from odqa.corpus import read_documents
from odqa.evaluation.charts import Axis, Series, line_chart

_PASSAGES_PER_ARTICLE = 2.0  # of all of Korean Wikipedia; the true number is what is recorded
_STYLE = (
    "<style>text{font:12px sans-serif;fill:#444}.grid{stroke:#ddd}.line{fill:none;stroke-width:2}"
    ".s0{stroke:#2563eb;fill:#2563eb}.line.s0,.line.s1,.line.s2{fill:none}.s1{stroke:#d97706;"
    "fill:#d97706}.s2{stroke:#059669;fill:#059669}</style>"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("corpus")
    parser.add_argument("--passages", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="path without its ending")
    arguments = parser.parse_args()
    kept = arguments.output.with_suffix(".json")
    points: list[dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else []
    for size in arguments.passages:
        if not any(point["asked"] == size for point in points):
            points.append({"asked": size, **_measure(arguments.corpus, size, arguments.questions)})
            kept.write_text(json.dumps(points, indent=1) + "\n", encoding="utf-8")
    points.sort(key=lambda point: int(point["passages"]))
    arguments.output.with_suffix(".svg").write_text(_picture(points), encoding="utf-8")
    for point in points:
        print(json.dumps(point))


def _measure(corpus: str, passages: int, questions: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="odqa-growth-") as folder:
        part = Path(folder) / "part.jsonl"
        articles = itertools.islice(read_documents(corpus), round(passages / _PASSAGES_PER_ARTICLE))
        with part.open("w", encoding="utf-8") as file:
            for document in articles:
                record = {"id": document.doc_id, "title": document.title, "text": document.text}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        here = Path(__file__).parent
        build = _run(here / "benchmark_build.py", str(part), "--indexes-dir", folder)
        asked = ("--questions", str(questions), "--limit", "100")
        search = _run(here / "bench_retrieval.py", str(Path(folder) / "part"), *asked)
    return {
        "passages": build["passages"],
        "build_seconds": build["seconds"],
        "build_megabytes": round(build["peak_private_bytes"] / 1e6),
        "index_megabytes": round(build["disk_bytes"] / 1e6),
        "opening_seconds": search["opening_seconds"],
        "milliseconds": search["milliseconds"],
        "resident_megabytes": search["resident_mb"],
        "of_that_in_files_megabytes": search["of_that_in_files_mb"],
    }


def _run(script: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(script), *arguments]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    record: dict[str, Any] = json.loads(output.splitlines()[-1])
    return record


def _picture(points: list[dict[str, Any]]) -> str:
    """Three charts below each other: each value over the number of passages, both logarithmic."""
    sizes = [float(point["passages"]) for point in points]

    def line(name: str, *keys: str) -> Series:
        values = []
        for point in points:
            value: Any = point
            for key in keys:
                value = value[key]
            values.append(float(value))
        return Series(name, list(zip(sizes, values, strict=True)))

    charts = [
        ("seconds to build", [line("build", "build_seconds")]),
        (
            "milliseconds a question, median",
            [line(leg, "milliseconds", leg, "p50") for leg in ("hybrid", "dense", "sparse")],
        ),
        (
            "megabytes",
            [
                line("building", "build_megabytes"),
                line("searching", "resident_megabytes"),
                line("index on disk", "index_megabytes"),
            ],
        ),
    ]
    x = _axis("passages", sizes)
    drawn = [
        f'<g transform="translate(0 {300 * i})">'
        + _inner(
            line_chart(title, series, x, _axis(title, [v for s in series for _, v in s.points]))
        )
        + "</g>"
        for i, (title, series) in enumerate(charts)
    ]
    height = 300 * len(charts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 480 {height}" width="480" '
        f'height="{height}"><rect width="100%" height="100%" fill="white"/>{_STYLE}'
        f"{''.join(drawn)}</svg>\n"
    )


def _values(series: list[Series]) -> list[float]:
    return [value for line in series for _, value in line.points]


def _axis(label: str, values: list[float]) -> Axis:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values) * 1.01))
    ticks = [10.0**power for power in range(low, high + 1)]
    return Axis(label, ticks, low=ticks[0], high=ticks[-1], log=True)


def _inner(svg: str) -> str:
    return svg[svg.index(">") + 1 : svg.rindex("</svg>")]


if __name__ == "__main__":
    main()
