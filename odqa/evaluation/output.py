"""The files of a run: metrics.json, records.jsonl, report.html, predictions.json or run.trec."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from odqa.errors import UsageError
from odqa.evaluation.report import render_report
from odqa.evaluation.run import Evaluation
from odqa.evaluation.scoring import format_value as show

_FILES = ("metrics.json", "records.jsonl", "run.trec", "predictions.json", "report.html")


def write_evaluation(
    evaluation: Evaluation, directory: Path, *, comparison: Mapping[str, Any] | None = None
) -> None:
    """Write a run to ``directory``, which is made where it is missing.

    Each file is complete or absent; ``metrics.json`` is written last. The files of a run that was
    there before are removed first, so that no folder holds parts of two.

    Raises:
        UsageError: the directory cannot be written to.
    """
    figures = all_figures(evaluation, comparison)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            (directory / name).unlink(missing_ok=True)
        _write(directory / "records.jsonl", (_json(record) for record in evaluation.records))
        if evaluation.task == "retrieval":
            _write(directory / "run.trec", evaluation.run)
        else:
            _write(directory / "predictions.json", [_json(evaluation.predictions, indent=1)])
        _write(directory / "report.html", [render_report(evaluation, comparison)])
        _write(directory / "metrics.json", [_json(figures, indent=1)])
    except OSError as error:
        raise _cannot_write(directory, error) from error


def check_writable(directory: Path) -> None:
    """See that a run can be written to ``directory``, which is made where it is missing.

    Raises:
        UsageError: it cannot, or it is a file.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise _cannot_write(directory, error) from error


def _cannot_write(directory: Path, error: OSError) -> UsageError:
    if directory.is_file():
        return UsageError(f"{directory}: is a file; --output needs the name of a folder")
    return UsageError(f"{directory}: cannot be written to ({error.strerror})")


def all_figures(evaluation: Evaluation, comparison: Mapping[str, Any] | None) -> dict[str, Any]:
    """What ``metrics.json`` holds: the run's figures, and the comparison where there is one."""
    return evaluation.metrics | ({"comparison": comparison} if comparison is not None else {})


def summary_rows(
    evaluation: Evaluation, comparison: Mapping[str, Any] | None = None
) -> list[tuple[str, str]]:
    """(name, value) of the figures that a person wants to see first."""
    figures = evaluation.metrics
    rows = [("questions", str(figures["n"]))]
    if absent := figures.get("n_relevant_not_in_index"):
        rows.append(("relevant, not in the index", f"{absent} of {figures['n_relevant']}"))
    for name, (low, high) in figures["confidence_intervals"].items():
        rows.append(
            (name, "{}  [{}, {}]".format(*(show(name, v) for v in (figures[name], low, high))))
        )
    for name in ("mrr@10", "recall@10", "recall@100", "hit@100"):
        if name in figures:
            rows.append((name, show(name, figures[name])))
    for name, value in figures.get("answer_recall", {}).items():
        rows.append((name, show(name, value)))
    for stage, lost in figures.get("lost", {}).items():
        rows.append((f"lost: {stage}", f"{lost['n']} ({lost['exact_match']:.2f} EM)"))
    if figures.get("no_answer") and figures["no_answer"]["auroc"] is not None:
        rows.append(("no-answer AUROC", f"{figures['no_answer']['auroc']:.3f}"))
    if "calibration" in figures:
        error = figures["calibration"]["expected_calibration_error"]
        rows.append(("calibration error", f"{error:.3f}"))
    times = figures["latency"]
    rows.append(("p50 / p95 seconds", f"{times['p50_seconds']:.3f} / {times['p95_seconds']:.3f}"))
    rows.append(("questions a second", f"{figures['questions_per_second']:.2f}"))
    return rows + _comparison_rows(evaluation, comparison)


def _comparison_rows(
    evaluation: Evaluation, comparison: Mapping[str, Any] | None
) -> list[tuple[str, str]]:
    if comparison is None:
        return []
    rows = []
    for name in evaluation.metrics["confidence_intervals"]:
        c = comparison[name]
        values = (show(name, c[key], sign="+") for key in ("difference", "low", "high"))
        text = "{}  [{}, {}]".format(*values) + f"  p = {c['p_value']:.4f}"
        rows.append((f"{name} against earlier", text))
    test = comparison["mcnemar"]
    text = f"{test['only_ours']} : {test['only_earlier']}  p = {test['p_value']:.4f}"
    return [*rows, ("McNemar", text)]


def _json(value: Any, *, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


def _write(path: Path, lines: Iterable[str]) -> None:
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
    part.replace(path)
