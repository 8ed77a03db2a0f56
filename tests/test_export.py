"""Exported models give what torch gives, for the weights as they are stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance import check_encoder, make_passage
from tiny_models import HIDDEN, vocabulary, weights_of, write_bert

from odqa.errors import ConfigError, OdqaError
from odqa.models import devices
from odqa.models.devices import has_byte_products, pick_exported_precision
from odqa.models.e5 import E5Encoder
from odqa.models.onnx import (
    TOKENIZER,
    WEIGHTS_FILE,
    OnnxTransformer,
    exported_file,
    int8_tensors,
    load_tensors,
    n_threads,
)
from odqa.models.weights import read_tensors
from odqa.reading.checkpoint import load_reader_tokenizer
from odqa.retrieval.transformers_encoder import E5, Prescription, write_prescription

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("onnx")

from odqa.training.export import export  # noqa: E402

needs_byte_products = pytest.mark.skipif(
    not has_byte_products(), reason="this processor has no instructions for int8"
)
TEXTS = ["세종대왕은 훈민정음을 만들었다.", "(1392년) 조선이 섰다."]
N_PIECES = len(vocabulary(TEXTS))
IDS = [
    np.array([0, *np.random.default_rng(n).integers(4, N_PIECES, n), 2], dtype=np.int32)
    for n in (5, 300, 1, 37)
]


def run_torch(model: Any, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        output = model(input_ids=torch.from_numpy(ids[None, :]).long())
    if hasattr(output, "start_logits"):
        return torch.stack([output.start_logits, output.end_logits], dim=-1)[0].numpy()
    return output.last_hidden_state[0].numpy()


def on_grid(model: Any, exported: Path) -> Any:
    """The model with the tensors of its export put in: those that 8 bits keep exactly."""
    tensors = {name: torch.from_numpy(values) for name, values in load_tensors(exported).items()}
    body = getattr(model, "bert", model)
    own = {n: v for n, v in tensors.items() if not n.startswith("qa_outputs")}
    rest = body.load_state_dict(own, strict=False)
    assert not rest.unexpected_keys
    assert all("pooler" in name or "position_ids" in name for name in rest.missing_keys)
    if hasattr(model, "qa_outputs"):
        model.qa_outputs.weight.data = tensors["qa_outputs.weight"]
        model.qa_outputs.bias.data = tensors["qa_outputs.bias"]
    return model


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Any]]:
    def make(name: str, **options: Any) -> tuple[Path, Any]:
        folder = tmp_path_factory.mktemp(name)
        return folder, write_bert(folder, TEXTS, **options)

    return make


@pytest.mark.parametrize("reader", [False, True])
def test_an_export_gives_what_torch_gives(make: Any, tmp_path: Path, reader: bool) -> None:
    folder, model = make("model", reader=reader)
    export(folder, tmp_path / "out")
    found = OnnxTransformer(tmp_path / "out").run(IDS)
    assert [f.shape for f in found] == [(len(ids), 2 if reader else HIDDEN) for ids in IDS]
    original = [run_torch(model, ids) for ids in IDS]
    stored = on_grid(model, tmp_path / "out")
    for ids, values, before in zip(IDS, found, original, strict=True):
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, run_torch(stored, ids), atol=1e-4)
        # measured: 0.12 at most, 0.044 on average; the values deviate by 1.0 (states), 0.7 (logits)
        np.testing.assert_allclose(values, before, atol=0.25)
        assert np.abs(values - before).mean() < 0.08


def test_a_batch_is_exactly_as_one_by_one(make: Any, tmp_path: Path) -> None:
    folder, _ = make("model", reader=True)
    export(folder, tmp_path / "out")
    model = OnnxTransformer(tmp_path / "out")
    for ids, values in zip(IDS, model.run(IDS), strict=True):
        np.testing.assert_array_equal(values, model.run([ids])[0])
    assert model.run([]) == []


@needs_byte_products
def test_int8_is_near_and_the_same_in_a_batch(make: Any, tmp_path: Path) -> None:
    folder, _ = make("model", reader=True)
    export(folder, tmp_path / "out")
    exact = OnnxTransformer(tmp_path / "out").run(IDS)
    model = OnnxTransformer(tmp_path / "out", "int8")
    for ids, values, wanted in zip(IDS, model.run(IDS), exact, strict=True):
        np.testing.assert_array_equal(values, model.run([ids])[0])
        # measured: 0.05 at most; the logits deviate by 0.7
        np.testing.assert_allclose(values, wanted, atol=0.15)
        assert np.abs(values - wanted).max() > 1e-4  # it is not the other graph


def test_int8_tensors_by_hand() -> None:
    values = np.array([[254, 0, 1], [-127, 0, -4]], np.float32)
    kept = {"l0.inner.bias": np.ones(3, np.float32), "words": np.ones((2, 2), np.float32)}
    found = int8_tensors({"l0.inner.weight": values, **kept})
    assert found.keys() == {"l0.inner.weight.codes", "l0.inner.weight.scales", *kept}
    assert found["l0.inner.weight.scales"].tolist() == pytest.approx([2, 1, 4 / 127])
    codes = found["l0.inner.weight.codes"]
    assert (codes.dtype, codes.tolist()) == (np.int8, [[127, 0, 32], [-64, 0, -127]])


def test_int8_tensors_take_query_key_and_value_apart() -> None:
    joined = np.array([[1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 0, -12]], np.float32)
    found = int8_tensors({"l0.qkv.weight": joined})
    for part, columns in ((".query", [0, 1]), (".key", [2, 3]), (".value", [4, 5])):
        codes = found[f"l0.qkv.weight{part}.codes"]
        values = codes * found[f"l0.qkv.weight{part}.scales"]
        assert codes.flags.c_contiguous
        np.testing.assert_allclose(values, joined[:, columns], atol=12 / 127 / 2)
    assert len(found) == 6


def test_a_processor_is_asked_for_byte_products(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("model name\t: x\nflags\t\t: fpu avx2 avx512_vnni sse\n\n", encoding="utf-8")
    assert has_byte_products(info)
    info.write_text("model name\t: avx_vnni\nflags\t\t: fpu avx2\n", encoding="utf-8")
    assert not has_byte_products(info)
    assert not has_byte_products(tmp_path / "absent")
    for has in (True, False):
        monkeypatch.setattr(devices, "has_byte_products", lambda has=has: has)
        assert pick_exported_precision("auto", has_int8=True) == ("int8" if has else "fp32")
        assert pick_exported_precision("auto", has_int8=False) == "fp32"
        assert pick_exported_precision("fp32", has_int8=True) == "fp32"
    with pytest.raises(ConfigError, match="no instructions for int8"):
        pick_exported_precision("int8", has_int8=True)
    with pytest.raises(ConfigError, match="exported without int8"):
        pick_exported_precision("int8", has_int8=False)
    with pytest.raises(ConfigError, match="no 'bf16'; it has auto, fp32, int8"):
        pick_exported_precision("bf16", has_int8=True)


def test_the_files_of_an_export(make: Any, tmp_path: Path) -> None:
    folder, _ = make("model", reader=False)
    export(folder, tmp_path / "a")
    export(folder, tmp_path / "b")
    graphs = {"model.onnx", "model.int8.onnx"}
    assert {p.name for p in (tmp_path / "a").iterdir()} == {*graphs, WEIGHTS_FILE, TOKENIZER}
    for graph in graphs:
        assert (tmp_path / "a" / graph).read_bytes() == (tmp_path / "b" / graph).read_bytes()
        assert (tmp_path / "a" / graph).stat().st_size < 12_000  # no matrix in it
    stored, _ = read_tensors(tmp_path / "a" / WEIGHTS_FILE)
    original = weights_of(folder)
    assert stored.keys() == {n for n in original if not n.startswith("pooler.")}
    for name in ("embeddings.position_embeddings.weight", "embeddings.LayerNorm.weight"):
        np.testing.assert_array_equal(stored[name], original[name])


@pytest.fixture
def pair(make: Any, tmp_path: Path) -> tuple[Path, Path, Any]:
    """An exported encoder of four layers and a reader of its two lowest, the second one changed.

    The encoder's weights are first put on the grid of their export, as the base model's are.
    """
    folder, model = make("encoder", reader=False, layers=4)
    export(folder, tmp_path / "encoder")
    on_grid(model, tmp_path / "encoder").save_pretrained(folder)
    export(folder, tmp_path / "encoder")
    reader_folder, reader = make("reader", reader=True, seed=9)
    with torch.no_grad():
        reader.bert.embeddings.load_state_dict(model.embeddings.state_dict())
        reader.bert.encoder.layer[0].load_state_dict(model.encoder.layer[0].state_dict())
    reader.save_pretrained(reader_folder)
    load_reader_tokenizer(str(reader_folder), morphemes=True, titles=True).save(reader_folder)
    return reader_folder, tmp_path / "encoder", reader


def test_a_reader_of_fewer_layers_shares_tensors(pair: Any, tmp_path: Path) -> None:
    folder, encoder, model = pair
    export(folder, tmp_path / "reader", shared=encoder)
    export(folder, tmp_path / "alone")
    stored, metadata = read_tensors(tmp_path / "reader" / WEIGHTS_FILE)
    assert metadata == {"shared": "encoder"}
    assert not [n for n in stored if n.startswith(("embeddings.", "encoder.layer.0."))]
    assert [n for n in stored if n.startswith("encoder.layer.1.")]
    assert {"qa_outputs.weight", "qa_outputs.bias"} <= stored.keys()
    assert not (tmp_path / "reader" / TOKENIZER).exists()
    assert exported_file(tmp_path / "reader", TOKENIZER) == tmp_path / "encoder" / TOKENIZER
    assert exported_file(tmp_path / "alone", TOKENIZER) == tmp_path / "alone" / TOKENIZER
    assert "encoder.layer.3.output.dense.weight" in load_tensors(tmp_path / "reader")
    found = OnnxTransformer(tmp_path / "reader").run(IDS)
    for values, other in zip(found, OnnxTransformer(tmp_path / "alone").run(IDS), strict=True):
        np.testing.assert_array_equal(values, other)
    stored_model = on_grid(model, tmp_path / "alone")
    for ids, values in zip(IDS, found, strict=True):
        np.testing.assert_allclose(values, run_torch(stored_model, ids), atol=1e-4)


def test_a_reader_that_shares_with_a_reader_keeps_its_settings(pair: Any, tmp_path: Path) -> None:
    folder, _, _ = pair
    export(folder, tmp_path / "first")
    export(folder, tmp_path / "second", shared=tmp_path / "first")
    assert (tmp_path / "second" / "odqa.json").is_file()
    assert not (tmp_path / "second" / TOKENIZER).exists()


def test_another_epsilon_is_kept(make: Any, tmp_path: Path) -> None:
    folder, model = make("model", reader=False)
    model.config.layer_norm_eps = 0.05
    model.save_pretrained(folder)
    model = transformers.BertModel.from_pretrained(folder).eval()
    export(folder, tmp_path / "out")
    found = OnnxTransformer(tmp_path / "out").run(IDS[:1])[0]
    stored = on_grid(model, tmp_path / "out")
    np.testing.assert_allclose(found, run_torch(stored, IDS[0]), atol=1e-4)


def test_what_cannot_be_exported_or_run_is_said(make: Any, tmp_path: Path) -> None:
    folder, _ = make("model", reader=False)
    export(folder, tmp_path / "out")
    config = json.loads((folder / "config.json").read_text())
    for change in ({"model_type": "electra"}, {"hidden_act": "relu"}):
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(OdqaError, match="only BERT"):
            export(folder, tmp_path / "other")
    (folder / "config.json").write_text(json.dumps(config))
    write_prescription(folder, Prescription("cls"), dim=64)
    with pytest.raises(OdqaError, match="e5's pooling and prefixes"):
        export(folder, tmp_path / "other")
    write_prescription(folder, E5, dim=64)
    export(folder, tmp_path / "other")
    (folder / "odqa.json").write_text(json.dumps({"layout": {"token_types": True}}))
    with pytest.raises(OdqaError, match="token types"):
        export(folder, tmp_path / "other")
    (tmp_path / "out/model.onnx").write_bytes(b"no graph")
    with pytest.raises(OdqaError, match="cannot be run"):
        OnnxTransformer(tmp_path / "out")
    (tmp_path / "out" / WEIGHTS_FILE).write_bytes(b"no tensors")
    with pytest.raises(OdqaError, match="cannot be read"):
        OnnxTransformer(tmp_path / "out")


def test_threads_are_those_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert n_threads() == 1
    for said in ("", "0", "many", "100000"):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        assert n_threads() >= 1


def test_the_bundled_encoder() -> None:
    encoder = E5Encoder.load()
    questions = ["훈민정음을 만든 임금은?", "화산이란 무엇인가?", "서울을 흐르는 강의 이름은 " * 3]
    passages = [
        make_passage("1#0", "세종대왕은 백성을 위해 글자를 창제했다.", "훈민정음"),
        make_passage("2#0", "화산은 마그마가 땅 위로 솟아 나와 이루어진 산이다.", "화산"),
        make_passage("3#0", "한강은 서울을 지난다. " * 100, "한강"),  # longer than it reads
    ]
    check_encoder(encoder, questions, passages, tolerance=0)
    scores = encoder.encode_questions(questions) @ encoder.encode_passages(passages).T
    assert scores.argmax(axis=1).tolist() == [0, 1, 2]
    assert not encoder.encode_questions(["", " \n"]).any()
