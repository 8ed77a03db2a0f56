"""Cross-encoders: as a second stage, trained, and the negatives they are trained on."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance import check_reranker, make_passage
from tiny_models import sample_examples, texts_of, write_bert, write_wordpiece_model

from odqa.build import create_reranker
from odqa.cli.main import main
from odqa.config import DenseConfig, RerankConfig
from odqa.errors import ConfigError, InputError, OdqaError, UsageError
from odqa.evaluation.judgements import RetrievalSet
from odqa.types import Candidate

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from odqa.retrieval.cross_encoder import (  # noqa: E402
    CrossEncoder,
    CrossEncoderReranker,
    is_cross_encoder,
    passage_text,
)
from odqa.retrieval.rerank import EncoderReranker  # noqa: E402
from odqa.training.loop_config import LoopConfig  # noqa: E402
from odqa.training.negatives import (  # noqa: E402
    Wanted,
    answerless,
    answers_stand_in,
    is_false_negative,
    mine_negatives,
    wanted_of,
    wanted_of_judged,
)
from odqa.training.ranking import (  # noqa: E402
    RankingExample,
    read_ranking_examples,
    write_ranking_examples,
)
from odqa.training.reranker import (  # noqa: E402
    RerankerTask,
    RerankerTrainingConfig,
    load_cross_encoder,
    train_reranker,
)

EXAMPLES = sample_examples(12)
TEXTS = [passage_text(e.passage) for e in EXAMPLES if e.passage is not None]
RANKING = [
    RankingExample(e.question, (TEXTS[i],), tuple(t for t in TEXTS if t != TEXTS[i])[:5])
    for i, e in enumerate(EXAMPLES)
]
DENSE = DenseConfig(device="cpu", precision="fp32", max_length=96)
LOOP = LoopConfig(
    max_steps=4, batch_size=3, learning_rate=1e-3, save_every=2, log_every=1, device="cpu",
    precision="fp32", threads=1,
)  # fmt: skip


@pytest.fixture(scope="module", params=[True, False], ids=["roberta", "bert"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cross")
    write_wordpiece_model(
        made, texts_of(EXAMPLES), roberta=request.param, head="SequenceClassification"
    )
    return made


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of klue/roberta-base's kind, as it comes from pretraining."""
    made = tmp_path_factory.mktemp("base")
    write_wordpiece_model(made, texts_of(EXAMPLES), roberta=True, head="MaskedLM")
    return made


@pytest.fixture
def settings(base: Path) -> RerankerTrainingConfig:
    return RerankerTrainingConfig(model=str(base), max_length=96, negatives=3, loop=LOOP)


def candidates(*scored: tuple[str, float]) -> list[Candidate]:
    passages = [make_passage(f"{i}#0", text, "제목") for i, (text, _) in enumerate(scored)]
    return [
        Candidate(passage, score, rank, "hybrid")
        for rank, (passage, (_, score)) in enumerate(zip(passages, scored, strict=True))
    ]


# The second stage -----------------------------------------------------------------------------


def test_scores_are_those_of_the_model_alone(folder: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    encoder = CrossEncoder.load(str(folder), DENSE)
    question = EXAMPLES[0].question
    pairs = [(question, text[:n]) for text in TEXTS[:3] for n in (20, 50, 5)]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for pair, score in zip(pairs, encoder.scores(pairs), strict=True):
        inputs = tokenizer(*pair, return_tensors="pt")
        if model.config.type_vocab_size == 1:
            del inputs["token_type_ids"]
        assert score == pytest.approx(float(model(**inputs).logits.detach()), abs=1e-5)
    small = CrossEncoder.load(str(folder), replace(DENSE, batch_tokens=1))
    np.testing.assert_allclose(small.scores(pairs), encoder.scores(pairs), atol=1e-5)
    assert encoder.scores([]).shape == (0,)
    # too long: cut, also where the question alone is
    assert np.isfinite(encoder.scores([("가 " * 300, "나 " * 300)])).all()


class Fixed(CrossEncoder):
    """Logits by the passage's text."""

    def __init__(self, logits: dict[str, float]) -> None:
        self._logits = logits

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Any:
        return np.array([self._logits[text.partition("\n")[2]] for _, text in pairs])


def test_scores_are_mixed_by_hand() -> None:
    found = candidates(("가", 10.0), ("나", 8.0), ("다", 5.0), ("라", 2.0))
    encoder = Fixed({"가": -4.0, "나": 6.0, "다": 1.0})
    reranker = CrossEncoderReranker(encoder, RerankConfig(encoder="x", depth=3, weight=0.75))
    (ranked,) = reranker.rerank(["질문"], [found])
    assert [c.passage.text for c in ranked] == ["나", "다", "가", "라"]
    # logits -4, 6, 1 are 0, 1, 0.5 when stretched; what is not seen has -1
    assert [c.score for c in ranked] == pytest.approx(
        [0.75 + 0.25 * 0.8, 0.75 * 0.5 + 0.25 * 0.5, 0.25, -0.75 + 0.25 * 0.2]
    )
    assert [c.rank for c in ranked] == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match=r"rerank\.depth"):
        CrossEncoderReranker(encoder, RerankConfig(depth=0))


