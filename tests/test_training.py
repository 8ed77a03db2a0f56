"""Training on a CPU in seconds: what is written can be read, what is cut short can be continued."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from commands import ROOT, documented, korquad, set_loop
from conformance import make_passage
from tiny_models import sample_examples, texts_of, weights_of, write_bert, write_wordpiece_model

from odqa.cli.main import main
from odqa.config import ReaderConfig, set_values
from odqa.corpus import read_documents
from odqa.errors import ConfigError, OdqaError, UsageError
from odqa.evaluation.run import evaluate_reading
from odqa.models.static import StaticEncoder
from odqa.reading.checkpoint import load_reader_tokenizer
from odqa.reading.extractive import ExtractiveReader
from odqa.types import Candidate, Example

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from odqa.models.devices import pick_device, pick_precision  # noqa: E402
from odqa.training.labels import labelled_windows  # noqa: E402
from odqa.training.layers import freeze  # noqa: E402
from odqa.training.loop_config import LoopConfig  # noqa: E402
from odqa.training.pairs import judged_pairs, reading_pairs  # noqa: E402
from odqa.training.reader import (  # noqa: E402
    ReaderTask,
    load_model,
    reading_config,
    train_reader,
)
from odqa.training.reader_config import ReaderTrainingConfig  # noqa: E402
from odqa.training.record import model_card  # noqa: E402
from odqa.training.similarity import (  # noqa: E402
    SimilarityTeacherConfig,
    divergence,
)
from odqa.training.static import (  # noqa: E402
    StaticTrainingConfig,
    taught_vectors,
    train_static,
)

EXAMPLES = sample_examples(12)
LOOP = LoopConfig(
    learning_rate=2e-4,
    max_steps=6,
    batch_size=4,
    save_every=3,
    log_every=2,
    device="cpu",
    precision="fp32",
    threads=1,
)
# dropout draws from torch's generator, whose state a checkpoint must hold
SETTINGS = ReaderTrainingConfig(
    frozen_layers=1, morphemes=True, max_length=96, stride=8, max_question_length=24,
    hidden_dropout=0.1, loop=LOOP,
)  # fmt: skip
STATIC = StaticTrainingConfig(
    terms=2000, dim=32, loop=replace(LOOP, batch_size=64, max_steps=24, learning_rate=2e-2)
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_bert(folder, texts_of(EXAMPLES), reader=False)
    return folder


@pytest.fixture(scope="module")
def settings(base: Path) -> ReaderTrainingConfig:
    return replace(SETTINGS, model=str(base))


# The machine -------------------------------------------------------------------------------------


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [pick_device(name) for name in ("auto", "cuda:1")] == ["cuda", "cuda:1"]
    with pytest.raises(OdqaError, match=r"'cuda:2' is asked for, but the last of the 2 is cuda:1"):
        pick_device("cuda:2")


def test_devices_and_precisions() -> None:
    assert pick_device("cpu") == "cpu"
    assert pick_device("auto") in ("cpu", "cuda")
    assert pick_precision("auto", "cpu") in ("fp32", "bf16")
    assert pick_precision("bf16", "cpu") == "bf16"
    with pytest.raises(OdqaError, match="precision: unknown 'int3'"):
        pick_precision("int3", "cpu")
    for name in ("gpu", "cuda:", "CPU", ""):
        with pytest.raises(ConfigError, match=rf"device: unknown '{name}'; known: auto, cpu"):
            pick_device(name)
    if not torch.cuda.is_available():
        with pytest.raises(OdqaError, match="no CUDA"):
            pick_device("cuda:0")


# The reader -----------------------------------------------------------------------------------


def test_frozen_is_frozen(settings: ReaderTrainingConfig, tmp_path: Path) -> None:
    before = {n: v.clone() for n, v in load_model(settings).state_dict().items()}
    train_reader(EXAMPLES[:4], replace(settings, loop=replace(LOOP, max_steps=2)), tmp_path)
    changed = {
        name
        for name, values in weights_of(tmp_path).items()
        if not np.array_equal(before[name].numpy(), values)
    }
    assert not [n for n in changed if ".embeddings." in n or ".layer.0." in n]
    assert {n for n in before if ".layer.1." in n and "weight" in n} <= changed
    assert "qa_outputs.weight" in changed
    everything = load_model(replace(settings, frozen_layers=-1))
    freeze(everything, -1)
    assert all(p.requires_grad for p in everything.parameters())
    freeze(everything, 0)
    still = {n for n, p in everything.named_parameters() if not p.requires_grad}
    assert still == {n for n in before if ".embeddings." in n}


def test_layers_above_are_cut(settings: ReaderTrainingConfig) -> None:
    model: Any = load_model(replace(settings, layers=1))
    assert len(model.bert.encoder.layer) == 1
    with pytest.raises(ConfigError, match="layers must lie in 1 to 2"):
        load_model(replace(settings, layers=3))


@pytest.mark.parametrize("morphemes", [True, False])
def test_labels_give_the_answer_back(settings: ReaderTrainingConfig, morphemes: bool) -> None:
    config = replace(settings, negatives=0.0, empty_windows=0.0)
    tokenizer = load_reader_tokenizer(config.model, morphemes=morphemes, titles=True)
    for example in EXAMPLES:
        assert example.passage is not None
        windows = labelled_windows([example], tokenizer, config)
        wanted, text = example.answers[0], example.passage.text
        pieces = tokenizer.encode([text])[0]
        for window in windows:
            assert 0 < window.start <= window.end < len(window.ids)
            answer = window.ids[window.start : window.end + 1]
            # where those pieces stand in the passage
            rows = [
                i
                for i in range(len(pieces) - len(answer) + 1)
                if np.array_equal(pieces.ids[i : i + len(answer)], answer)
            ]
            found = {text[pieces.starts[i] : pieces.ends[i + len(answer) - 1]] for i in rows}
            assert wanted in found  # one piece is one character here, so nothing more


def question(text: str, *answers: str, starts: tuple[int, ...] = ()) -> Example:
    passage = make_passage("1#0", text, "제목")
    return Example("q", "무엇인가?", answers, passage, starts)


def test_labels_by_hand(settings: ReaderTrainingConfig) -> None:
    config = replace(settings, negatives=0.0, empty_windows=1.0, max_length=32, stride=4)
    tokenizer = load_reader_tokenizer(config.model, morphemes=True, titles=True)
    (window,) = labelled_windows([question("가 나 가", "가", starts=(4,))], tokenizer, config)
    n = len(window.ids)
    assert (window.start, window.end) == (n - 2, n - 2)  # the second 가, before </s>
    (window,) = labelled_windows([question("가 나 가", "가")], tokenizer, config)
    assert window.start == window.end == n - 4  # found, as no start is given
    (window,) = labelled_windows([question("가 나 가")], tokenizer, config)
    assert (window.start, window.end) == (0, 0)
    long = labelled_windows([question("가 " * 60 + "나", "나")], tokenizer, config)
    assert [w.start > 0 for w in long] == [False] * (len(long) - 1) + [True]
    kept = labelled_windows(
        [question("가 " * 60 + "나", "나")], tokenizer, replace(config, empty_windows=0.0)
    )
    assert len(kept) == 1


def test_what_does_not_stand_there_teaches_nothing(
    settings: ReaderTrainingConfig, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(settings, negatives=0.0, empty_windows=1.0, max_length=32, stride=4)
    tokenizer = load_reader_tokenizer(config.model, morphemes=True, titles=True)
    examples = [question("가 나 가", "다"), question("가 나 가", "다", "나", starts=())]
    (window,) = labelled_windows(examples, tokenizer, config)
    n = len(window.ids)
    assert (window.question, window.start, window.end) == (1, n - 3, n - 3)  # the second answer
    assert "1 questions passed over: no answer stands in the passage" in caplog.text
    # a window with the answer's string at another place than the one that was marked
    twice = question("나" + " 가" * 60 + " 나", "나", starts=(0,))
    starts = [w.start > 0 for w in labelled_windows([twice], tokenizer, config)]
    once = question("나" + " 가" * 60 + " 다", "나", starts=(0,))
    assert len(starts) == len(labelled_windows([once], tokenizer, config)) - 1
    assert starts[0]
    assert not any(starts[1:])


def test_pieces_are_hidden_but_never_the_layout(settings: ReaderTrainingConfig) -> None:
    config = replace(settings, token_dropout=0.5)
    task = ReaderTask(EXAMPLES[:4], config, load_model(config))
    layout = task.tokenizer.layout
    ids = task.tokenizer.tensors(task.windows, torch.device("cpu"))["input_ids"]
    torch.manual_seed(1)
    masked = task._with_masks(ids)
    changed = masked != ids
    fixed = torch.isin(ids, torch.tensor([*layout.before, *layout.between, layout.pad]))
    assert not (changed & fixed).any()
    assert (masked[changed] == task.tokenizer.mask).all()
    assert 0.4 < changed.sum() / (~fixed).sum() < 0.6
    assert torch.isfinite(task.loss([[0], [1]]))


def test_lengths_are_rounded_up_and_nothing_else_changes(settings: ReaderTrainingConfig) -> None:
    task = ReaderTask(EXAMPLES[:3], settings, load_model(settings).eval())
    windows = [w for w in task.windows if len(w.ids) % 32][:1]
    n = len(windows[0].ids)
    outputs = []
    for longest, length in ((0, n), (settings.max_length, -(-n // 32) * 32), (n, n)):
        inputs = task.tokenizer.tensors(windows, torch.device("cpu"), longest=longest)
        assert all(values.shape == (1, length) for values in inputs.values())
        with torch.no_grad():
            outputs.append(task.model(**inputs).start_logits[0, :n].numpy())
    for found in outputs[1:]:
        np.testing.assert_allclose(found, outputs[0], atol=1e-4)


def test_negatives_hold_no_answer(settings: ReaderTrainingConfig) -> None:
    tokenizer = load_reader_tokenizer(settings.model, morphemes=True, titles=True)
    config = replace(settings, negatives=1.0, empty_windows=0.0)
    examples = [question("가 나", "가"), question("다 라", "다"), question("가 다", "다")]
    windows = labelled_windows(examples, tokenizer, config)
    # the first has one other passage without 가, the second and third have one without 다
    assert sum(window.start > 0 for window in windows) == 3
    assert sum(window.start == 0 for window in windows) == 3
    again = labelled_windows(examples, tokenizer, config)
    assert [w.ids.tolist() for w in windows] == [w.ids.tolist() for w in again]
    with pytest.raises(OdqaError, match="nothing to learn"):
        labelled_windows([Example("q", "무엇?", ("답",))], tokenizer, config)
    # an answer of the third may stand in the others' passages
    windows = labelled_windows([*examples[:2], question("가 다")], tokenizer, config)
    assert len(windows) == 5


def test_a_trained_reader_can_be_read(settings: ReaderTrainingConfig, tmp_path: Path) -> None:
    record = train_reader(EXAMPLES, settings, tmp_path)
    assert record["steps"] == LOOP.max_steps
    assert np.isfinite(record["loss"])
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["n_questions"] == len(EXAMPLES)
    assert run["config"]["loop"]["max_steps"] == LOOP.max_steps
    reader = ExtractiveReader.load(
        ReaderConfig(
            model=str(tmp_path), max_length=96, stride=8, max_question_length=24, device="cpu"
        )
    )
    example = EXAMPLES[0]
    assert example.passage is not None
    given = [Candidate(example.passage, 1.0, 0, "given")]
    readings = reader.read([example.question], [given], k=3)[0]
    assert len(readings) == 3
    tokenizer = load_reader_tokenizer(str(tmp_path))
    assert tokenizer.morphemes
    assert tokenizer.titles


def test_a_wordpiece_model_is_trained_too(tmp_path: Path) -> None:
    write_wordpiece_model(tmp_path / "base", texts_of(EXAMPLES[:2]), roberta=True)
    config = replace(
        SETTINGS, model=str(tmp_path / "base"), morphemes=False, loop=replace(LOOP, max_steps=1)
    )
    assert train_reader(EXAMPLES[:2], config, tmp_path / "out")["steps"] == 1


@pytest.mark.parametrize("kind", ["Electra", "XLMRoberta", "DebertaV2", "DistilBert"])
def test_any_encoder_is_trained(kind: str, tmp_path: Path) -> None:
    """Kinds whose weights, tied or named in their own ways, must survive a checkpoint; the encoder
    is stored in half precision."""
    import transformers

    write_wordpiece_model(tmp_path, texts_of(EXAMPLES), roberta=False)
    n_pieces = len(transformers.AutoTokenizer.from_pretrained(tmp_path))
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    if kind == "DistilBert":
        names = ("dim", "n_layers", "n_heads", "hidden_dim")
    config = getattr(transformers, f"{kind}Config")(
        **dict(zip(names, (32, 2, 2, 48), strict=True)),
        vocab_size=n_pieces, pad_token_id=1, max_position_embeddings=160,
    )  # fmt: skip
    encoder = transformers.AutoModelForMaskedLM.from_config(config).to(torch.bfloat16)
    encoder.save_pretrained(tmp_path)
    settings = replace(
        SETTINGS, model=str(tmp_path), morphemes=False, frozen_layers=-1, hidden_dropout=None,
        loop=replace(LOOP, max_steps=4, eval_every=2),
    )  # fmt: skip
    train_reader(EXAMPLES, settings, tmp_path / "out", dev=EXAMPLES[:2])
    more = replace(settings, loop=replace(LOOP, max_steps=6, eval_every=2))
    assert train_reader(EXAMPLES, more, tmp_path / "out", dev=EXAMPLES[:2])["steps"] == 6
    assert weights_of(tmp_path / "out")["qa_outputs.weight"].dtype == np.float32
    read = replace(reading_config(settings), model=str(tmp_path / "out"), device="cpu")
    assert evaluate_reading(ExtractiveReader.load(read), EXAMPLES[:2]).metrics["n"] == 2


class KilledError(Exception):
    """The process is gone."""


def test_a_run_cut_short_ends_as_one_that_was_not(
    settings: ReaderTrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_reader(EXAMPLES, settings, tmp_path / "whole", dev=EXAMPLES[:3])
    loss = ReaderTask.loss
    calls = 0

    def dying(task: ReaderTask, batch: list[int]) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:  # after four steps, of which three are in the checkpoint
            raise KilledError
        return loss(task, batch)

    with monkeypatch.context() as patch:
        patch.setattr(ReaderTask, "loss", dying)
        with pytest.raises(KilledError):
            train_reader(EXAMPLES, settings, tmp_path / "cut", dev=EXAMPLES[:3])
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    cut = train_reader(EXAMPLES, settings, tmp_path / "cut", dev=EXAMPLES[:3])
    timed = ("minutes",)
    assert {k: v for k, v in cut.items() if k not in timed} == {
        k: v for k, v in whole.items() if k not in timed
    }
    first, second = weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut")
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)


def test_the_best_reader_is_written(settings: ReaderTrainingConfig, tmp_path: Path) -> None:
    config = replace(settings, loop=replace(LOOP, learning_rate=5e-3, eval_every=2))
    record = train_reader(EXAMPLES, config, tmp_path, dev=EXAMPLES[:4])
    best = tmp_path / f"checkpoint-{record['best_step']}"
    for name, values in weights_of(best).items():
        np.testing.assert_array_equal(values, weights_of(tmp_path)[name], err_msg=name)
    # read from the folder, by the command's own path, it has the figures of the record
    read = replace(reading_config(config), model=str(best), device="cpu", precision="fp32")
    found = evaluate_reading(ExtractiveReader.load(read), EXAMPLES[:4]).metrics
    assert record["dev"] == {name: pytest.approx(found[name]) for name in record["dev"]}
    assert next(iter(record["dev"])) == "f1"
    assert record["dev"]["f1"] == max(f["f1"] for f in record["evaluations"].values())


def test_what_cannot_be_trained_is_said(settings: ReaderTrainingConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="best_by: unknown 'jamo_distance'; known: exact_match"):
        train_reader(EXAMPLES, replace(settings, best_by="jamo_distance"), tmp_path)
    with pytest.raises(ConfigError, match="reads at most 512 tokens"):
        train_reader(EXAMPLES, replace(settings, max_length=600), tmp_path)
    for name, value in (
        ("max_length", 40), ("stride", -1), ("n_best", 0), ("token_dropout", 1.5),
        ("frozen_layers", 100), ("hidden_dropout", -0.5),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=rf"^{name}"):
            train_reader(EXAMPLES, replace(settings, **{name: value}), tmp_path)
    for setting in ("patience=1", "evaluate_checkpoints=true"):
        loop = set_values(LOOP, [setting])
        with pytest.raises(UsageError, match=rf"loop\.{setting.split('=')[0]} .*; give --dev"):
            train_reader(EXAMPLES, replace(settings, loop=loop), tmp_path)
        with pytest.raises(UsageError, match=rf"loop\.{setting.split('=')[0]} .*odqa evaluate"):
            train_static("sample", [], replace(STATIC, loop=loop), tmp_path, initial=None)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match="no passages"):
        train_reader(EXAMPLES, settings, tmp_path, dev=[Example("q", "무엇?", ("답",))])
    with pytest.raises(OdqaError, match="--model 'no/such"):
        train_reader(EXAMPLES, replace(settings, model="no/such/model"), tmp_path)
    train_reader(EXAMPLES, settings, tmp_path)
    with pytest.raises(UsageError, match=r"training data.*--overwrite"):
        train_reader(EXAMPLES[:6], settings, tmp_path)
    with pytest.raises(UsageError, match=r"evaluation data.*--overwrite"):
        train_reader(EXAMPLES, settings, tmp_path, dev=EXAMPLES[:2])


def test_the_model_card_says_what_the_record_says(tmp_path: Path) -> None:
    record = {
        "kind": "reader",
        "config": {"model": "klue/roberta-base", "loop": dataclasses.asdict(LOOP)},
        "data": [
            {"role": "train", "name": "my.json", "n": 60407, "sha256": "ab12"},
            {"role": "dev", "name": "sample", "n": 7, "sha256": None},
        ],
        "n_questions": 60407, "n_windows": 70000, "n_dev": 7, "steps": 3, "minutes": 12.34,
        "loss": 0.5, "device": "cpu", "precision": "bf16", "processes": 2, "best_step": 2,
        "dev": {"f1": 91.23456, "exact_match": 85.0}, "evaluations": {"2": {}, "3": {}},
        "hardware": {"cpu": "a CPU", "cores": 2, "threads": 2},
        "versions": {"odqa": "1", "torch": "2"},
    }  # fmt: skip
    card = model_card(record)
    front = yaml.safe_load(card.split("---")[1])
    assert front["base_model"] == "klue/roberta-base"
    assert front["pipeline_tag"] == "question-answering"
    assert front["language"] == ["ko"]
    (result,) = front["model-index"][0]["results"]
    assert result["metrics"][0] == {"type": "f1", "value": 91.2346}
    for said in ("| f1 | 91.23 |", "| my.json | train | 60407 | `ab12` |", "bundled with odqa",
                 "3 steps in 12.3 minutes on a CPU (threads: 2), in bf16, 2 processes",
                 "step 2. It is the best of 2 evaluations", "| batch_size | 4 |"):  # fmt: skip
        assert said in card, said
    hub = pytest.importorskip("huggingface_hub")
    (evaluated, _) = hub.ModelCard(card).data.eval_results
    assert (evaluated.metric_type, evaluated.metric_value) == ("f1", 91.2346)
    local = model_card(record | {"config": record["config"] | {"model": str(tmp_path / "base")}})
    assert str(tmp_path) not in local
    assert "base_model" not in yaml.safe_load(local.split("---")[1])


# The static encoder ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def static_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("static")
    pairs = reading_pairs(Path("sample"))
    train_static("sample", pairs, STATIC, folder, initial=None)
    return folder


def test_static_training_learns(static_run: Path) -> None:
    log = [json.loads(text) for text in (static_run / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log]
    assert len(losses) == 12
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])


def test_a_trained_table_can_be_read(static_run: Path) -> None:
    encoder = StaticEncoder.load(static_run / "static-ko.safetensors")
    assert encoder.dim == 32
    passages = [make_passage(f"{d.doc_id}#0", d.text, d.title) for d in read_documents("sample")]
    titles = [p.title for p in passages]
    scores = encoder.encode_questions(titles) @ encoder.encode_passages(passages).T
    own = np.diag(scores)
    ranks = (scores > own[:, None]).sum(axis=1)
    assert np.median(ranks) < len(passages) / 8
    run = json.loads((static_run / "run.json").read_text())
    assert run["initial"] == "random"
    assert run["n_terms"] == 2000
    assert run["n_questions"] > 100


def test_a_teacher_gives_the_start(static_run: Path, tmp_path: Path) -> None:
    teacher = StaticEncoder.load(static_run / "static-ko.safetensors")
    config = replace(STATIC, dim=16, terms=300, every=8, loop=replace(STATIC.loop, max_steps=1))
    encoder = train_static("sample", [], config, tmp_path, initial=teacher)
    assert encoder.dim == 16
    start = np.load(next(tmp_path.glob("initial-*.npy")))
    assert start.shape == (300, 16)
    norms = np.linalg.norm(start, axis=1)
    assert norms[0] < norms[-1]  # frequent terms are scaled down
    assert json.loads((tmp_path / "run.json").read_text())["initial"] == teacher.fingerprint


def test_a_table_learns_a_teachers_similarities(static_run: Path, tmp_path: Path) -> None:
    teacher = StaticEncoder.load(static_run / "static-ko.safetensors")
    pairs = reading_pairs(Path("sample"))[:60]

    def distance(weight: float) -> float:
        taught = SimilarityTeacherConfig(str(static_run / "static-ko.safetensors"), weight)
        loop = replace(STATIC.loop, max_steps=30, batch_size=96)
        config = replace(STATIC, every=8, dim=16, teacher=taught, loop=loop, question_share=0.6)
        folder = tmp_path / str(weight)
        student = train_static("sample", pairs, config, folder, initial=None)
        assert (folder / "teacher.npz").exists() == (weight > 0)
        questions, passages = [q for q, _ in pairs], [p for _, p in pairs]
        right, given = (
            torch.from_numpy(e.encode_questions(questions) @ e.encode_passages(passages).T) / 0.05
            for e in (teacher, student)
        )
        return float(divergence(given, right))

    assert distance(0.9) < 0.7 * distance(0.0)


def test_a_table_is_not_gone_on_with_under_another_teacher(
    static_run: Path, tmp_path: Path
) -> None:
    config = replace(STATIC, every=8, dim=16, loop=replace(STATIC.loop, max_steps=2))
    pairs = reading_pairs(Path("sample"))[:20]
    train_static("sample", pairs, config, tmp_path, initial=None)
    taught = SimilarityTeacherConfig(str(static_run / "static-ko.safetensors"))
    with pytest.raises(UsageError, match="begun with teacher"):
        train_static("sample", pairs, replace(config, teacher=taught), tmp_path, initial=None)


def test_a_begun_static_run_refuses_another_corpus(static_run: Path, tmp_path: Path) -> None:
    def corpus(name: str, word: str) -> str:
        lines = [
            json.dumps({"id": str(i), "title": f"{word} {i}", "text": f"{word} {i}은 {i}에 있다."})
            for i in range(40)
        ]
        (tmp_path / name).write_text("\n".join(lines), encoding="utf-8")
        return str(tmp_path / name)

    first, second = corpus("first.jsonl", "학교"), corpus("second.jsonl", "병원")
    output = tmp_path / "run"
    config = replace(STATIC, dim=16, loop=replace(STATIC.loop, max_steps=1, batch_size=8))
    train_static(first, [], config, output, initial=None)
    kept = {path: path.read_bytes() for path in output.glob("*-*.np?")}
    with pytest.raises(OdqaError, match="corpus"):
        train_static(second, [], config, output, initial=None)
    assert kept.items() <= {path: path.read_bytes() for path in output.glob("*-*.np?")}.items()
    anew = replace(config, loop=replace(config.loop, overwrite=True))
    encoder = train_static(second, [], anew, output, initial=None)
    vectors = encoder.encode_questions(["병원", "학교"])
    assert np.abs(vectors[0]).max() > 0
    assert not vectors[1].any()


def test_what_a_teacher_said_is_not_asked_again(static_run: Path, tmp_path: Path) -> None:
    teacher = StaticEncoder.load(static_run / "static-ko.safetensors")
    pairs = reading_pairs(Path("sample"))[:5]
    cache = tmp_path / "teacher.npz"
    first = taught_vectors(pairs, teacher, cache)
    kept = cache.read_bytes()
    for again, before in zip(taught_vectors(pairs, teacher, cache), first, strict=True):
        np.testing.assert_array_equal(again, before)
    assert cache.read_bytes() == kept
    assert len(taught_vectors(pairs[:3], teacher, cache)[0]) == 3  # other pairs: asked again


def test_pairs_of_a_data_set_are_those_of_its_training_split() -> None:
    pairs = reading_pairs(Path("sample"))
    questions = {q for q, _ in pairs}
    assert EXAMPLES[0].question in questions
    passage = EXAMPLES[0].passage
    assert passage is not None
    assert dict(pairs)[EXAMPLES[0].question] == passage


def test_judged_pairs_take_the_passage_that_shares_rare_terms(tmp_path: Path) -> None:
    filler = "조선의 임금이 나라를 다스렸다. " * 30
    text = f"{filler}\n\n측우기는 장영실이 만들었다.\n\n{filler}"
    articles = [
        {"id": "1", "title": "조선", "text": text},
        {"id": "2", "title": "한강", "text": "한강은 서울을 흐른다."},
    ]
    lines = "\n".join(json.dumps(a, ensure_ascii=False) for a in articles)
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(lines, encoding="utf-8")
    pairs = judged_pairs(
        {"a": "측우기는 누가 만들었나?", "b": "서울의 강은?", "c": "없는 글은?"},
        {"a": {"1"}, "b": {"2"}, "c": {"3"}},
        str(corpus),
        "mecab",
    )
    assert [q for q, _ in pairs] == ["측우기는 누가 만들었나?", "서울의 강은?"]
    assert "장영실" in pairs[0][1].text
    assert (pairs[1][1].title, pairs[1][1].text) == ("한강", "한강은 서울을 흐른다.")


# The command ----------------------------------------------------------------------------------


def test_a_rate_may_be_written_as_everyone_does() -> None:
    config = set_values(LoopConfig(), ["learning_rate=5e-5"])
    assert config.learning_rate == 5e-5
    with pytest.raises(ConfigError, match="expected float, got '5e'"):
        set_values(LoopConfig(), ["learning_rate=5e"])
    with pytest.raises(ConfigError, match="expected int"):
        set_values(LoopConfig(), ["max_steps=1e3"])


def test_train_reader_and_export_by_command(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    data = korquad(tmp_path / "data.json", EXAMPLES[:6])
    command = ["train", "reader", "--model", str(base), "--train", str(data)]
    command += ["--output", str(tmp_path / "run"), "--set", "morphemes=true", "--set", "layers=1"]
    command += ["--set", "max_length=128", "--set", "stride=16", *set_loop()]
    assert main(command) == 0
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (run["steps"], run["n_questions"]) == (2, 6)
    assert main(["train", "export", str(base), "--output", str(tmp_path / "encoder")]) == 0
    shared = ["--shared", str(tmp_path / "encoder")]
    exported = tmp_path / "reader"
    assert main(["train", "export", str(tmp_path / "run"), "--output", str(exported), *shared]) == 0
    example = EXAMPLES[0]
    assert example.passage is not None
    given = [[Candidate(example.passage, 1.0, 0, "given")]]
    reader = ExtractiveReader.load(ReaderConfig(model=str(exported)))
    assert reader.read([example.question], given, k=1)[0]


def test_minutes_of_the_command_line_come_before_those_of_the_settings(
    base: Path, tmp_path: Path
) -> None:
    data = korquad(tmp_path / "data.json", EXAMPLES[:6])
    command = ["train", "reader", "--model", str(base), "--train", str(data), *SHORT]
    command += ["--output", str(tmp_path / "run"), *set_loop(max_minutes=1e-9)]
    assert main([*command, "--max-minutes", "0"]) == 0  # no limit, so both steps
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (run["steps"], run["config"]["loop"]["max_minutes"]) == (2, 0)
    assert main([*command, "--max-minutes", "-1"]) == 2


SHORT = ["--set", "max_length=96", "--set", "stride=16", "--set", "max_question_length=24"]


@pytest.mark.parametrize("roberta", [True, False], ids=["roberta", "bert"])
def test_the_documented_commands_work(
    roberta: bool,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Train, evaluate and ask as docs/training.md says, with a model of klue/roberta-base's kind
    (RoBERTa without token types under BERT's tokenizer) and a BERT that has them."""
    train, evaluate, ask = documented("training.md", "## A reader on your own data")
    monkeypatch.chdir(tmp_path)
    write_wordpiece_model(
        Path("klue/roberta-base"), texts_of(EXAMPLES), roberta=roberta, head="MaskedLM"
    )
    korquad(Path("my.json"), EXAMPLES[:9])
    korquad(Path("my-dev.json"), EXAMPLES[9:])
    loop = set_loop(max_steps=4, eval_every=2)
    assert main([*train[1:], *SHORT, *loop]) == 0
    assert " (best)" in caplog.text
    run = json.loads(Path("runs/reader/run.json").read_text())
    assert run["n_questions"] == 9
    assert [(f["role"], f["name"], f["n"]) for f in run["data"]] == [
        ("train", "my.json", 9), ("dev", "my-dev.json", 3)
    ]  # fmt: skip
    assert list(run["evaluations"]) == ["2", "4"]
    assert f"`{run['data'][0]['sha256']}`" in Path("runs/reader/README.md").read_text()
    settings = json.loads(Path("runs/reader/odqa.json").read_text())
    assert settings["layout"]["token_types"] is not roberta
    reader = [s for key in ("max_length=96", "stride=16", "max_question_length=24",
              "device=cpu", "precision=fp32") for s in ("--set", f"reader.{key}")]  # fmt: skip
    assert main([*evaluate[1:], *reader]) == 0
    metrics = json.loads(Path("runs/check/metrics.json").read_text())
    assert {name: metrics[name] for name in run["dev"]} == pytest.approx(run["dev"])
    index = ["--index", "small", "--indexes-dir", str(home / "indexes")]
    assert main([*ask[1:], *reader, "--json", *index]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "odqa", "train", "reader", *arguments]


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on(base: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle, SIGINT in the middle, and to the end: as one run that was left."""
    data = [
        "--model",
        str(base),
        "--train",
        str(korquad(tmp_path / "data.json", EXAMPLES[:6])),
        *SHORT,
    ]
    loop = set_loop(max_steps=40, log_every=1, save_every=2, threads=1)

    def start(folder: str) -> subprocess.Popen[str]:
        arguments = command(*data, *loop, "--output", str(tmp_path / folder))
        return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)

    whole = start("whole")
    assert whole.wait() == 0, whole.communicate()
    for number, code, step in ((signal.SIGKILL, -9, 6), (signal.SIGINT, 130, 14)):
        cut = start("cut")
        while not list((tmp_path / "cut").glob(f"checkpoint-{step}")):
            assert cut.poll() is None, cut.communicate()
            time.sleep(0.01)
        cut.send_signal(number)
        _, said = cut.communicate()
        assert cut.returncode == code, said
        assert ("Run the same command again" in said) == (number == signal.SIGINT)
    rest = start("cut")
    assert rest.wait() == 0, rest.communicate()
    assert logged(tmp_path / "cut") == logged(tmp_path / "whole")
    for name, values in weights_of(tmp_path / "whole").items():
        np.testing.assert_array_equal(values, weights_of(tmp_path / "cut")[name], err_msg=name)


def logged(folder: Path) -> list[tuple[int, float, float]]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    entries = [entry for entry in map(json.loads, lines) if "loss" in entry]
    return [(e["step"], e["loss"], e["gradient_norm"]) for e in entries]


@pytest.mark.slow
@pytest.mark.parametrize("taught", [False, True], ids=["alone", "taught"])
def test_two_processes_learn_as_one(base: Path, tmp_path: Path, taught: bool) -> None:
    """torchrun with two processes and one process over the same batches: the same losses."""
    data = [
        "--model",
        str(base),
        "--train",
        str(korquad(tmp_path / "data.json", EXAMPLES[:6])),
        *SHORT,
    ]
    data += ["--dev", str(korquad(tmp_path / "dev.json", EXAMPLES[6:9]))]
    data += ["--set", "hidden_dropout=0", "--set", "attention_dropout=0"]
    if taught:
        teacher = tmp_path / "teacher"
        write_bert(teacher, texts_of(EXAMPLES), reader=True, seed=7)
        load_reader_tokenizer(str(teacher), morphemes=False, titles=True).save(teacher)
        data += ["--set", f"teacher.model={teacher}", "--set", "teacher.weight=1.0"]
        # windows of unlike lengths, and the layers' mean over their pieces as most of the loss
        data += ["--set", "teacher.hidden=50", "--set", "max_length=300"]
    loop = [*set_loop(max_steps=6, batch_size=3, log_every=1, eval_every=3, threads=1)]
    # with its usual epsilon Adam makes whole steps of gradients that are nothing but rounding
    loop += ["--set", "loop.learning_rate=1e-2", "--set", "loop.adam_epsilon=1e-2"]
    loop += ["--set", "loop.gradient_accumulation=2"]
    arguments = command(*data, *loop)[1:]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def run(*words: str) -> str:
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    run(sys.executable, *arguments, "--output", str(tmp_path / "one"))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    said = run(*launch, *arguments, "--output", str(tmp_path / "two"))
    assert said.count("step 6 of 6") == 1  # only one process logs
    one, two = logged(tmp_path / "one"), logged(tmp_path / "two")
    assert [step for step, _, _ in two] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(two, one, rtol=2e-3, atol=2e-4)
    for name, values in weights_of(tmp_path / "one").items():
        np.testing.assert_allclose(
            values, weights_of(tmp_path / "two")[name], atol=2e-4, err_msg=name
        )
    first, second = (
        json.loads((tmp_path / name / "run.json").read_text()) for name in ("one", "two")
    )
    assert second["processes"] == 2
    assert second["dev"] == pytest.approx(first["dev"])


def test_train_encoder_by_command(tmp_path: Path) -> None:
    command = ["train", "encoder", "--corpus", "sample", "--train", "sample"]
    command += ["--output", str(tmp_path), "--set", "terms=300", "--set", "dim=32"]
    command += ["--set", "every=8", *set_loop(batch_size=16)]
    assert main(command) == 0
    assert StaticEncoder.load(tmp_path / "static-ko.safetensors").dim == 32


def test_bad_usage_is_two(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = ["--output", str(tmp_path / "out")]
    missing = str(tmp_path / "missing.json")
    reader = ["train", "reader", "--model", str(base), *output]
    assert main([*reader, "--train", missing]) == 2
    assert "missing.json" in capsys.readouterr().err
    assert main([*reader, "--train", "sample", "--set", "loop.learning=1"]) == 2
    assert "loop.learning_rate" in capsys.readouterr().err
    assert main(["train", "encoder", "--corpus", missing, *output]) == 2
    assert "missing.json" in capsys.readouterr().err
    assert main(["train", "export", str(tmp_path), *output]) == 2
    assert "model.safetensors" in capsys.readouterr().err
    assert main([*reader, "--train", "sample", "--set", "loop.device=gpu"]) == 2
    assert "loop.device: unknown 'gpu'; known: auto, cpu, cuda, cuda:N" in capsys.readouterr().err
    (tmp_path / "elsewhere" / "encoder").mkdir(parents=True)
    for shared, said in (
        (tmp_path / "elsewhere" / "encoder", "must lie beside --output"),
        (tmp_path / "encoder", "holds no weights.safetensors; give an export"),
        (tmp_path / "out", "is --output itself"),
    ):
        assert main(["train", "export", str(base), *output, "--shared", str(shared)]) == 2
        assert said in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*"))
    assert main(["train"]) == 2
