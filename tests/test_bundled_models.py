"""The bundled models give what the trained ones gave in torch (tests/golden/models.json)."""

import json
from pathlib import Path

import numpy as np
import pytest

from odqa.build import create_encoder, create_reranker
from odqa.config import DenseConfig, ReaderConfig, RerankConfig
from odqa.corpus.datasets import read_examples
from odqa.models.devices import has_byte_products
from odqa.models.e5 import E5Encoder
from odqa.models.weights import WEIGHTS
from odqa.reading.extractive import BUNDLED, OnnxSpanModel
from odqa.reading.windows import WindowLimits, make_windows
from odqa.retrieval.rerank import EncoderReranker

GOLDEN = json.loads((Path(__file__).parent / "golden" / "models.json").read_text(encoding="utf-8"))
MEGABYTE = 1_000_000


# The logits may be off by at most / on average this share of their standard deviation: by storing
# the weights in fp16, and by computing in 8 bits on top of it.
@pytest.mark.parametrize(
    ("precision", "most", "mean"), [("fp32", 0.025, 0.0025), ("int8", 0.5, 0.03)]
)
def test_reader_equals_the_trained_one(precision: str, most: float, mean: float) -> None:
    if precision == "int8" and not has_byte_products():
        pytest.skip("this processor has no instructions for int8")
    model = OnnxSpanModel(WEIGHTS / BUNDLED, precision)
    examples = {e.question_id: e for e in read_examples("sample", "train")}
    limits = WindowLimits(ReaderConfig().max_length, ReaderConfig().stride)
    for golden in GOLDEN["reader"]:
        example = examples[golden["question_id"]]
        assert example.passage is not None
        passage = example.passage
        pieces = model.encode([example.question, passage.title, passage.text])
        window = make_windows(*pieces, model.layout, limits)[0]
        assert window.ids.tolist() == golden["ids"]
        (logits,) = model.logits([window])
        trained = np.stack([golden["start_logits"], golden["end_logits"]], axis=1)
        spread = trained.std()
        assert np.abs(logits - trained).max() < most * spread
        assert np.abs(logits - trained).mean() < mean * spread
        best = logits.argmax(axis=0)  # two tokens may be equally good
        assert (trained.max(axis=0) - trained[best, [0, 1]] < mean * spread).all()


def test_encoder_equals_the_base_model() -> None:
    encoder = E5Encoder.load()
    for golden in GOLDEN["encoder"]:
        kind, _, text = golden["text"].partition(": ")
        assert kind in ("query", "passage")
        if kind == "query":
            (vector,) = encoder.encode_questions([text])
            assert vector == pytest.approx(golden["vector"], abs=2e-5)


def test_encoder_in_bytes_is_near_the_base_model() -> None:
    if not has_byte_products():
        pytest.skip("this processor has no instructions for int8")
    encoder = E5Encoder.load(precision="auto")
    assert encoder.fingerprint == E5Encoder.load().fingerprint + ";int8"
    for golden in GOLDEN["encoder"]:
        kind, _, text = golden["text"].partition(": ")
        if kind == "query":
            (vector,) = encoder.encode_questions([text])
            assert 0.998 < vector @ np.array(golden["vector"]) < 0.99999  # measured: .9987


def test_only_the_second_stage_encodes_in_bytes() -> None:
    name = "e5-small-ko"
    exact = E5Encoder.load().fingerprint
    assert create_encoder(DenseConfig(encoder=name)).fingerprint == exact
    for precision, rounded in (("fp32", ""), ("auto", ";int8" if has_byte_products() else "")):
        dense = DenseConfig(precision=precision)
        reranker = create_reranker(RerankConfig(encoder=name), dense)
        assert isinstance(reranker, EncoderReranker)
        assert reranker.fingerprint == exact + rounded


def test_bundled_files_are_small() -> None:
    size = sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file())
    assert size <= 90 * MEGABYTE