def test_a_cross_encoder_conforms(folder: Path) -> None:
    reranker = create_reranker(RerankConfig(encoder=str(folder), depth=2), DENSE)
    assert isinstance(reranker, CrossEncoderReranker)
    found = candidates(("세종", 3.0), ("이순신", 2.0), ("장영실", 1.0))
    check_reranker(reranker, ["하나", "둘", "셋"], [found, [], found[:1]])


def test_an_encoder_stays_an_encoder(base: Path, tmp_path: Path) -> None:
    assert not is_cross_encoder(str(base))
    assert isinstance(create_reranker(RerankConfig(encoder=str(base)), DENSE), EncoderReranker)
    with pytest.raises(ConfigError, match=r"rerank\.encoder: unknown 'nothing'"):
        create_reranker(RerankConfig(encoder="nothing"))


def test_a_classifier_of_another_kind_is_refused(base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    kind = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    kind.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path)
    with pytest.raises(OdqaError, match=r"has one output, but .* has 3"):
        create_reranker(RerankConfig(encoder=str(tmp_path)), DENSE)


# Training -------------------------------------------------------------------------------------


def test_the_loss_by_hand(settings: RerankerTrainingConfig) -> None:
    model, tokenizer = load_cross_encoder(settings)
    model.eval()
    task = RerankerTask(RANKING[:2], settings, model, tokenizer)
    (batch,) = task.batches(0)
    assert sorted(row for row, _ in batch) == [0, 1]
    losses = []
    for row, epoch in batch:
        positive, *negatives = task.groups.drawn(row, epoch)
        assert positive in RANKING[row].positives
        assert len(negatives) == 3
        assert set(negatives) <= set(RANKING[row].negatives)
        scores = task._encoder().scores(
            [(RANKING[row].question, text) for text in (positive, *negatives)]
        )
        losses.append(-scores[0] + math.log(sum(math.exp(score) for score in scores)))
    assert task.loss(batch).item() == pytest.approx(sum(losses) / 2, abs=1e-5)
    assert task.groups.drawn(0, 0) == task.groups.drawn(0, 0)
    assert len({tuple(task.groups.drawn(0, epoch)) for epoch in range(20)}) > 5


def test_a_trained_reranker_is_a_second_stage(
    settings: RerankerTrainingConfig, tmp_path: Path
) -> None:
    loop = replace(LOOP, max_steps=80, learning_rate=5e-3, eval_every=20)
    # one passage answers every question: what so small a model can learn in a moment
    right, *wrong = dict.fromkeys(TEXTS)
    learnable = [RankingExample(e.question, (right,), tuple(wrong)) for e in EXAMPLES]
    record = train_reranker(learnable, replace(settings, loop=loop), tmp_path, dev=learnable)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[0] == pytest.approx(math.log(4), abs=0.7)  # one of four, at random
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert list(record["dev"]) == ["mrr@10", "ndcg@10", "hit@1"]
    assert record["dev"]["mrr@10"] == max(e["mrr@10"] for e in record["evaluations"].values())
    assert record["dev"]["mrr@10"] > 0.9
    assert "pipeline_tag: text-ranking" in (tmp_path / "README.md").read_text()
    reranker = create_reranker(RerankConfig(encoder=str(tmp_path), weight=1.0), DENSE)
    assert isinstance(reranker, CrossEncoderReranker)
    ranks = []
    for example in learnable:
        texts = (*example.negatives, *example.positives)
        titled = [text.partition("\n") for text in texts]
        found = [
            Candidate(make_passage(f"{i}#0", text, title), 1.0, i, "hybrid")
            for i, (title, _, text) in enumerate(titled)
        ]
        (ranked,) = reranker.rerank([example.question], [found])
        right = f"{len(texts) - 1}#0"
        ranks.append([c.passage.passage_id for c in ranked].index(right) + 1)
    assert np.mean([1 / rank for rank in ranks]) == pytest.approx(record["dev"]["mrr@10"])


def test_a_trained_cross_encoder_can_be_trained_further(folder: Path, tmp_path: Path) -> None:
    config = RerankerTrainingConfig(model=str(folder), max_length=64, loop=LOOP)
    assert train_reranker(RANKING, config, tmp_path)["steps"] == 4


