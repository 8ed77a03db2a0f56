"""Masked language modelling: what is hidden, how text is packed, what is learnt, what follows."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import ROOT, documented, korquad, set_loop
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import sample_examples, texts_of, weights_of, write_bert, write_wordpiece_model

from odqa.cli.main import main
from odqa.config import CorpusConfig, ReaderConfig, set_values
from odqa.corpus import read_documents, split_passages
from odqa.errors import ConfigError, OdqaError, UsageError
from odqa.models.cut_tokenizer import CutTokenizer, load_cut_tokenizer
from odqa.models.onnx import OnnxTransformer
from odqa.models.pieces import Pieces
from odqa.models.weights import read_tensors
from odqa.reading.extractive import ExtractiveReader
from odqa.types import Candidate, Document, Example

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from odqa.training.loop_config import LoopConfig  # noqa: E402
from odqa.training.masked_model import load_model, surroundings  # noqa: E402
from odqa.training.masking import Masking, morpheme_starts  # noqa: E402
from odqa.training.new_vocabulary import spelt, take_vocabulary  # noqa: E402
from odqa.training.packing import Packing, is_held_out, packed_corpus  # noqa: E402
from odqa.training.pretraining import (  # noqa: E402
    PretrainingConfig,
    PretrainingTask,
    pretrain,
)
from odqa.training.vocabulary import VocabularyConfig, train_tokenizer  # noqa: E402

DOCUMENTS = list(itertools.islice(read_documents("sample"), 16))
LOOP = LoopConfig(
    learning_rate=5e-3, max_steps=8, batch_size=4, save_every=3, eval_every=4, log_every=1,
    device="cpu", precision="fp32", threads=1,
)  # fmt: skip
SMALL = PretrainingConfig(
    layers=2, hidden_size=32, heads=2, intermediate_size=48, embedding_size=16, positions=64,
    max_length=48, held_out=0.3, held_out_sequences=6, loop=LOOP,
)  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("corpus") / "documents.jsonl"
    lines = [json.dumps({"id": d.doc_id, "title": d.title, "text": d.text}) for d in DOCUMENTS]
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(iter(DOCUMENTS), VocabularyConfig(vocabulary=900, min_count=2), folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(vocabulary: Path) -> CutTokenizer:
    return load_cut_tokenizer(str(vocabulary))


@pytest.fixture
def config(vocabulary: Path) -> PretrainingConfig:
    return replace(SMALL, tokenizer=str(vocabulary))


# What is hidden -------------------------------------------------------------------------------


def pieces(*spans: tuple[int, int]) -> Pieces:
    starts, ends = (np.array(column, np.int32) for column in zip(*spans, strict=True))
    return Pieces(np.arange(len(spans), dtype=np.int32), starts, ends)


def test_morphemes_of_pieces_by_hand() -> None:
    text = "서울은 수도이다"  # 서울 은 수도 이 다
    characters = pieces((0, 1), (1, 2), (2, 3), (4, 5), (5, 6), (6, 7), (7, 8))
    assert morpheme_starts(text, characters).tolist() == [
        True, False, True, True, False, True, True
    ]  # fmt: skip
    # a piece that goes across a boundary belongs to what it begins in: 서 | 울은 | 수도 | 이다
    across = pieces((0, 1), (1, 3), (4, 6), (6, 8))
    assert morpheme_starts(text, across).tolist() == [True, False, True, True]
    assert morpheme_starts("", Pieces(*(np.zeros(0, np.int32) for _ in range(3)))).tolist() == []


MASKING = Masking(
    0.15, 4, np.arange(5, 100, dtype=np.int32), np.array([0, 1, 2, 3, 4], dtype=np.int32)
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(2, 99), st.booleans()), min_size=1, max_size=80),
    st.integers(0, 1000),
)
def test_whole_morphemes_are_hidden(sequence: list[tuple[int, bool]], seed: int) -> None:
    ids = np.array([i for i, _ in sequence], np.int32)
    starts = np.array([True, *(s for _, s in sequence[1:])])
    changed, chosen = MASKING.apply(ids, starts, np.random.default_rng(seed))
    special = np.isin(ids, MASKING.special)
    morpheme = np.cumsum(starts)
    assert not special[chosen].any()
    for number in np.unique(morpheme[chosen]):
        inside = np.flatnonzero((morpheme == number) & ~special)
        assert np.isin(inside, chosen).all()
        # one fate for all of its pieces
        masked = changed[inside] == MASKING.mask
        assert masked.all() or not masked.any()
    untouched = np.setdiff1d(np.arange(len(ids)), chosen)
    np.testing.assert_array_equal(changed[untouched], ids[untouched])
    if (~special).any():
        one = np.unique(morpheme[chosen]).size == 1
        assert 0 < len(chosen) <= round(0.15 * (~special).sum()) or one
    again, same = MASKING.apply(ids, starts, np.random.default_rng(seed))
    np.testing.assert_array_equal(again, changed)
    np.testing.assert_array_equal(same, chosen)


def test_shares_of_what_is_hidden() -> None:
    """15 % of the pieces; of these eight tenths masked, a tenth exchanged, a tenth as they were."""
    ids = np.resize(np.arange(5, 100, dtype=np.int32), 200)
    starts = np.resize([True, False, True], 200)
    n_chosen = n_masked = n_same = 0
    for seed in range(400):
        changed, chosen = MASKING.apply(ids, starts, np.random.default_rng(seed))
        n_chosen += len(chosen)
        n_masked += int((changed[chosen] == MASKING.mask).sum())
        n_same += int((changed[chosen] == ids[chosen]).sum())
    assert n_chosen / (400 * 200) == pytest.approx(0.15, abs=0.005)
    assert n_masked / n_chosen == pytest.approx(0.8, abs=0.02)
    # of those exchanged one in 95 is the same by chance
    assert n_same / n_chosen == pytest.approx(0.1 + 0.1 / 95, abs=0.02)


# Packing --------------------------------------------------------------------------------------

PACKING = Packing(room=20, separator=(2,), held_out=0.3, every=1)


def test_sequences_are_the_articles_one_after_the_other(
    tokenizer: CutTokenizer, tmp_path: Path
) -> None:
    def pieces_of(document: Document) -> list[int]:
        texts = [passage.text for passage in split_passages(document, CorpusConfig())]
        return [int(i) for pieces in tokenizer.encode(texts) for i in pieces.ids]

    packed = packed_corpus(
        iter(DOCUMENTS), tokenizer, PACKING, tmp_path / "text", key={}, writes=True
    )
    for text, held in ((packed.train, False), (packed.held_out, True)):
        articles = [pieces_of(d) for d in DOCUMENTS if is_held_out(d.doc_id, 0.3) is held]
        expected = [i for article in articles for i in [*article, 2]][:-1]
        rows = [text[row] for row in range(len(text))]
        assert [int(i) for ids, _ in rows for i in ids] == expected
        assert all(0 < len(ids) <= 20 for ids, _ in rows)
        assert np.mean([len(ids) for ids, _ in rows]) > 17
        assert all(starts[0] for _, starts in rows)
    assert packed.n_articles + packed.n_held_out_articles == len(DOCUMENTS)
    assert 0 < packed.n_held_out_articles < len(DOCUMENTS)
    assert not list(tmp_path.glob("*.part"))


def nothing() -> Iterator[Document]:
    raise AssertionError("the corpus is read again")
    yield


def test_a_corpus_is_put_into_pieces_once(tokenizer: CutTokenizer, tmp_path: Path) -> None:
    def packed(documents: Iterator[Document], key: str, *, writes: bool = True) -> Any:
        return packed_corpus(
            documents, tokenizer, PACKING, tmp_path / "text", key={"key": key}, writes=writes
        )

    first = packed(iter(DOCUMENTS), "a")
    assert packed(nothing(), "a").digest == first.digest
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(packed(nothing(), "b", writes=False)))
    waiting.start()
    second = packed(iter(DOCUMENTS[1:]), "b")
    waiting.join(timeout=30)
    assert found[0].digest == second.digest != first.digest


def test_a_corpus_of_nothing_is_said(tokenizer: CutTokenizer, tmp_path: Path) -> None:
    empty = [Document("1", "제목", " ")]
    with pytest.raises(OdqaError, match="no text to learn from"):
        packed_corpus(empty, tokenizer, PACKING, tmp_path / "text", key={}, writes=True)


# The loss -------------------------------------------------------------------------------------


def task_of(config: PretrainingConfig, corpus: str, folder: Path) -> PretrainingTask:
    model, tokenizer = load_model(config)
    before, after = surroundings(tokenizer)
    packing = Packing(config.max_length - len(before) - len(after), after, config.held_out, 1)
    text = packed_corpus(
        read_documents(corpus), tokenizer, packing, folder / "text", key={}, writes=True
    )
    return PretrainingTask(text, config, model.eval(), tokenizer)


KINDS = ["Bert", "Roberta", "Electra", "DistilBert", "DebertaV2", "XLMRoberta"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_the_library(
    kind: str, vocabulary: Path, corpus: str, tmp_path: Path
) -> None:
    """Of each sequence alone, with the library's own labels: however the output layer is built."""
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    if kind == "DistilBert":
        names = ("dim", "n_layers", "n_heads", "hidden_dim")
    settings = getattr(transformers, f"{kind}Config")(
        **dict(zip(names, (32, 2, 2, 48), strict=True)),
        vocab_size=900, pad_token_id=1, max_position_embeddings=66,
    )  # fmt: skip
    torch.manual_seed(1)
    transformers.AutoModelForMaskedLM.from_config(settings).save_pretrained(tmp_path / "model")
    load_cut_tokenizer(str(vocabulary)).save(tmp_path / "model")
    task = task_of(replace(SMALL, model=str(tmp_path / "model")), corpus, tmp_path)
    batch = [(0, 0), (3, 0), (len(task.corpus.train) - 1, 0)]  # the last one is shorter
    losses = []
    for row, epoch in batch:
        hidden = task._hide(task.corpus.train, [row], [[LOOP.seed, epoch, row]])
        labels = torch.full_like(hidden.inputs["input_ids"], -100)
        labels[hidden.rows, hidden.columns] = hidden.labels
        losses.append(task.model(**hidden.inputs, labels=labels).loss)
    assert task.loss(batch).item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_what_is_hidden_changes_with_the_epoch_alone(
    config: PretrainingConfig, corpus: str, tmp_path: Path
) -> None:
    task = task_of(config, corpus, tmp_path)
    first = task._hide(task.corpus.train, [0], [[13, 0, 0]])
    again = task._hide(task.corpus.train, [0], [[13, 0, 0]])
    other = task._hide(task.corpus.train, [0], [[13, 1, 0]])
    assert torch.equal(first.columns, again.columns)
    assert not torch.equal(first.inputs["input_ids"], other.inputs["input_ids"])
    # what is hidden is named, and only ordinary pieces are
    whole, _ = task.corpus.train[0]
    assert first.labels.tolist() == [int(whole[c - 1]) for c in first.columns]
    assert first.inputs["input_ids"][0, 0] == 0
    assert sorted(r for b in task.batches(0) for r, _ in b) == list(range(len(task.corpus.train)))
    assert task.batches(0) != task.batches(1)
    assert task.batches(1) == task.batches(1)


