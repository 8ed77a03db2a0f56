"""report.html: one page that needs no network, with pictures, in light and dark."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from odqa.evaluation import scoring
from odqa.evaluation.charts import Axis, Series, bar_chart, line_chart
from odqa.evaluation.losses import STAGES
from odqa.evaluation.run import Evaluation
from odqa.evaluation.scoring import format_value as show

_Column = tuple[str, Mapping[str, Any]]  # its title, and the value of each row

_SHOWN_QUESTIONS = 300
_TENTHS = (0, 0.2, 0.4, 0.6, 0.8, 1)


def render_report(evaluation: Evaluation, comparison: Mapping[str, Any] | None = None) -> str:
    """The whole page."""
    figures = evaluation.metrics
    cards = [
        _losses(figures),
        _recall(figures),
        _reliability(figures),
        _risk(figures),
        _ranking(figures),
    ]
    title = f"odqa evaluation: {evaluation.task}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_style()}</style></head><body><main>"
        f"<h1>{escape(title)}</h1><p class='soft'>{_subtitle(figures)}</p>"
        f"<div class='tiles'>{''.join(_tiles(figures))}</div>"
        f"<div class='cards'>{''.join(cards)}</div>"
        f"{_comparison(evaluation, comparison)}{_table(figures)}{_questions(evaluation)}"
        "</main></body></html>"
    )


def _style() -> str:
    return (importlib.resources.files("odqa.evaluation") / "report.css").read_text("utf-8")


def _subtitle(figures: Mapping[str, Any]) -> str:
    parts = [f"{figures['n']} questions"]
    if figures.get("n_unanswerable"):
        parts.append(f"{figures['n_unanswerable']} of them without an answer")
    if "level" in figures:
        parts.append(f"by {figures['level']}, {figures['depth']} passages a question")
    if absent := figures.get("n_relevant_not_in_index"):
        parts.append(f"{absent} of {figures['n_relevant']} judged relevant are not in the index")
    parts.append(f"odqa {figures['odqa_version']}")
    return escape(" · ".join(parts))


def _tiles(figures: Mapping[str, Any]) -> Iterable[str]:
    for name, (low, high) in figures["confidence_intervals"].items():
        yield _tile(
            _label(name),
            show(name, figures[name]),
            f"95 %: {show(name, low)} to {show(name, high)}",
        )
    if figures.get("answer_recall"):
        name, value = list(figures["answer_recall"].items())[-1]
        yield _tile(_label(name), show(name, value), "an answer stands in what was read")
    if figures.get("no_answer") and figures["no_answer"]["auroc"] is not None:
        auroc = figures["no_answer"]["auroc"]
        yield _tile("no-answer AUROC", f"{auroc:.3f}", f"{figures['no_answer']['n']} questions")
    times = figures["latency"]
    note = f"p95 {_seconds(times['p95_seconds'])}; {figures['questions_per_second']:.1f} a second"
    yield _tile("p50 a question", _seconds(times["p50_seconds"]), note)


def _tile(name: str, value: str, note: str) -> str:
    return (
        f"<div class='tile'>{escape(name)}<b>{escape(value)}</b><small>{escape(note)}</small></div>"
    )


def _card(title: str, note: str, body: str) -> str:
    return (
        f"<section class='card'><h2>{escape(title)}</h2>{body}"
        f"<p><small>{escape(note)}</small></p></section>"
    )


def _losses(figures: Mapping[str, Any]) -> str:
    lost = figures.get("lost")
    if not lost:
        return ""
    bars = [
        (stage, entry["exact_match"], f"{entry['exact_match']:.1f} EM ({entry['n']})")
        for stage, entry in lost.items()
    ]
    meanings = "".join(
        f"<br><small><b>{stage}</b>: {escape(STAGES[stage])}</small>" for stage in lost
    )
    body = bar_chart("EM lost a stage", bars) + meanings
    return _card("Where answers are lost", "With EM, the points add up to 100.", body)


def _recall(figures: Mapping[str, Any]) -> str:
    series = [
        Series(name, _by_cut(figures[key]))
        for name, key in (
            ("first stage", "first_stage_answer_recall"),
            ("as read", "answer_recall"),
        )
        if figures.get(key)
    ]
    if not series:
        return ""
    chart = line_chart("answer recall", series, _cut_axis(), Axis("answer recall", _TENTHS))
    return _card("Does a passage hold the answer?", "answer recall@k of the candidates", chart)


def _reliability(figures: Mapping[str, Any]) -> str:
    found = figures.get("calibration")
    if not found:
        return ""
    points = [(b["mean_probability"], b["accuracy"]) for b in found["bins"]]
    chart = line_chart(
        "reliability",
        [Series("answers", points)],
        Axis("probability of the best answer", _TENTHS),
        Axis("share right", _TENTHS),
        diagonal=True,
    )
    note = (
        f"expected calibration error {found['expected_calibration_error']:.3f}, "
        f"Brier score {found['brier']:.3f}; on the dashed line the probability is true"
    )
    return _card("Is the probability true?", note, chart)


def _risk(figures: Mapping[str, Any]) -> str:
    found = figures.get("risk_coverage")
    if not found:
        return ""
    chart = line_chart(
        "risk and coverage",
        [Series("risk", [(c, r) for c, r in found["points"]], dots=False)],
        Axis("share of questions answered, the surest first", _TENTHS),
        Axis("share wrong among them", _TENTHS),
    )
    return _card("Risk and coverage", f"area under the curve {found['area']:.3f}", chart)


def _ranking(figures: Mapping[str, Any]) -> str:
    if figures["task"] != "retrieval":
        return ""
    series = [
        Series(
            name, [(k, figures[f"{name}@{k}"]) for k in scoring.CUTS if f"{name}@{k}" in figures]
        )
        for name in ("hit", "recall", "ndcg")
    ]
    chart = line_chart("ranking metrics", series, _cut_axis(), Axis("score", _TENTHS))
    return _card("How deep is what is relevant?", "hit@k, recall@k and nDCG@k", chart)


def _cut_axis() -> Axis:
    return Axis("k", scoring.CUTS, low=1, high=scoring.CUTS[-1], log=True)


def _by_cut(values: Mapping[str, float]) -> list[tuple[float, float]]:
    return [(float(name.rpartition("@")[2]), value) for name, value in values.items()]


def _comparison(evaluation: Evaluation, comparison: Mapping[str, Any] | None) -> str:
    if comparison is None:
        return ""
    rows = "".join(
        _compared(name, comparison[name]) for name in evaluation.metrics["confidence_intervals"]
    )
    test = comparison["mcnemar"]
    note = (
        f"McNemar on {_label(test['metric'])}: {test['only_ours']} questions only this run has "
        f"right, {test['only_earlier']} only the earlier one; p = {test['p_value']:.4f}. Earlier: "
        f"{comparison['earlier']}"
    )
    titles = ("earlier", "now", "difference", "95 %", "p")
    head = "<tr><th></th>" + "".join(f"<th class=n>{title}</th>" for title in titles) + "</tr>"
    return _card("Against the earlier run", note, f"<table>{head}{rows}</table>")


def _compared(name: str, found: Mapping[str, float]) -> str:
    bounds = (show(name, found[key], sign="+") for key in ("low", "high"))
    cells = (
        show(name, found["earlier"]),
        show(name, found["ours"]),
        show(name, found["difference"], sign="+"),
        " to ".join(bounds),
        f"{found['p_value']:.4f}",
    )
    numbers = "".join(f"<td class=n>{cell}</td>" for cell in cells)
    return f"<tr><td>{escape(_label(name))}</td>{numbers}</tr>"


def _table(figures: Mapping[str, Any]) -> str:
    if figures["task"] == "retrieval":
        rows, columns = _ranking_columns(figures)
    else:
        rows, columns = _answer_columns(figures)
    head = "".join(f"<th class=n>{escape(title)}</th>" for title, _ in columns)
    lines = "".join(
        f"<tr><td>{escape(_label(name))}</td>"
        + "".join(f"<td class=n>{show(name, values[name])}</td>" for _, values in columns)
        + "</tr>"
        for name in rows
    )
    return (
        "<section class='card scroll' style='margin-top:14px'><h2>Every metric</h2>"
        f"<table><tr><th></th>{head}</tr>{lines}</table></section>"
    )


def _answer_columns(figures: Mapping[str, Any]) -> tuple[list[str], list[_Column]]:
    columns: list[_Column] = [("all", figures)]
    columns += [(key, figures[key]) for key in ("answerable", "unanswerable") if key in figures]
    columns += [(f"type {key}", v) for key, v in figures.get("by_question_type", {}).items()]
    return [name for name in scoring.ANSWER_METRICS if name in figures], columns


def _ranking_columns(figures: Mapping[str, Any]) -> tuple[list[str], list[_Column]]:
    found = [name.partition("@") for name in figures if "@" in name]
    rows = list(dict.fromkeys(name for name, _, _ in found))
    cuts = sorted({int(k) for _, _, k in found})
    columns: list[_Column] = [
        (f"@{k}", {name: figures[f"{name}@{k}"] for name in rows})
        for k in cuts
        if all(f"{name}@{k}" in figures for name in rows)
    ]
    return rows, columns


def _questions(evaluation: Evaluation) -> str:
    wrong = [record for record in evaluation.records if record["stage"]]
    shown = wrong[:_SHOWN_QUESTIONS]
    rest = f", the first {len(shown)} of {len(wrong)}" if len(shown) < len(wrong) else ""
    items = "".join(_question(record) for record in shown)
    return (
        f"<section class='card' style='margin-top:14px'><h2>What went wrong{rest}</h2>"
        f"{items or '<p>Nothing.</p>'}</section>"
    )


def _question(record: Mapping[str, Any]) -> str:
    given = record.get("prediction", "")
    answer = f" → <b lang=ko>{escape(given) or '–'}</b>" if "prediction" in record else ""
    gold = " / ".join(record.get("relevant") or record["answers"]) or "no answer"
    body = "".join(_predicted(item) for item in record.get("predicted", [])[:3])
    return (
        f"<details><summary><span class=tag>{escape(record['stage'])}</span> "
        f"<span lang=ko>{escape(record['question'])}</span>{answer} "
        f"<small>gold: <span lang=ko>{escape(gold)}</span> · "
        f"{escape(record['id'])}</small></summary>"
        f"{body}{_candidates(record)}</details>"
    )


def _predicted(item: Mapping[str, Any]) -> str:
    probability = item["probability"]
    sure = f"{probability:.3f}, " if probability is not None else ""
    return (
        f"<p lang=ko>…{escape(item.get('before', ''))}<mark>{escape(item['text'])}</mark>"
        f"{escape(item.get('after', ''))}… <small>{sure}reader {item['reader_score']:.2f} · "
        f"{escape(item['title'])} {escape(item['passage_id'])}</small></p>"
    )


def _candidates(record: Mapping[str, Any]) -> str:
    found: Sequence[Mapping[str, Any]] = record.get("candidates", [])
    if not found:
        return ""
    names = ", ".join(
        f"{escape(c['title'])} {escape(c['passage_id'])}{' ✓' if c['holds_answer'] else ''}"
        for c in found
    )
    legend = "candidates (✓ holds an answer)" if record["answers"] else "candidates"
    return f"<p><small lang=ko>{legend}: {names}</small></p>"


def _label(name: str) -> str:
    known = {
        "exact_match": "EM (KorQuAD)",
        "f1": "F1 (KorQuAD)",
        "xor_exact_match": "EM (XOR-TyDi, MKQA)",
        "xor_f1": "F1 (XOR-TyDi, MKQA)",
    }
    return known.get(name, name.replace("_", " ").replace("ndcg", "nDCG").replace("mrr", "MRR"))


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.0f} ms"
