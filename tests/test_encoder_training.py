"""A sentence encoder is fine-tuned, and taught by another one's similarities."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import documented, set_loop
from conformance import check_encoder
from tiny_models import sample_examples, texts_of, write_bert, write_wordpiece_model

from odqa.build import create_encoder, create_reranker
from odqa.cli.main import main
from odqa.config import DenseConfig, RerankConfig
from odqa.errors import ConfigError, OdqaError, UsageError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from odqa.retrieval.cross_encoder import passage_text  # noqa: E402
from odqa.retrieval.rerank import EncoderReranker  # noqa: E402
from odqa.training import encoder as encoder_training  # noqa: E402
from odqa.training.encoder import (  # noqa: E402
    EncoderTask,
    EncoderTrainingConfig,
    load_encoder,
    train_encoder,
)
from odqa.training.loop_config import LoopConfig  # noqa: E402
from odqa.training.ranking import (  # noqa: E402
    RankingExample,
    ranking_figures,
    write_ranking_examples,
)
from odqa.training.similarity import SimilarityTeacherConfig, divergence  # noqa: E402

EXAMPLES = sample_examples(12)
PASSAGES = [e.passage for e in EXAMPLES if e.passage is not None]
TEXTS = [passage_text(passage) for passage in PASSAGES]
RANKING = [
    RankingExample(e.question, (TEXTS[i],), tuple(t for t in TEXTS if t != TEXTS[i])[:5])
    for i, e in enumerate(EXAMPLES)
]
LOOP = LoopConfig(
    max_steps=4, batch_size=4, learning_rate=1e-3, save_every=2, log_every=1, device="cpu",
    precision="fp32", threads=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder of e5's kind, four layers."""
    folder = tmp_path_factory.mktemp("base")
    write_bert(folder, texts_of(EXAMPLES), reader=False, layers=4)
    return folder


@pytest.fixture
def settings(base: Path) -> EncoderTrainingConfig:
    return EncoderTrainingConfig(
        model=str(base), question_prefix="query: ", passage_prefix="passage: ", max_length=64,
        negatives=2, hidden_dropout=0.0, attention_dropout=0.0, loop=LOOP,
    )  # fmt: skip


def task_of(
    config: EncoderTrainingConfig, examples: list[RankingExample] = RANKING, **given: Any
) -> EncoderTask:
    model, tokenizer = load_encoder(config)
    return EncoderTask(examples, config, model.eval(), tokenizer, **given)


def vectors_of(folder: str, config: EncoderTrainingConfig, **prefixes: str) -> Any:
    dense = DenseConfig(
        encoder=folder, max_length=config.max_length, device="cpu", precision="fp32", **prefixes
    )
    return create_encoder(dense)


def test_the_loss_by_hand(settings: EncoderTrainingConfig) -> None:
    task = task_of(settings, RANKING[:3])
    (batch,) = task.batches(0)
    groups = [task.groups.drawn(row, epoch) for row, epoch in batch]
    assert all(len(group) == 3 for group in groups)
    passages = [group[0] for group in groups] + [text for g in groups for text in g[1:]]
    encoder = vectors_of(
        settings.model, settings, question_prefix="query: ", passage_prefix="passage: "
    )
    asked = encoder.encode_questions([RANKING[row].question for row, _ in batch])
    given = encoder.encode_passages([PASSAGES[TEXTS.index(text)] for text in passages])
    scores = asked @ given.T / settings.temperature
    losses = []
    for i, (row, _) in enumerate(batch):
        others = [
            score
            for j, score in enumerate(scores[i])
            if j == i or passages[j] not in RANKING[row].positives
        ]
        top = max(others)
        losses.append(top + math.log(sum(math.exp(s - top) for s in others)) - scores[i, i])
    assert task.loss(batch).item() == pytest.approx(np.mean(losses), rel=1e-3)