def test_figures_on_what_is_held_out(
    config: PretrainingConfig, corpus: str, tmp_path: Path
) -> None:
    task = task_of(config, corpus, tmp_path)
    found = task.evaluate()
    assert list(found) == ["log_likelihood", "accuracy"]
    assert found["log_likelihood"] == pytest.approx(-np.log(900), rel=0.05)  # it knows nothing
    assert found == task.evaluate()
    by_one = replace(config, best_by="accuracy", loop=replace(LOOP, eval_batch_size=1))
    task.config = by_one
    again = task.evaluate()
    assert list(again) == ["accuracy", "log_likelihood"]
    assert again == pytest.approx(found)
    task.n_held_out = 0
    assert task.evaluate() == {}


# Runs -----------------------------------------------------------------------------------------


def test_it_learns(config: PretrainingConfig, corpus: str, tmp_path: Path) -> None:
    record = pretrain(corpus, replace(config, loop=replace(LOOP, max_steps=60)), tmp_path)
    figures = [f["log_likelihood"] for f in record["evaluations"].values()]
    assert figures[-1] > figures[0] + 0.5
    assert record["dev"]["log_likelihood"] == max(figures)
    assert (record["kind"], record["n_dev"]) == ("pretrain", 6)
    assert record["data"][0]["name"] == "documents.jsonl"
    card = (tmp_path / "README.md").read_text()
    assert "Trained from the beginning with `odqa train pretrain`" in card
    assert "| file | used for | articles | SHA-256 |" in card
    assert json.loads((tmp_path / "odqa.json").read_text()) == {"morphemes": True}