def test_what_cannot_be_trained_is_said(settings: RerankerTrainingConfig, tmp_path: Path) -> None:
    alone = [RankingExample("질문", ("가",), ())]
    waiting = replace(settings, loop=replace(settings.loop, patience=1))
    with pytest.raises(UsageError, match=r"loop\.patience .*; give --dev"):
        train_reranker(RANKING, waiting, tmp_path)
    with pytest.raises(UsageError, match="training data has both"):
        train_reranker(alone, settings, tmp_path)
    with pytest.raises(UsageError, match="dev data has both"):
        train_reranker(RANKING, settings, tmp_path, dev=alone)
    with pytest.raises(ConfigError, match="best_by: unknown 'f1'"):
        train_reranker(RANKING, replace(settings, best_by="f1"), tmp_path)
    with pytest.raises(ConfigError, match="negatives must be 1"):
        train_reranker(RANKING, replace(settings, negatives=0), tmp_path)


def test_questions_and_passages_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    write_ranking_examples(RANKING, path)
    assert read_ranking_examples(path) == RANKING


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[]", "data.jsonl:2: must be a JSON object"),
        ("{", "data.jsonl:2: is no valid JSON"),
        ('{"question": " ", "positives": [], "negatives": []}', "field 'question'"),
        ('{"question": "가?", "positives": "나", "negatives": []}', "field 'positives'"),
        ('{"question": "가?", "positives": ["나"], "negatives": [1]}', "field 'negatives'"),
    ],
)
def test_bad_lines_are_said(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(f"\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(said)):
        read_ranking_examples(path)
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(InputError, match="holds no question"):
        read_ranking_examples(path)


# Negatives ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answers", "stands"),
    [
        ("《제2차 세계 대전》이 끝났다.", ["제2차 세계대전"], True),
        ("제2차\n세계대전이 끝났다.", ["제2차 세계 대전"], True),
        ("세종 대왕은 조선의 왕이다.", ["'세종대왕'"], True),
        ("인구는 128명이다.", ["28"], False),
        ("인구는 28명이다.", ["28"], True),
        ("구글(Google)의 언어이다.", ["Go"], False),
        ("이순신은 장군이다.", ["세종대왕"], False),
        ("아무 글이다.", [], False),
    ],
)
def test_answers_in_every_spelling(text: str, answers: list[str], stands: bool) -> None:
    assert answers_stand_in(text, answers) is stands


def test_false_negatives_by_hand() -> None:
    text = "거북선은 임진왜란 때 조선 수군이 쓴 배이다. 이순신이 만들게 하였고 용머리가 있다."
    wanted = Wanted(
        "거북선을 만든 이는?", (f"거북선\n{text}",), ("나대용",), frozenset({"7#1", "9"})
    )

    def doubted(passage_id: str, passage: str, title: str = "배") -> bool:
        made = make_passage(passage_id, passage, title)
        return is_false_negative(Candidate(made, 1.0, 0, "sparse"), wanted)

    assert not doubted("1#0", "판옥선은 조선 수군의 주력 전투함이다.")
    assert doubted("1#0", "군관 나 대용이 배를 지었다.")  # the answer, spaced otherwise
    assert doubted("1#0", "배를 지은 군관이다.", "나대용")  # in the title
    assert doubted("7#1", "판옥선은 조선 수군의 주력 전투함이다.")  # judged relevant
    assert not doubted("7#2", "판옥선은 조선 수군의 주력 전투함이다.")
    assert doubted("9#4", "판옥선은 조선 수군의 주력 전투함이다.")  # its article was
    assert doubted("1#0", text)  # a copy of the positive
    assert doubted("1#0", text[:40], "거북선")  # a part of it


class Ranked:
    """A retriever with one ranking."""

    def __init__(self, *texts: str) -> None:
        self.found = candidates(*((text, 1.0) for text in texts))

    def retrieve(self, questions: Sequence[str], *, k: int) -> list[list[Candidate]]:
        return [self.found[:k] for _ in questions]


def test_negatives_are_taken_in_turns() -> None:
    first = Ranked("하나의 글", "정답이 있는 글", "둘째의 글", "셋째의 글")
    second = Ranked("하나의 글", "다른 글", "둘째의 글")
    second.found = [
        replace(c, passage=replace(c.passage, passage_id=f"x{i}#0"))
        for i, c in enumerate(second.found)
    ]
    wanted = [Wanted("질문?", ("긍정의 글이며 길다",), ("정답",))]

    def texts(n: int, depth: int = 10) -> list[str]:
        (found,) = mine_negatives(wanted, [first, second], per_question=n, depth=depth)
        assert found.positives == wanted[0].positives
        return [text.partition("\n")[2] for text in found.negatives]

    assert texts(8) == ["하나의 글", "다른 글", "둘째의 글", "셋째의 글"]  # no text twice
    assert texts(2) == ["하나의 글", "다른 글"]
    assert texts(8, depth=1) == ["하나의 글"]


def test_negatives_for_a_reader() -> None:
    mined = [
        RankingExample("무엇?", ("그것\n이것",), ("가\n나\n다", "제목 없는 글")),
        RankingExample("누구?", (), ("라\n마",)),
        RankingExample("어디?", (), ()),
    ]
    found = answerless(mined, 9.0, seed=1)  # all there are
    read = [(e.question, e.answers, e.passage.title, e.passage.text) for e in found if e.passage]
    assert read == [
        ("무엇?", (), "가", "나\n다"), ("무엇?", (), "", "제목 없는 글"), ("누구?", (), "라", "마")
    ]  # fmt: skip
    assert len({e.question_id for e in found}) == 3
    assert answerless(mined, 0.0, seed=1) == []
    with pytest.raises(ConfigError, match="mined_negatives"):
        answerless(mined, -2.0, seed=1)
    many = [mined[0]] * 400
    assert 160 <= len(answerless(many, 0.5, seed=1)) <= 240
    assert 560 <= len(answerless(many, 1.5, seed=1)) <= 640
    assert answerless(many, 0.5, seed=1) == answerless(many, 0.5, seed=1)


def test_questions_of_a_reading_set() -> None:
    found = wanted_of([*EXAMPLES, replace(EXAMPLES[0], answers=())])
    assert len(found) == len(EXAMPLES)
    assert found[0].positives == (TEXTS[0],)
    assert found[0].relevant == {EXAMPLES[0].passage.passage_id}  # type: ignore[union-attr]


def test_judged_questions_take_their_positives_from_the_ranking(tmp_path: Path) -> None:
    ranked = Ranked("첫째 문단", "둘째 문단", "셋째 문단", "넷째 문단")
    ids = ("5#1", "7#0", "5#0", "6#2")
    ranked.found = [
        replace(c, passage=replace(c.passage, passage_id=i))
        for c, i in zip(ranked.found, ids, strict=True)
    ]
    judged = RetrievalSet({"q": "질문?"}, {"q": {"5": 1, "6#2": 2, "7": 0, "8": 1}})
    (found,) = mine_negatives(wanted_of_judged(judged), [ranked])
    # the best passage of article 5, and passage 6#2; the other of article 5 is neither
    assert found.positives == ("제목\n첫째 문단", "제목\n넷째 문단")
    assert found.negatives == ("제목\n둘째 문단",)


@pytest.mark.slow
def test_the_documented_commands_work(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
    text = page[page.index("## A second stage") :]
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[:2]
    mine, mine_dev, train, ask, train_a_reader = (
        shlex.split(line, comments=True)[1:]
        for block in blocks
        for line in block.splitlines()
        if line
    )
    monkeypatch.chdir(tmp_path)
    write_wordpiece_model(Path("klue/roberta-base"), TEXTS, roberta=True, head="MaskedLM")
    for name, chosen in (("my.jsonl", EXAMPLES[:9]), ("my-dev.jsonl", EXAMPLES[9:])):
        lines = [
            {"id": e.question_id, "question": e.question, "answers": e.answers,
             "title": e.passage.title, "context": e.passage.text}
            for e in chosen if e.passage is not None
        ]  # fmt: skip
        text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
        Path(name).write_text(text, encoding="utf-8")
    assert main(["build-index", "sample"]) == 0
    Path("indexes/sample").rename("indexes/documents")
    assert main(mine) == 0
    assert main(mine_dev) == 0
    found = read_ranking_examples(Path("runs/negatives.jsonl"))
    assert [e.question for e in found] == [e.question for e in EXAMPLES[:9]]
    for example, gold in zip(found, EXAMPLES, strict=False):
        assert 1 <= len(example.negatives) <= 8
        assert not any(answers_stand_in(text, gold.answers) for text in example.negatives)
        assert not set(example.negatives) & set(example.positives)
    quick = ["--set", "loop.max_steps=2", "--set", "loop.precision=fp32", "--set", "max_length=96"]
    assert main([*train, *quick]) == 0
    run = json.loads(Path("runs/reranker/run.json").read_text())
    assert (run["n_questions"], run["n_dev"]) == (9, 3)
    capsys.readouterr()
    assert main([*ask, "--json", "--set", "rerank.depth=4", "--set", "dense.precision=fp32"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])
    short = ["--set", "stride=8", "--set", "max_question_length=24", "--set", "mined_negatives=1"]
    assert main([*train_a_reader, *quick, *short]) == 0
    run = json.loads(Path("runs/reader/run.json").read_text())
    assert run["n_questions"] == 18
    assert [(f["role"], f["n"]) for f in run["data"]] == [("train", 9), ("negatives", 9)]


def test_write_bert_is_no_cross_encoder(tmp_path: Path) -> None:
    write_bert(tmp_path, TEXTS[:1], reader=True)
    assert not is_cross_encoder(str(tmp_path))
