"""Data sets and judgements: what is read from each format, and what a bad file is told."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from odqa.config import CorpusConfig
from odqa.corpus import read_documents, split_passages
from odqa.corpus.datasets import read_examples
from odqa.errors import InputError, UsageError
from odqa.evaluation.judgements import RetrievalSet, read_qrels, read_retrieval_set, read_topics
from odqa.store import PassageStore, PassageWriter
from odqa.types import Document

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
CONTEXT = "훈민정음은 세종이 1443년에 만들었다. 세종은 조선의 임금이다."


def write_korquad(path: Path, questions: list[Any], context: str = CONTEXT) -> Path:
    paragraph = {"context": context, "qas": questions}
    data = {"data": [{"title": "훈민정음", "paragraphs": [paragraph]}]}
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    return path


def question(**changes: Any) -> dict[str, Any]:
    answers = [{"text": "세종", "answer_start": CONTEXT.rindex("세종")}]
    return {"id": "q1", "question": "누구인가?", "answers": answers, **changes}


def test_korquad(tmp_path: Path) -> None:
    (example,) = read_examples(write_korquad(tmp_path / "x.json", [question()]))
    assert (example.question_id, example.question, example.answers) == (
        "q1",
        "누구인가?",
        ("세종",),
    )
    assert example.passage is not None
    assert (example.passage.text, example.passage.title) == (CONTEXT, "훈민정음")
    assert example.answer_starts == (CONTEXT.rindex("세종"),)  # the second one, as the file says


def test_korquad_offsets_survive_composition(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", CONTEXT)
    start = decomposed.rindex(unicodedata.normalize("NFD", "임금"))
    answer = {"text": unicodedata.normalize("NFD", "임금"), "answer_start": start}
    path = write_korquad(tmp_path / "x.json", [question(answers=[answer])], decomposed)
    (example,) = read_examples(path)
    assert example.passage is not None
    assert example.passage.text == CONTEXT
    assert example.answer_starts == (CONTEXT.index("임금"),)


def test_klue_kinds_of_questions(tmp_path: Path) -> None:
    plain = {"question": "누구인가?", "guid": "k1", "question_type": 1}
    told = plain | {"answers": [{"text": "세종", "answer_start": 6}] * 2}
    impossible = plain | {"guid": "k2", "is_impossible": True, "question_type": 3, "answers": []}
    first, second = read_examples(write_korquad(tmp_path / "x.json", [told, impossible]))
    assert first.answers == ("세종",)  # said twice, one answer
    assert (second.answers, second.metadata) == ((), {"question_type": 3})


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"id": 7, "question": "?", "answers": []}, "'id'"),
        ({"id": "q", "answers": []}, "'question'"),
        ({"id": "q", "question": "?", "answers": "세종"}, "'answers'"),
        ({"id": "q", "question": "?", "answers": [{"answer_start": 3}]}, "'text'"),
    ],
)
def test_bad_korquad_question(tmp_path: Path, record: dict[str, Any], said: str) -> None:
    path = write_korquad(tmp_path / "x.json", [record])
    with pytest.raises(InputError, match=said) as error:
        read_examples(path)
    assert "x.json" in str(error.value)
    assert "question 0 of the context '0-0'" in str(error.value)


def test_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "dev.jsonl"
    nfd = unicodedata.normalize("NFD", "세종")
    records = [
        {"id": "1", "question": "누구?", "answers": [nfd], "doc_id": "7"},
        {"id": "2", "question": "언제?", "answers": ["1443년", "천사백"], "context": CONTEXT},
        {"id": "3", "question": "왜?", "answers": []},
    ]
    path.write_text("\n".join(json.dumps(r) for r in records), encoding="utf-8")
    first, second, third = read_examples(tmp_path, "dev")
    assert (first.answers, first.passage, first.metadata) == (("세종",), None, {"doc_id": "7"})
    assert second.passage is not None
    assert second.answer_starts == (CONTEXT.index("1443년"),)
    assert third.answers == ()
    judged = read_retrieval_set(path)
    assert judged.qrels == {"1": {"7": 1}}
    assert judged.n_unjudged == 2  # the context of the second stands in no index under an id
    assert judged.answers == {"1": ("세종",)}


def test_contexts_of_jsonl_judge_no_passage(tmp_path: Path) -> None:
    """An index that is built of articles gives the passage another id, if it has it at all."""
    path = tmp_path / "x.jsonl"
    record = {"id": "q", "question": "언제?", "answers": ["1443년"], "context": CONTEXT}
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(InputError, match=r'x\.jsonl: judges nothing relevant .* "doc_id"'):
        read_retrieval_set(path)
    decomposed = unicodedata.normalize("NFD", "글")
    path.write_text(json.dumps(record | {"doc_id": decomposed}), encoding="utf-8")
    judged = read_retrieval_set(path)
    assert judged.qrels == {"q": {"글": 1}}
    with pytest.raises(UsageError, match="--level article"):
        judged.at_level("passage")


def test_an_index_of_korquad_has_the_gold_passages(tmp_path: Path) -> None:
    path = write_korquad(tmp_path / "x.json", [question()])
    with PassageWriter(tmp_path / "passages") as writer:
        for document in read_documents(path):
            writer.add(document, split_passages(document, CorpusConfig()))
    store = PassageStore.open(tmp_path / "passages")
    judged = read_retrieval_set(path)
    assert judged.relevant() == [("q1", "0-0#0")]
    assert judged.absent_from(store, "passage") == []
    assert judged.at_level("article").absent_from(store, "article") == []


def test_what_an_index_does_not_hold(tmp_path: Path) -> None:
    with PassageWriter(tmp_path / "passages") as writer:
        for document in (Document("a", "가", CONTEXT), Document("empty", "나", "")):
            writer.add(document, split_passages(document, CorpusConfig()))
    store = PassageStore.open(tmp_path / "passages")
    judged = RetrievalSet(
        {"1": "?", "2": "?"},
        {"1": {"a#0": 1, "a#1": 2, "b#0": 0}, "2": {"a": 1, "empty#0": 1}},
    )
    assert judged.absent_from(store, "passage") == [("1", "a#1"), ("2", "a"), ("2", "empty#0")]
    assert judged.at_level("article").absent_from(store, "article") == [("2", "empty")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "x.jsonl:2: is not valid JSON"),
        ("[]", "x.jsonl:2: must be an object"),
        ('{"id": "a", "question": " ", "answers": []}', "x.jsonl:2: field 'question'"),
        ('{"id": "a", "answers": []}', "x.jsonl:2: field 'question': is missing"),
        ('{"id": "a", "question": "?"}', "x.jsonl:2: field 'answers': is missing"),
        ('{"id": "a", "question": "?", "answers": [1]}', "x.jsonl:2: field 'answers'"),
        ('{"id": "a", "question": "?", "answers": [" "]}', "x.jsonl:2: field 'answers'"),
        ('{"id": "1", "question": "?", "answers": []}', "x.jsonl:2: field 'id': '1' occurs"),
    ],
)
def test_bad_jsonl(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(f'{{"id": "1", "question": "?", "answers": []}}\n{line}\n', encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_examples(path)
    assert said in str(error.value)


def test_missing_data_sets(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such data set"):
        read_examples(tmp_path / "nowhere")
    (tmp_path / "test.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"has no dev\.json or dev\.jsonl; it holds test\.jsonl"):
        read_examples(tmp_path, "dev")
    with pytest.raises(InputError, match="holds no question"):
        read_examples(tmp_path, "test")
    (tmp_path / "x.csv").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="unknown kind of data set"):
        read_examples(tmp_path / "x.csv")
    with pytest.raises(UsageError, match="no split 'test'"):
        read_examples("sample", "test")


@pytest.mark.parametrize("split", ["train", "dev"])
def test_sample(split: str) -> None:
    examples = read_examples("sample", split, corpus=CorpusConfig(passage_chars=300))
    assert len(examples) > 100
    assert any(not example.answers for example in examples)
    for example in examples:
        assert (example.passage is None) == (not example.answers)
        if example.passage is not None:
            (start,) = example.answer_starts
            answer = example.answers[0]
            assert example.passage.text[start : start + len(answer)] == answer
    judged = read_retrieval_set("sample", split)
    assert judged.n_unjudged == sum(not example.answers for example in examples)


def write_judged(folder: Path, topics: str, qrels: str) -> Path:
    (folder / "dev.topics.tsv").write_text(topics, encoding="utf-8")
    (folder / "dev.qrels.tsv").write_text(qrels, encoding="utf-8")
    return folder


def test_topics_and_qrels(tmp_path: Path) -> None:
    qrels = "6 Q0 10#8 1\n6 Q0 10#2 2\n6\tQ0\t7#0\t0\n9 Q0 3#1 1\n"
    folder = write_judged(tmp_path, "6\t몇 년도?\n9\t누구?\n11\t어디?\n", qrels)
    judged = read_retrieval_set(folder, "dev")
    assert judged.topics == {"6": "몇 년도?", "9": "누구?"}
    assert judged.n_unjudged == 1
    assert judged.qrels["6"] == {"10#8": 1, "10#2": 2, "7#0": 0}
    assert judged.at_level("article").qrels["6"] == {"10": 2, "7": 0}
    assert judged.at_level("passage") is judged
    with pytest.raises(UsageError, match="passage, article"):
        judged.at_level("sentence")
    assert read_retrieval_set(folder / "dev.topics.tsv").qrels == judged.qrels


def test_articles_judged_are_not_passages(tmp_path: Path) -> None:
    judged = read_retrieval_set(write_judged(tmp_path, "6\t몇 년도?\n", "6 Q0 10 1\n"), "dev")
    with pytest.raises(UsageError, match="--level article"):
        judged.at_level("passage")


@pytest.mark.parametrize(
    ("topics", "qrels", "said"),
    [
        ("6 몇 년도?\n", "6 Q0 10 1\n", "dev.topics.tsv:1: expected 2 columns"),
        ("6\t몇?\n6\t몇?\n", "6 Q0 10 1\n", "dev.topics.tsv:2: field 'id'"),
        ("\n", "6 Q0 10 1\n", "dev.topics.tsv: holds no question"),
        ("6\t몇?\n", "6 10 1\n", "dev.qrels.tsv:1: expected 4 columns"),
        ("6\t몇?\n", "6 Q0 10 yes\n", "dev.qrels.tsv:1: field 'grade'"),
        ("6\t몇?\n", "7 Q0 10 1\n", "judges nothing relevant"),
    ],
)
def test_bad_topics_and_qrels(tmp_path: Path, topics: str, qrels: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        read_retrieval_set(write_judged(tmp_path, topics, qrels), "dev")
    assert said in str(error.value)


def test_endings_may_be_in_capitals(tmp_path: Path) -> None:
    folder = write_judged(tmp_path, "1\t서울은?\n", "1 0 7#0 1\n")
    for name in ("topics", "qrels"):
        path = folder / f"dev.{name}.tsv"
        path.rename(folder / f"dev.{name.upper()}.TSV")
    for given in (folder, folder / "dev.TOPICS.TSV"):
        assert read_retrieval_set(given).topics == {"1": "서울은?"}
    line = json.dumps({"id": "1", "question": "가?", "answers": ["나"]}, ensure_ascii=False)
    (folder / "dev.JSONL").write_text(line, "utf-8")
    for given in (folder, folder / "dev.JSONL"):
        assert [example.question_id for example in read_examples(given)] == ["1"]


def test_missing_qrels(tmp_path: Path) -> None:
    (tmp_path / "dev.topics.tsv").write_text("6\t몇?\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"dev\.qrels\.tsv"):
        read_retrieval_set(tmp_path, "dev")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not here")
def test_real_data_sets() -> None:
    korquad = read_examples(SHARED / "korquad1", "dev")
    assert len(korquad) == 951
    assert all(example.answer_starts for example in korquad)
    assert len(read_examples(SHARED / "klue_mrc_like", "train")) == 1645
    assert len(read_examples(SHARED / "xor-tydi-ko", "dev")) == 215
    assert len(read_topics(SHARED / "miracl-ko" / "dev.topics.tsv")) == 155
    assert set(read_qrels(SHARED / "miracl-ko" / "dev.qrels.tsv")) == set(
        read_retrieval_set(SHARED / "miracl-ko", "dev").topics
    )
