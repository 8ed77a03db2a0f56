"""The reader over exported and Hugging Face models, tiny ones and the bundled one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance import assert_reading, check_reader, make_passage
from tiny_models import sample_examples, write_bert, write_wordpiece_model

from odqa.config import ReaderConfig
from odqa.corpus.datasets import read_examples
from odqa.errors import ConfigError, OdqaError
from odqa.reading.checkpoint import load_reader_tokenizer
from odqa.reading.extractive import ExtractiveReader
from odqa.types import Candidate

SMALL = ReaderConfig(
    max_length=64, stride=8, max_question_length=16, device="cpu", precision="fp32", n_best=4
)
LONG = "세종대왕은 1443년에 훈민정음을 만들었다. 조선의 네 번째 임금이다. " * 12
PASSAGES = [
    make_passage("1#0", "세종대왕은 훈민정음을 만들었다(1443년).", "훈민정음"),
    make_passage("1#1", LONG, "훈민정음"),
    make_passage("2#0", "한강은 서울을 흐른다.", "한강"),
    make_passage("3#0", "이순신은 거북선을 만들었다.", ""),
]
QUESTIONS = ["훈민정음은 누가 만들었나?", "서울을 흐르는 강은?", "거북선 " * 20]
TEXTS = [*QUESTIONS, *(p.title + p.text for p in PASSAGES)]


def candidates(*rows: int) -> list[Candidate]:
    return [Candidate(PASSAGES[row], 1.0, rank, "given") for rank, row in enumerate(rows)]


GIVEN = [candidates(0, 1, 2), candidates(2), candidates(3, 0)]


class BrokenModel:
    """A span model whose numbers overflowed."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def logits(self, windows: Sequence[Any]) -> list[Any]:
        return [values * np.nan for values in self._model.logits(windows)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    pytest.importorskip("onnx")
    from odqa.training.export import export

    folder = tmp_path_factory.mktemp("exported")
    write_bert(folder / "model", TEXTS, reader=True)
    tokenizer = load_reader_tokenizer(str(folder / "model"), morphemes=True, titles=True)
    tokenizer.save(folder / "model")
    export(folder / "model", folder / "reader")
    return folder


@pytest.fixture(scope="module")
def models(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("readers")
    write_wordpiece_model(folder / "bert", TEXTS, roberta=False)
    write_wordpiece_model(folder / "roberta", TEXTS, roberta=True)
    return {
        "exported": exported / "reader",
        "torch": exported / "model",
        "bert": folder / "bert",
        "roberta": folder / "roberta",
    }


KINDS = ["exported", "torch", "bert", "roberta"]


def load(folder: Path, **changes: Any) -> ExtractiveReader:
    return ExtractiveReader.load(replace(SMALL, model=str(folder), **changes))


@pytest.mark.parametrize("kind", KINDS)
def test_extractive_reader_conforms(models: dict[str, Path], kind: str) -> None:
    reader = load(models[kind], batch_tokens=150)
    tolerance = 0.0 if kind == "exported" else 1e-4
    check_reader(reader, QUESTIONS, GIVEN, k=6, tolerance=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_readings_are_spans_of_their_passages(models: dict[str, Path], kind: str) -> None:
    reader = load(models[kind])
    for given, readings in zip(GIVEN, reader.read(QUESTIONS, GIVEN, k=100), strict=True):
        assert len(readings) <= SMALL.n_best * len(given)
        for reading in readings:
            assert_reading(reading, given)
            assert reading.start is not None
            assert reading.text == reading.text.strip()
            assert len(reading.text) <= SMALL.max_answer_chars
        seen = {(r.candidate.passage.passage_id, r.start, r.end) for r in readings}
        assert len(seen) == len(readings)


@pytest.mark.parametrize("kind", KINDS)
def test_all_windows_of_a_long_passage_are_read(models: dict[str, Path], kind: str) -> None:
    reader = load(models[kind], n_best=1000, max_answer_chars=1)
    (windows,) = [reader._windows(QUESTIONS[:1], [candidates(1)])]
    assert len(windows) > 3
    readings = reader.read(QUESTIONS[:1], [candidates(1)], k=1000)[0]
    assert min(r.start or 0 for r in readings) == 0
    assert max(r.end or 0 for r in readings) == len(LONG.rstrip())


def test_torch_reads_as_the_export_but_for_rounding(models: dict[str, Path]) -> None:
    settings = {"n_best": 1000, "max_answer_chars": 4, "length_penalty": 0.0}
    scores = []
    for kind in ("exported", "torch"):
        found = load(models[kind], **settings).read(QUESTIONS[:1], [candidates(0)], k=1000)[0]
        scores.append({(r.start, r.end): r.score for r in found})
    assert scores[0].keys() == scores[1].keys()
    pairs = np.array([[scores[0][span], scores[1][span]] for span in scores[0]])
    assert np.abs(pairs[:, 0] - pairs[:, 1]).max() < 0.3  # 8 bits a weight
    assert np.corrcoef(pairs.T)[0, 1] > 0.99


@pytest.mark.parametrize(("kind", "types"), [("bert", True), ("roberta", False), ("torch", False)])
def test_token_types_are_given_to_models_that_have_them(
    models: dict[str, Path], kind: str, types: bool
) -> None:
    import torch

    reader = load(models[kind])
    model: Any = reader._model
    windows = [window for *_, window in reader._windows(QUESTIONS, GIVEN)]
    tensors = model._tokenizer.tensors(windows[:2], torch.device("cpu"))
    assert model.layout.token_types == types
    assert ("token_type_ids" in tensors) == types
    if types:
        pair = model._tokenizer.backend(QUESTIONS[0], PASSAGES[0].text)
        assert windows[0].ids.tolist() == pair["input_ids"]
        n = len(pair["input_ids"])
        assert tensors["token_type_ids"][0, :n].tolist() == pair["token_type_ids"]
    assert tensors["attention_mask"].sum(dim=1).tolist() == [len(w.ids) for w in windows[:2]]


def test_plain_space_marked_pieces_give_no_spaces(models: dict[str, Path]) -> None:
    tokenizer = load_reader_tokenizer(str(models["torch"]), morphemes=False)
    text = "한강은  서울을 흐른다."
    found = tokenizer.encode([text])[0]
    for start, end in zip(found.starts, found.ends, strict=True):
        assert text[start:end] == text[start:end].strip()


def test_nothing_to_read_gives_nothing(models: dict[str, Path]) -> None:
    reader = load(models["exported"])
    assert reader.read(["", " "], [[], []], k=3) == [[], []]
    empty = Candidate(make_passage("9#0", "  "), 0.0, 0, "given")
    assert reader.read([QUESTIONS[0]], [[empty]], k=3) == [[]]
    assert len(reader.read([""], [candidates(0)], k=3)[0]) == 3


def test_equal_scores_go_by_passage_id_then_offset(models: dict[str, Path]) -> None:
    reader = load(models["exported"])
    twins = [
        Candidate(replace(PASSAGES[0], passage_id=name), 0.0, rank, "given")
        for rank, name in enumerate(["7#1", "7#0"])
    ]
    found = reader.read(QUESTIONS[:1], [twins], k=4)[0]
    assert [r.candidate.passage.passage_id for r in found] == ["7#0", "7#1"] * 2


@pytest.mark.parametrize(
    ("kind", "longest"), [("exported", 512), ("bert", 128), ("roberta", 128), ("torch", 512)]
)
def test_windows_longer_than_the_model_reads_are_refused(
    models: dict[str, Path], kind: str, longest: int
) -> None:
    with pytest.raises(ConfigError, match=rf"{longest + 1}.*at most {longest} tokens"):
        load(models[kind], max_length=longest + 1)
    reader = load(models[kind], max_length=longest)
    assert reader.read(QUESTIONS[:1], [candidates(1)], k=1)[0]


def test_windows_too_short_for_their_stride_are_refused(models: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="or more"):
        load(models["exported"], max_length=40, stride=20)


def test_what_is_no_reader_is_said(exported: Path, models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(OdqaError, match=r"reader\.model .*nothing"):
        load(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(OdqaError, match=r"reader\.model"):
        load(tmp_path / "empty")
    (tmp_path / "bare").mkdir()
    graph = (exported / "reader" / "model.onnx").read_bytes()
    (tmp_path / "bare" / "model.onnx").write_bytes(graph)
    with pytest.raises(OdqaError, match="not an exported reader"):
        load(tmp_path / "bare")
    with pytest.raises(OdqaError, match="marks no spaces"):
        load_reader_tokenizer(str(models["bert"]), morphemes=True)


def read_gold(reader: ExtractiveReader, ids: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    examples = {e.question_id: e for e in read_examples("sample", "train")}
    chosen = [examples[i] for i in ids]
    given = [[Candidate(e.passage, 1.0, 0, "given")] for e in chosen if e.passage is not None]
    found = reader.read([e.question for e in chosen], given, k=1)
    return [(r[0].text, e.answers) for r, e in zip(found, chosen, strict=True)]


def test_the_bundled_reader_answers_from_the_passage() -> None:
    reader = ExtractiveReader.load(ReaderConfig())
    for answer, gold in read_gold(reader, ["q1002", "q1003", "q1001"]):
        assert answer in gold


def test_the_bundled_reader_is_the_same_in_batches() -> None:
    reader = ExtractiveReader.load(ReaderConfig())
    examples = sample_examples(3)
    given = [[Candidate(e.passage, 1.0, 0, "given")] for e in examples if e.passage is not None]
    check_reader(reader, [e.question for e in examples], given, k=3, tolerance=0.0)


def test_scores_that_are_no_numbers_are_an_error(exported: Path) -> None:
    config = replace(SMALL, model=str(exported / "reader"))
    reader = ExtractiveReader.load(config)
    broken = ExtractiveReader(BrokenModel(reader._model), config)
    with pytest.raises(OdqaError, match="passage '1#0' are not finite"):
        broken.read(QUESTIONS[:1], GIVEN[:1], k=3)
    for name in ("n_best", "max_answer_chars", "max_question_length"):
        with pytest.raises(ConfigError, match=f"reader.{name} must be at least 1"):
            ExtractiveReader(reader._model, replace(config, **{name: 0}))