def test_another_questions_positive_is_no_negative(settings: EncoderTrainingConfig) -> None:
    """Two questions of one passage: neither is pushed away from the other's copy of it."""
    shared = [RankingExample(question, (TEXTS[0],), (TEXTS[1],)) for question in ("가?", "나?")]
    task = task_of(replace(settings, negatives=1), shared)
    with torch.no_grad():
        vectors = task._vectors(["query: 가?", f"passage: {TEXTS[0]}", f"passage: {TEXTS[1]}"])
        (other,) = task._vectors(["query: 나?"])
    right, wrong, twice = (float(vectors[0] @ vectors[i]) / settings.temperature for i in (1, 2, 2))
    # the positive against its own negative and the other question's, which is the same text
    own = -right + np.logaddexp(right, np.logaddexp(wrong, twice))
    alone = EncoderTask(shared[:1], task.config, task.model, task._tokenizer)
    single = float(alone.loss([(0, 0)]).detach())
    assert single == pytest.approx(-right + np.logaddexp(right, wrong), abs=1e-3)
    both = [float(task.loss([(i, 0), (1 - i, 0)]).detach()) for i in (0, 1)]
    assert both[0] == pytest.approx(both[1], abs=1e-4)
    assert float(own) > single  # what the second copy of the negative adds, and nothing else
    right2, wrong2 = (float(other @ vectors[i]) / settings.temperature for i in (1, 2))
    second = -right2 + np.logaddexp(right2, wrong2 + math.log(2))
    assert both[0] == pytest.approx((float(own) + second) / 2, abs=1e-3)


def test_divergence_by_hand() -> None:
    student = torch.tensor([[0.0, 0.0]])
    taught = torch.tensor([[math.log(3.0), 0.0]])
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert divergence(student, taught).item() == pytest.approx(expected)
    assert divergence(taught, taught).item() == pytest.approx(0.0, abs=1e-7)


