"""Training on a CPU in seconds: what is written can be read, what is cut short can be continued."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance import make_passage
from tiny_models import sample_examples, texts_of, weights_of, write_bert, write_wordpiece_reader

from odqa.cli.main import main
from odqa.config import ReaderConfig, set_values
from odqa.corpus import read_documents
from odqa.errors import ConfigError, OdqaError
from odqa.models.static import StaticEncoder
from odqa.reading.checkpoint import load_reader_tokenizer
from odqa.reading.extractive import ExtractiveReader
from odqa.types import Candidate, Example

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from odqa.models.devices import pick_device, pick_precision  # noqa: E402
from odqa.training.loop import LoopConfig, length_batches, schedule, train  # noqa: E402
from odqa.training.pairs import judged_pairs, reading_pairs  # noqa: E402
from odqa.training.reader import (  # noqa: E402
    ReaderTask,
    ReaderTrainingConfig,
    freeze,
    labelled_windows,
    load_model,
    train_reader,
)
from odqa.training.static import StaticTrainingConfig, train_static  # noqa: E402

EXAMPLES = sample_examples(12)
LOOP = LoopConfig(
    max_steps=6, batch_size=4, save_every=3, log_every=2, device="cpu", precision="fp32", threads=1
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


# The loop -------------------------------------------------------------------------------------


def test_the_rate_rises_then_falls() -> None:
    assert schedule(0.0, 0.1) == 0
    assert schedule(0.05, 0.1) == 0.05 / 0.1
    assert schedule(0.1, 0.1) == 1
    assert schedule(0.55, 0.1) == pytest.approx((1 - 0.55) / (1 - 0.1))
    assert schedule(1.0, 0.1) == 0
    assert schedule(1.2, 0.1) == 0
    assert schedule(0.0, 0.0) == 1


def test_length_batches_hold_everything_once() -> None:
    random = np.random.default_rng(1)
    lengths = random.integers(1, 100, 500).tolist()
    batches = length_batches(lengths, 8, seed=5)
    assert sorted(i for batch in batches for i in batch) == list(range(500))
    assert all(1 <= len(batch) <= 8 for batch in batches)
    assert batches == length_batches(lengths, 8, seed=5)
    assert batches != length_batches(lengths, 8, seed=6)
    padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in batches)
    assert padded < 1.15 * sum(lengths)
    assert length_batches([], 8, seed=5) == []


class Line:
    """Learns y = 2x from numbers; a batch is a list of x."""

    def __init__(self) -> None:
        self.model = torch.nn.Linear(1, 1)
        with torch.no_grad():
            self.model.weight.fill_(0.0)
            self.model.bias.fill_(0.0)
        self.seen: list[list[float]] = []

    def batches(self, epoch: int) -> Sequence[list[float]]:
        return [[float(epoch), i] for i in (1.0, 2.0, 3.0)]

    def loss(self, batch: list[float]) -> Any:
        self.seen.append(batch)
        x = torch.tensor(batch)[:, None]
        return ((self.model(x) - 2 * x) ** 2).mean()


def test_epochs_give_their_steps(tmp_path: Path) -> None:
    line = Line()
    loop = replace(LOOP, max_steps=0, epochs=3, learning_rate=0.5, warmup=0.0)
    record = train(line, loop, tmp_path)
    assert record["steps"] == 9
    assert line.seen == [[float(epoch), i] for epoch in range(3) for i in (1.0, 2.0, 3.0)]
    log = [json.loads(text) for text in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [2, 4, 6, 8]
    assert log[-1]["loss"] < log[0]["loss"]


def test_gradients_of_several_batches_make_one_step(tmp_path: Path) -> None:
    line = Line()
    loop = replace(LOOP, max_steps=2, gradient_accumulation=3)
    assert train(line, loop, tmp_path)["steps"] == 2
    assert len(line.seen) == 6


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    train(Line(), LOOP, tmp_path)
    again = Line()
    assert train(again, LOOP, tmp_path)["steps"] == LOOP.max_steps
    assert again.seen == []
    assert again.model.weight.item() != 0  # the trained one


def test_no_time_means_no_step(tmp_path: Path) -> None:
    loop = replace(LOOP, max_steps=10**9, max_minutes=1e-9)
    assert train(Line(), loop, tmp_path)["steps"] <= 1


def test_a_loss_that_is_no_number_is_said(tmp_path: Path) -> None:
    line = Line()
    line.loss = lambda batch: line.model.weight.sum() * float("nan")  # type: ignore[method-assign]
    with pytest.raises(OdqaError, match="learning rate"):
        train(line, LOOP, tmp_path)


def test_devices_and_precisions() -> None:
    assert pick_device("cpu") == "cpu"
    assert pick_device("auto") in ("cpu", "cuda")
    assert pick_precision("auto", "cpu") in ("fp32", "bf16")
    assert pick_precision("bf16", "cpu") == "bf16"
    with pytest.raises(OdqaError, match="precision 'int3'"):
        pick_precision("int3", "cpu")
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
    assert torch.isfinite(task.loss([0, 1]))


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
    write_wordpiece_reader(tmp_path / "base", texts_of(EXAMPLES[:2]), roberta=True)
    config = replace(
        SETTINGS, model=str(tmp_path / "base"), morphemes=False, loop=replace(LOOP, max_steps=1)
    )
    assert train_reader(EXAMPLES[:2], config, tmp_path / "out")["steps"] == 1


class KilledError(Exception):
    """The process is gone."""


def test_a_run_cut_short_ends_as_one_that_was_not(
    settings: ReaderTrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_reader(EXAMPLES, settings, tmp_path / "whole")
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
            train_reader(EXAMPLES, settings, tmp_path / "cut")
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    record = train_reader(EXAMPLES, settings, tmp_path / "cut")
    assert record["steps"] == LOOP.max_steps
    whole, cut = weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    for name, values in whole.items():
        np.testing.assert_array_equal(values, cut[name], err_msg=name)


# The static encoder ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def static_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("static")
    pairs = reading_pairs(Path("sample"), STATIC.title_weight)
    train_static("sample", pairs, STATIC, folder, teacher=None)
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
    encoder = train_static("sample", [], config, tmp_path, teacher=teacher)
    assert encoder.dim == 16
    start = np.load(tmp_path / "initial.npy")
    assert start.shape == (300, 16)
    norms = np.linalg.norm(start, axis=1)
    assert norms[0] < norms[-1]  # frequent terms are scaled down
    assert json.loads((tmp_path / "run.json").read_text())["initial"] == teacher.fingerprint


def test_pairs_of_a_data_set_are_those_of_its_training_split() -> None:
    pairs = reading_pairs(Path("sample"), 2)
    questions = {q for q, _ in pairs}
    assert EXAMPLES[0].question in questions
    passage = EXAMPLES[0].passage
    assert passage is not None
    assert dict(pairs)[EXAMPLES[0].question] == f"{passage.title}\n" * 2 + passage.text


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
        1,
    )
    assert [q for q, _ in pairs] == ["측우기는 누가 만들었나?", "서울의 강은?"]
    assert "장영실" in pairs[0][1]
    assert pairs[1][1] == "한강\n한강은 서울을 흐른다."


# The command ----------------------------------------------------------------------------------


def test_a_rate_may_be_written_as_everyone_does() -> None:
    config = set_values(LoopConfig(), ["learning_rate=5e-5"])
    assert config.learning_rate == 5e-5
    with pytest.raises(ConfigError, match="expected float, got '5e'"):
        set_values(LoopConfig(), ["learning_rate=5e"])
    with pytest.raises(ConfigError, match="expected int"):
        set_values(LoopConfig(), ["max_steps=1e3"])


def set_loop(**values: object) -> list[str]:
    chosen = {"max_steps": 2, "batch_size": 4, "device": "cpu", "precision": "fp32"} | values
    return [part for k, v in chosen.items() for part in ("--set", f"loop.{k}={v}")]


def korquad(path: Path) -> Path:
    """The examples in KorQuAD's form."""
    articles = [
        {
            "title": e.passage.title,
            "paragraphs": [
                {
                    "context": e.passage.text,
                    "qas": [
                        {
                            "id": e.question_id,
                            "question": e.question,
                            "answers": [
                                {
                                    "text": e.answers[0],
                                    "answer_start": e.passage.text.index(e.answers[0]),
                                }
                            ],
                        }
                    ],
                }
            ],
        }
        for e in EXAMPLES[:6]
        if e.passage is not None
    ]
    path.write_text(json.dumps({"data": articles}, ensure_ascii=False), encoding="utf-8")
    return path


def test_train_reader_and_export_by_command(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    data = korquad(tmp_path / "data.json")
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
    assert main(["train"]) == 2