class KilledError(Exception):
    """The process is gone."""


@pytest.mark.parametrize("kind", ["bert", "electra"])
def test_a_run_cut_short_ends_as_one_that_was_not(
    kind: str,
    config: PretrainingConfig,
    corpus: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = replace(config, kind=kind)
    whole = pretrain(corpus, config, tmp_path / "whole")
    loss = PretrainingTask.loss
    calls = 0

    def dying(task: PretrainingTask, batch: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KilledError
        return loss(task, batch)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainingTask, "loss", dying)
        with pytest.raises(KilledError):
            pretrain(corpus, config, tmp_path / "cut")
    cut = pretrain(corpus, config, tmp_path / "cut")
    assert cut | {"minutes": 0} == whole | {"minutes": 0}
    first, second = weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut")
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)
    with pytest.raises(UsageError, match="hidden_share"):
        pretrain(corpus, replace(config, hidden_share=0.2), tmp_path / "cut")


def test_the_best_model_is_written(config: PretrainingConfig, corpus: str, tmp_path: Path) -> None:
    loop = replace(LOOP, learning_rate=5e-2, schedule="constant", max_steps=16)
    record = pretrain(corpus, replace(config, loop=loop), tmp_path)
    best = weights_of(tmp_path / f"checkpoint-{record['best_step']}")
    for name, values in weights_of(tmp_path).items():
        np.testing.assert_array_equal(values, best[name], err_msg=name)
    # read from the folder it has the figures of the record
    again = replace(config, model=str(tmp_path), tokenizer="")
    assert task_of(again, corpus, tmp_path / "again").evaluate() == pytest.approx(record["dev"])