def test_figures_by_hand() -> None:
    examples = [
        RankingExample("가?", ("a",), ("b", "c")),
        RankingExample("나?", ("a", "b"), ("c",)),
    ]
    found = ranking_figures(examples, [0.2, 0.9, 0.1, 0.5, 0.1, 0.3], "ndcg@10")
    assert list(found) == ["ndcg@10", "mrr@10", "hit@1"]
    assert found["mrr@10"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["hit@1"] == 0.5
    tied = ranking_figures(examples[:1], [1.0, 1.0, 1.0], "mrr@10")
    assert tied["mrr@10"] == pytest.approx(1 / 3)  # no credit for saying nothing


def test_a_trained_encoder_is_an_encoder(settings: EncoderTrainingConfig, tmp_path: Path) -> None:
    loop = replace(LOOP, max_steps=60, learning_rate=2e-3, eval_every=20)
    config = replace(settings, loop=loop, temperature=0.1)
    before = task_of(config, dev=RANKING).evaluate()
    record = train_encoder(RANKING, config, tmp_path, dev=RANKING)
    assert record["kind"] == "encoder"
    assert record["dev"]["mrr@10"] > before["mrr@10"] + 0.1
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: sentence-similarity" in card
    assert "--set dense.encoder=" in card
    # pooling and prefixes are found beside the model
    encoder = vectors_of(str(tmp_path), config)
    check_encoder(encoder, [e.question for e in EXAMPLES], PASSAGES)
    scores = (
        encoder.encode_questions([e.question for e in EXAMPLES])
        @ encoder.encode_passages(PASSAGES).T
    )
    own = [
        float(scores[i, TEXTS.index(text)])
        for i, e in enumerate(RANKING)
        for text in (*e.positives, *e.negatives)
    ]
    assert ranking_figures(RANKING, own, "mrr@10")["mrr@10"] == pytest.approx(
        record["dev"]["mrr@10"]
    )
    reranker = create_reranker(RerankConfig(encoder=str(tmp_path)), DenseConfig(device="cpu"))
    assert isinstance(reranker, EncoderReranker)


def test_a_small_encoder_learns_a_large_ones_similarities(
    base: Path, settings: EncoderTrainingConfig, tmp_path: Path
) -> None:
    prefixes = {"question_prefix": "query: ", "passage_prefix": "passage: "}
    large = vectors_of(str(base), settings)  # as the teacher is asked: as its own files say
    taught = SimilarityTeacherConfig(str(base), weight=1.0, temperature=0.05, max_length=64)
    config = replace(
        settings, layers=2, keep="spread", teacher=taught, temperature=0.05,
        loop=replace(LOOP, max_steps=60),
    )  # fmt: skip
    questions = [e.question for e in EXAMPLES]

    def distance(student: Any) -> float:
        right, given = (
            torch.from_numpy(e.encode_questions(questions) @ e.encode_passages(PASSAGES).T) / 0.05
            for e in (large, student)
        )
        return float(divergence(given, right))

    cut, tokenizer = load_encoder(config)
    assert cut.config.num_hidden_layers == 2
    cut.save_pretrained(tmp_path / "cut")
    tokenizer.save_pretrained(tmp_path / "cut")
    train_encoder(RANKING, config, tmp_path / "taught")
    before = distance(vectors_of(str(tmp_path / "cut"), config, **prefixes))
    assert distance(vectors_of(str(tmp_path / "taught"), config)) < 0.5 * before


def test_a_continued_run_is_the_same(settings: EncoderTrainingConfig, tmp_path: Path) -> None:
    whole = train_encoder(RANKING, settings, tmp_path / "whole")
    cut = replace(settings, loop=replace(LOOP, keep_checkpoints=0))
    train_encoder(RANKING, cut, tmp_path / "cut")
    resumed = replace(cut, loop=replace(cut.loop, resume="checkpoint-2"))
    again = train_encoder(RANKING, resumed, tmp_path / "cut")
    assert again["loss"] == pytest.approx(whole["loss"], rel=1e-5)


def test_what_cannot_be_trained_is_said(
    settings: EncoderTrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for values, said in (
        ({"best_by": "f1"}, "best_by"), ({"negatives": -1}, "negatives must be 0"),
        ({"temperature": 0.0}, "temperature must be above 0"), ({"layers": 5}, "layers must lie"),
        ({"pooling": "max"}, "pooling"), ({"keep": "middle"}, "keep"),
        ({"teacher": SimilarityTeacherConfig("x", weight=2)}, r"teacher\.weight"),
        ({"teacher": SimilarityTeacherConfig("x", temperature=0)}, r"teacher\.temperature"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            train_encoder(RANKING, replace(settings, **values), tmp_path)  # type: ignore[arg-type]
    waiting = replace(settings, loop=replace(settings.loop, patience=1))
    with pytest.raises(UsageError, match=r"loop\.patience .*; give --dev"):
        train_encoder(RANKING, waiting, tmp_path)
    with pytest.raises(UsageError, match="training data has both"):
        train_encoder([RankingExample("가?", ("나",), ())], settings, tmp_path)
    with pytest.raises(OdqaError, match="cannot be loaded"):
        train_encoder(RANKING, replace(settings, model=str(tmp_path)), tmp_path)
    monkeypatch.setattr(encoder_training, "world_size", lambda: 2)
    with pytest.raises(UsageError, match="one process"):
        train_encoder(RANKING, settings, tmp_path)


def test_the_two_kinds_are_kept_apart(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, said in (
        ([], "--model to fine-tune"),
        (["--model", str(base), "--corpus", "sample"], "--model to fine-tune"),
        (["--corpus", "sample", "--dev", "x.jsonl"], "--dev is for --model"),
        (["--model", str(base), "--initial", "e5-small-ko"], "--initial and --judged-corpus"),
    ):
        assert main(["train", "encoder", *options, "--output", str(tmp_path)]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.slow
def test_the_documented_commands_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, build = (line[1:] for line in documented("training.md", "## An encoder of your own"))
    monkeypatch.chdir(tmp_path)
    write_wordpiece_model(Path("klue/roberta-base"), TEXTS, roberta=True, head="MaskedLM")
    Path("runs").mkdir()
    write_ranking_examples(RANKING[:9], Path("runs/negatives.jsonl"))
    write_ranking_examples(RANKING[9:], Path("runs/negatives-dev.jsonl"))
    assert main([*train, *set_loop(), "--set", "max_length=64"]) == 0
    run = json.loads(Path("runs/encoder/run.json").read_text(encoding="utf-8"))
    assert (run["n_questions"], run["n_dev"]) == (9, 3)
    lines = [
        json.dumps({"id": str(i), "title": p.title, "text": p.text}, ensure_ascii=False)
        for i, p in enumerate(PASSAGES[:4])
    ]
    Path("documents.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert main([*build, "--set", "dense.max_length=64", "--set", "dense.precision=fp32"]) == 0