@pytest.mark.slow
def test_two_processes_learn_as_one(vocabulary: Path, corpus: str, tmp_path: Path) -> None:
    command = ["-m", "odqa", "train", "pretrain", "--corpus", corpus]
    command += ["--tokenizer", str(vocabulary), *sizes()]
    command += ["--set", "hidden_dropout=0", "--set", "attention_dropout=0"]
    command += set_loop(max_steps=4, batch_size=3, log_every=1, eval_every=2, threads=1)
    command += ["--set", "loop.learning_rate=1e-2", "--set", "loop.adam_epsilon=1e-2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def losses(folder: str, *launcher: str) -> list[tuple[int, float]]:
        words = [sys.executable, *launcher, *command, "--output", str(tmp_path / folder)]
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        lines = map(json.loads, (tmp_path / folder / "log.jsonl").read_text().splitlines())
        return [(line["step"], line["loss"]) for line in lines if "loss" in line]

    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    two, one = losses("two", *launcher), losses("one")
    assert [step for step, _ in two] == [1, 2, 3, 4]
    np.testing.assert_allclose(two, one, rtol=2e-3)
    for name, values in weights_of(tmp_path / "one").items():
        np.testing.assert_allclose(values, weights_of(tmp_path / "two")[name], atol=2e-4)


# Another vocabulary ---------------------------------------------------------------------------


def test_new_rows_are_the_means_of_what_spells_them(
    tokenizer: CutTokenizer, vocabulary: Path, tmp_path: Path
) -> None:
    write_bert(tmp_path, [d.text for d in DOCUMENTS], reader=False)
    model = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path)
    with torch.no_grad():  # so that no row of the output layer is like another
        model.cls.predictions.bias.copy_(torch.arange(model.config.vocab_size) / 100)
    old = load_cut_tokenizer(str(tmp_path), morphemes=True)
    before = model.get_input_embeddings().weight.detach().clone()
    bias = model.get_output_embeddings().bias.detach().clone()
    names, new = old.backend.get_vocab(), tokenizer.backend.get_vocab()
    take_vocabulary(model, old, tokenizer)
    after = model.get_input_embeddings().weight
    assert after.shape == (900, before.shape[1])
    assert model.config.vocab_size == 900
    long = max((p for p in new if p.startswith("▁") and "<" not in p), key=len)
    spelling = [names[f"▁{long[1]}"], *(names[c] for c in long[2:])]
    assert len(spelling) > 2
    torch.testing.assert_close(after[new[long]], before[spelling].mean(0))
    torch.testing.assert_close(model.get_output_embeddings().bias[new[long]], bias[spelling].mean())
    both = [p for p in new if p in names and "<" not in p]
    assert len(both) > 100
    for piece in both:
        assert torch.equal(after[new[piece]], before[names[piece]])
    for piece in ("<s>", "<pad>", "</s>", "<unk>", "<mask>"):
        assert torch.equal(after[new[piece]], before[names[piece]])
    # input and output stay one tensor, here and after a way through a file
    assert model.get_output_embeddings().weight is after
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save(tmp_path / "saved")
    config = replace(SMALL, model=str(tmp_path / "saved"))
    read, _ = load_model(config)
    assert torch.equal(read.get_input_embeddings().weight, after)
    assert torch.equal(read.get_output_embeddings().bias, model.get_output_embeddings().bias)


def test_from_wordpieces_to_marked_spaces_and_back(tokenizer: CutTokenizer, tmp_path: Path) -> None:
    write_wordpiece_model(tmp_path, ["서울은 한국의 수도"], roberta=False, head="MaskedLM")
    old = load_cut_tokenizer(str(tmp_path))
    names, new = old.backend.get_vocab(), tokenizer.backend.get_vocab()
    rows = spelt(old, tokenizer)
    assert rows[new["<s>"]] == [names["[CLS]"]]
    assert rows[new["<mask>"]] == [names["[MASK]"]]
    assert rows[new["▁한국"]] == [names["한"], names["##국"]]
    assert rows[new["은"]] == [names["##은"]]  # it begins no word
    assert rows[new.get("龍", 3)] == [names["[UNK]"]]
    back = spelt(tokenizer, old)
    assert back[names["한"]] == [new["▁한"]]
    assert back[names["##은"]] == [new["은"]]
    assert all(rows)
    assert all(back)


def test_continued_with_another_vocabulary(vocabulary: Path, corpus: str, tmp_path: Path) -> None:
    """What the old model has learnt is a better start for the new vocabulary than nothing."""
    loop = replace(LOOP, max_steps=60, eval_every=60)
    small = VocabularyConfig(vocabulary=600, min_count=2)
    train_tokenizer(iter(DOCUMENTS), small, tmp_path / "first")
    first = replace(SMALL, tokenizer=str(tmp_path / "first"), loop=loop)
    pretrain(corpus, first, tmp_path / "base")
    second = replace(SMALL, model=str(tmp_path / "base"), tokenizer=str(vocabulary))
    known = task_of(second, corpus, tmp_path / "known").evaluate()
    unknown = task_of(replace(second, model=""), corpus, tmp_path / "unknown").evaluate()
    assert known["log_likelihood"] > unknown["log_likelihood"] + 0.3
    record = pretrain(corpus, replace(second, loop=replace(LOOP, max_steps=2)), tmp_path / "more")
    assert record["steps"] == 2


def test_what_does_not_fit_is_said(
    vocabulary: Path, corpus: str, tmp_path: Path, tokenizer: CutTokenizer
) -> None:
    given = replace(SMALL, tokenizer=str(vocabulary))
    with pytest.raises(UsageError, match="--model to go on from one, or --tokenizer"):
        pretrain(corpus, SMALL, tmp_path)
    for setting in (
        "kind=gpt", "best_by=loss", "hidden_share=0.0", "held_out=1.0", "heads=5", "layers=0",
        "max_length=4", "loop.batch_size=0",
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=setting.split("=")[0].replace(".", r"\.")):
            pretrain(corpus, set_values(given, [setting]), tmp_path)
    waiting = set_values(given, ["loop.patience=1"])
    with pytest.raises(UsageError, match=r"loop\.patience .*; give held_out above 0"):
        pretrain(corpus, replace(waiting, held_out=0.0), tmp_path)
    with pytest.raises(UsageError, match=r"loop\.patience .*; raise held_out"):
        pretrain(corpus, replace(waiting, held_out=1e-9), tmp_path)
    with pytest.raises(ConfigError, match="reads at most 64 pieces"):
        pretrain(corpus, replace(given, max_length=65), tmp_path)
    with pytest.raises(OdqaError, match="--model 'no/such"):
        load_model(replace(given, model="no/such/model"))
    with pytest.raises(OdqaError, match="--tokenizer 'no/such"):
        load_model(replace(given, tokenizer="no/such/tokenizer"))
    settings = transformers.RobertaConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=16, pad_token_id=0,
    )  # fmt: skip
    roberta = transformers.AutoModelForMaskedLM.from_config(settings)
    with pytest.raises(OdqaError, match="counts positions from its padding token 0"):
        take_vocabulary(roberta, tokenizer, tokenizer)
    assert not (tmp_path / "run.json").exists()


# From text to a reader ------------------------------------------------------------------------


def sizes() -> list[str]:
    values = {
        "layers": 2, "hidden_size": 32, "heads": 2, "intermediate_size": 48, "positions": 128,
        "max_length": 48, "held_out": 0.3, "held_out_sequences": 6,
    }  # fmt: skip
    return [part for k, v in values.items() for part in ("--set", f"{k}={v}")]


def reads_without_torch(example: Example) -> None:
    """The reader and its encoder, exported."""
    pytest.importorskip("onnx")
    for name in ("pretrain", "reader"):
        assert main(["train", "export", f"runs/{name}", "--output", f"exported/{name}"]) == 0
    assert not Path("exported/pretrain/odqa.json").exists()
    stored, _ = read_tensors(Path("exported/pretrain/weights.safetensors"))
    assert not [name for name in stored if name.startswith("cls.")]
    (states,) = OnnxTransformer(Path("exported/pretrain")).run([np.array([0, 9, 2], np.int32)])
    assert states.shape == (3, 32)
    config = ReaderConfig(model="exported/reader", max_length=96, stride=16, max_question_length=24)
    assert example.passage is not None
    given = [[Candidate(example.passage, 1.0, 0, "given")]]
    assert ExtractiveReader.load(config).read([example.question], given, k=1)[0]


def ranks(examples: list[Example]) -> None:
    """A second stage begins as the encoder, too."""
    texts = [example.passage.text for example in examples if example.passage is not None]
    lines = [
        json.dumps({"question": e.question, "positives": [texts[i]], "negatives": [texts[i - 1]]})
        for i, e in enumerate(examples)
    ]
    Path("ranked.jsonl").write_text("\n".join(lines), encoding="utf-8")
    command = ["train", "reranker", "--train", "ranked.jsonl", "--model", "runs/pretrain"]
    assert main([*command, "--set", "max_length=64", *set_loop()]) == 0


def test_the_documented_commands_work(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A vocabulary, an encoder that has it, a reader that begins as the encoder."""
    monkeypatch.chdir(tmp_path)
    Path("documents.jsonl").write_bytes(Path(corpus).read_bytes())
    examples = sample_examples(6)
    korquad(Path("my.json"), examples)
    write_wordpiece_model(
        Path("klue/roberta-base"), texts_of(examples), roberta=True, head="MaskedLM"
    )
    vocabulary, new, reader = documented("training.md", "## Pre-training on text")
    assert main([*vocabulary[1:], "--vocabulary", "700", "--set", "min_count=2"]) == 0
    loop = set_loop(max_steps=4, eval_every=2)
    assert main([*new[1:], *sizes(), *loop]) == 0
    assert "log_likelihood" in caplog.text
    short = ["--set", "max_length=96", "--set", "stride=16", "--set", "max_question_length=24"]
    assert main([*reader[1:], *short, *set_loop()]) == 0
    settings = json.loads(Path("runs/reader/odqa.json").read_text())
    assert settings["morphemes"] is True  # as the vocabulary was learnt
    # the encoder of the reader began as the one that was pretrained
    names = [n for n in weights_of(Path("runs/reader")) if ".layer.0." in n]
    assert names
    trained, begun = weights_of(Path("runs/reader")), weights_of(Path("runs/pretrain"))
    for name in names:
        assert np.abs(trained[name] - begun[name]).max() < 0.01, name
    assert len(load_cut_tokenizer("runs/reader").backend) == 700
    reads_without_torch(examples[0])
    ranks(examples)
    continued = documented("training.md", "To go on from an encoder")
    for command in continued:
        few = ["--set", "max_length=48", "--set", "held_out=0.3", *loop]
        assert main([*command[1:], *few]) == 0
