"""The command line over a real index; the reader is a small one, put in by a row of the table."""

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest
from conftest import Run
from rich.cells import cell_len
from small_components import LastWordReader

from odqa import __version__
from odqa.build import components

READER = (
    *("--set", "reader.model=last-word", "--retriever", "sparse"),
    *("--set", "fusion.retrieval_weight=1", "--set", "fusion.no_answer_bias=0"),
)


def environment() -> dict[str, str]:
    root = str(Path(components.__file__).parents[2])
    return {**os.environ, "PYTHONPATH": root, "COLUMNS": "40"}


def start(home: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "odqa", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=home, env=environment(), stdin=pipe, stdout=pipe, stderr=pipe
    )


def test_version(odqa: Run) -> None:
    assert odqa("--version") == (0, f"odqa {__version__}\n", "")


def test_no_command_is_bad_usage(odqa: Run) -> None:
    code, out, err = odqa()
    assert (code, out) == (2, "")
    assert "usage: odqa" in err


@pytest.mark.parametrize("command", ["build-index", "search", "ask", "evaluate"])
def test_every_command_has_help_and_the_common_options(odqa: Run, command: str) -> None:
    code, out, _ = odqa(command, "--help")
    assert code == 0
    for option in ("--config", "--set", "--debug", "--json", "--indexes-dir"):
        assert option in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--help",), "build-index"),
        (("ask", "--help"), "--top-n"),
        (("evaluate", "--help"), "--level"),
    ],
)
def test_help_loads_no_heavy_library(home: Path, arguments: tuple[str, ...], said: str) -> None:
    """That is what makes it quick: these take from a tenth of a second to several."""
    command = [sys.executable, "-X", "importtime", "-m", "odqa", *arguments]
    done = subprocess.run(command, cwd=home, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0
    assert said in done.stdout
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "odqa" in loaded  # the list is there
    heavy = {"numpy", "rich", "torch", "transformers", "tokenizers", "onnxruntime", "faiss"}
    assert not loaded & (heavy | {"bm25s", "numba", "datasets", "MeCab", "scipy"})


def test_build_index_prints_the_path_and_json_the_counts(odqa: Run, home: Path) -> None:
    command = ("build-index", "small.jsonl", "--retriever", "sparse", "--name", "other", "--force")
    other = ("--indexes-dir", "others")
    code, out, err = odqa(*command, *other)
    assert (code, out) == (0, "others/other\n")
    assert "odqa: " in err  # progress
    code, out, _ = odqa(*command, *other, "--json")
    values = json.loads(out)
    assert code == 0
    assert (values["index"], values["documents"], values["passages"]) == ("other", 3, 3)
    assert values["legs"] == ["sparse"]


def test_a_plan_builds_nothing(odqa: Run, home: Path) -> None:
    command = ("build-index", "small.jsonl", "--retriever", "sparse", "--plan")
    place = ("--indexes-dir", "planned")
    code, out, _ = odqa(*command, *place)
    assert code == 0
    assert re.search(r"^articles +3$", out, re.MULTILINE)
    for name in ("passages", "time", "disk", "memory"):
        assert re.search(rf"^{name} +\d", out, re.MULTILINE)
    plan = json.loads(odqa(*command, *place, "--json")[1])
    assert (plan["documents"], plan["passages"]) == (3, 3)
    assert not (home / "planned").exists()


def test_search_for_a_person(odqa: Run) -> None:
    code, out, err = odqa("search", "거북선", "제작", "--retriever", "sparse")
    assert (code, err) == (0, "")
    first, second, *_ = out.splitlines()
    assert "거북선" in first
    assert "2#0" in first
    assert second.startswith("     거북선은 조선 수군의 배이다.")


def test_search_json_is_one_object(odqa: Run) -> None:
    code, out, _ = odqa("search", "거북선 제작", "--retriever", "sparse", "--json", "--top-k", "1")
    values = json.loads(out)
    assert code == 0
    assert values["id"] == "1"
    (candidate,) = values["candidates"]
    assert (candidate["rank"], candidate["passage_id"], candidate["source"]) == (1, "2#0", "sparse")


@pytest.mark.parametrize("ending", ["tsv", "jsonl"])
def test_search_writes_a_trec_run(odqa: Run, home: Path, ending: str) -> None:
    questions = {"q1": "제작", "q2": "글자", "q3": "없는낱말"}
    lines = {
        "tsv": [f"{name}\t{text}" for name, text in questions.items()],
        "jsonl": [json.dumps({"id": n, "question": t}) for n, t in questions.items()],
    }
    file = home / f"questions.{ending}"
    file.write_text("\ufeff" + "\r\n".join(lines[ending]) + "\r\n\r\n", encoding="utf-8")
    base = ("search", "--questions", str(file), "--retriever", "sparse")
    code, out, _ = odqa(*base, "--output", "runs/new/run.trec")
    assert (code, out) == (0, "")
    run = [line.split(" ") for line in (home / "runs/new/run.trec").read_text().splitlines()]
    assert [(r[0], r[1], r[2], r[3], r[5]) for r in run] == [
        ("q1", "Q0", "2#0", "1", "odqa-sparse"),
        ("q1", "Q0", "3#0", "2", "odqa-sparse"),
        ("q2", "Q0", "1#0", "1", "odqa-sparse"),
    ]
    assert all(float(r[4]) > 0 for r in run)
    assert odqa(*base)[1] == (home / "runs/new/run.trec").read_text()  # to stdout without --output
    assert [r["id"] for r in json.loads(odqa(*base, "--json")[1])["results"]] == ["q1", "q2", "q3"]


def test_top_k_lines_a_question(odqa: Run, home: Path) -> None:
    (home / "one.tsv").write_text("q\t조선 제작 비", encoding="utf-8")
    base = ("search", "--questions", "one.tsv", "--retriever", "sparse")
    assert len(odqa(*base)[1].splitlines()) == 3
    assert len(odqa(*base, "--top-k", "2")[1].splitlines()) == 2


def test_ask_for_a_person(odqa: Run) -> None:
    code, out, err = odqa("ask", "거북선 제작 누구", *READER)
    assert (code, err) == (0, "")
    answer, evidence, source = out.splitlines()
    assert re.fullmatch(r"이순신  \d+\.\d%", answer)
    assert evidence == "  거북선 제작 【이순신】"
    assert source == "  — 거북선 (2#0)"


def test_ask_more_answers(odqa: Run) -> None:
    code, out, _ = odqa("ask", "제작", "--top-n", "2", *READER)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if "%" in line] == ["이순신", "장영실"]


def test_ask_explains_every_score(odqa: Run) -> None:
    code, out, _ = odqa("ask", "거북선 제작", "--explain", *READER)
    assert code == 0
    for word in ("Passages read", "Evidence of each answer", "fused", "reader", "sparse", "2#0"):
        assert word in out
    assert "probability that none of the readings is right" in out


def test_ask_json_is_the_contract(odqa: Run) -> None:
    code, out, err = odqa("ask", "거북선 제작 누구", "--json", *READER)
    assert (code, err) == (0, "")
    values = json.loads(out)
    assert list(values) == ["id", "question", "no_answer_probability", "seconds", "answers"]
    answers = values["answers"]
    assert [answer["text"] for answer in answers] == ["이순신", "장영실"]
    assert [a["score"] for a in answers] == sorted((a["score"] for a in answers), reverse=True)
    total = values["no_answer_probability"] + sum(answer["probability"] for answer in answers)
    assert total == pytest.approx(1)
    for answer in answers:
        for evidence in answer["evidence"]:
            assert set(evidence) == {"passage_id", "doc_id", "title", "text", "start", "end"}
            assert evidence["text"][evidence["start"] : evidence["end"]] == answer["text"]


def test_nothing_found(odqa: Run) -> None:
    assert odqa("ask", "qqqq", *READER)[:2] == (0, "no answer found\n")
    values = json.loads(odqa("ask", "qqqq", "--json", *READER)[1])
    assert (values["answers"], values["no_answer_probability"]) == ([], 1.0)
    assert odqa("search", "qqqq", "--retriever", "sparse")[:2] == (0, "no passage found\n")


def test_two_runs_give_the_same_bytes_and_so_does_one_by_one(odqa: Run, home: Path) -> None:
    asked = ["측우기 제작", "거북선 제작", "훈민정음 창제", "qqqq"]
    lines = [f"q{n}\t{text}" for n, text in enumerate(asked)]
    (home / "same.tsv").write_text("\n".join(lines), encoding="utf-8")
    written = []
    for name in ("first.jsonl", "second.jsonl"):
        batch = ("ask", "--questions", "same.tsv", "--no-timing", *READER)
        assert odqa(*batch, "--output", name)[0] == 0
        written.append((home / name).read_bytes())
    assert written[0] == written[1]
    for number, line in enumerate(written[0].decode().splitlines()):
        (home / "one.tsv").write_text(lines[number], encoding="utf-8")
        alone = odqa("ask", "--questions", "one.tsv", "--no-timing", *READER)[1]
        assert alone == f"{line}\n"
        assert json.loads(line)["seconds"] is None


def test_ask_a_batch_in_input_order(odqa: Run, home: Path) -> None:
    lines = [f"q{n}\t{text} 제작" for n, text in enumerate(["측우기", "거북선"] * 40)]
    (home / "batch.tsv").write_text("\n".join(lines), encoding="utf-8")
    base = ("ask", "--questions", "batch.tsv", *READER)
    code, out, _ = odqa(*base, "--output", "answers.jsonl")
    assert (code, out) == (0, "")
    records = [json.loads(line) for line in (home / "answers.jsonl").read_text().splitlines()]
    assert [record["id"] for record in records] == [f"q{n}" for n in range(80)]
    assert {record["answers"][0]["text"] for record in records[::2]} == {"장영실"}
    assert {record["answers"][0]["text"] for record in records[1::2]} == {"이순신"}
    code, out, _ = odqa(*base, "--output", "answers.jsonl", "--json")
    assert json.loads(out)["questions"] == 80
    assert len(odqa(*base)[1].splitlines()) == 80
    assert len(json.loads(odqa(*base, "--json")[1])["results"]) == 80


def test_decomposed_hangul_gives_the_same(odqa: Run) -> None:
    composed = json.loads(odqa("ask", "거북선 제작", "--json", *READER)[1])
    question = unicodedata.normalize("NFD", "거북선 제작")
    decomposed = json.loads(odqa("ask", question, "--json", *READER)[1])
    assert decomposed["answers"] == composed["answers"]


def test_lines_on_stdin(odqa: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "거북선 제작\n\n측우기 제작\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    code, out, _ = odqa("ask", "--json", *READER)
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [(r["id"], r["answers"][0]["text"]) for r in records] == [
        ("1", "이순신"),
        ("3", "장영실"),
    ]


def test_given_passages_instead_of_an_index(odqa: Run, home: Path) -> None:
    passage = {"id": "새글#7", "title": "새 글", "text": "앙부일구 제작 장영실"}
    (home / "given.jsonl").write_text(json.dumps(passage), encoding="utf-8")
    command = ("ask", "앙부일구 제작", "--json", "--passages", "given.jsonl")
    code, out, _ = odqa(*command, "--indexes-dir", "nowhere", *READER)
    (answer,) = json.loads(out)["answers"]
    assert code == 0
    assert answer["text"] == "장영실"
    assert answer["evidence"][0]["passage_id"] == "새글#7"
    assert answer["evidence"][0]["doc_id"] == "새글"
    assert answer["evidence"][0]["text"] == passage["text"]


def test_a_yes_no_question(odqa: Run, home: Path) -> None:
    text = "앙부일구는 해시계이다. 장영실이 만들었다."
    passage = {"id": "새글#7", "title": "앙부일구", "text": text}
    (home / "given.jsonl").write_text(json.dumps(passage), encoding="utf-8")
    command = ("ask", "앙부일구는 해시계인가요?", "--passages", "given.jsonl", *READER)
    record = json.loads(odqa(*command, "--json")[1])
    assert [answer["text"] for answer in record["answers"]] == ["yes", "no"]
    (evidence,) = record["answers"][0]["evidence"]
    assert (evidence["start"], evidence["end"]) == (None, None)
    assert evidence["sentence"] == "앙부일구는 해시계이다."
    shown = odqa(*command, "--explain")[1]
    assert shown.startswith("예  ")
    assert "앙부일구는 해시계이다." in shown
    left_to_the_reader = json.loads(odqa(*command, "--json", "--set", "reader.yes_no=false")[1])
    assert left_to_the_reader["answers"][0]["text"] == "만들었다."


def test_evaluate_open(odqa: Run, home: Path) -> None:
    questions = [("a", "거북선 제작", "이순신"), ("b", "측우기 제작", "아무개")]
    lines = [json.dumps({"id": i, "question": q, "answers": [a]}) for i, q, a in questions]
    (home / "set.jsonl").write_text("\n".join(lines), encoding="utf-8")
    command = ("evaluate", "--dataset", "set.jsonl", "--json", *READER)
    code, out, _ = odqa(*command, "--output", "runs/one")
    figures = json.loads(out)
    assert code == 0
    assert (figures["task"], figures["dataset"], figures["n"]) == ("open", "set.jsonl", 2)
    assert figures["exact_match"] == 50.0
    assert json.loads((home / "runs/one/predictions.json").read_text()) == {
        "a": "이순신",
        "b": "장영실",
    }
    assert json.loads((home / "runs/one/metrics.json").read_text()) == figures
    assert (home / "runs/one/report.html").is_file()
    code, out, _ = odqa(*command, "--output", "runs/two", "--compare", "runs/one")
    assert json.loads(out)["comparison"]["mcnemar"]["p_value"] == 1.0


def test_evaluate_retrieval_by_article(odqa: Run, home: Path) -> None:
    folder = home / "judged"
    folder.mkdir()
    (folder / "dev.topics.tsv").write_text("q\t거북선 제작\n", encoding="utf-8")
    (folder / "dev.qrels.tsv").write_text("q 0 2#9 1\n")
    base = ("evaluate", "--task", "retrieval", "--dataset", "judged", "--retriever", "sparse")
    code, out, _ = odqa(*base, "--level", "article", "--json", "--output", "runs/retrieval")
    assert code == 0
    assert json.loads(out)["ndcg@10"] == 1.0
    assert (home / "runs/retrieval/run.trec").read_text().startswith("q Q0 2#0 1 ")


def test_relevant_passages_that_are_not_in_the_index(odqa: Run, home: Path) -> None:
    folder = home / "elsewhere"
    folder.mkdir()
    (folder / "dev.topics.tsv").write_text("q\t거북선 제작\np\t측우기 제작\n", encoding="utf-8")
    (folder / "dev.qrels.tsv").write_text("q 0 2#0 1\nq 0 2#9 1\nq 0 8#0 0\np 0 3#0 1\n")
    base = ("evaluate", "--task", "retrieval", "--dataset", "elsewhere", "--retriever", "sparse")
    code, out, err = odqa(*base, "--json", "--output", "runs/elsewhere")
    figures = json.loads(out)
    assert code == 0
    assert "does not hold 1 of the 3 passages judged relevant (such as '2#9' for " in err
    assert "the question 'q')" in err
    assert (figures["n_relevant"], figures["n_relevant_not_in_index"]) == (3, 1)
    assert figures["recall@10"] == pytest.approx((1 / 2 + 1) / 2)
    report = (home / "runs/elsewhere/report.html").read_text(encoding="utf-8")
    assert "1 of 3 judged relevant are not in the index" in report
    assert re.search(r"^relevant, not in the index +1 of 3$", odqa(*base)[1], re.MULTILINE)
    code, out, err = odqa(*base, "--level", "article", "--json")  # 2#9 stands for its article
    assert "judged relevant" not in err
    assert json.loads(out)["n_relevant_not_in_index"] == 0


def test_an_index_without_anything_relevant_is_the_wrong_one(odqa: Run, home: Path) -> None:
    folder = home / "another"
    folder.mkdir()
    (folder / "dev.topics.tsv").write_text("q\t거북선 제작\n", encoding="utf-8")
    (folder / "dev.qrels.tsv").write_text("q 0 2#9 1\nq 0 7#0 1\n")
    code, out, err = odqa("evaluate", "--task", "retrieval", "--dataset", "another")
    assert (code, out) == (2, "")
    assert "odqa: error: another: the index 'small' holds none of the 2 passages judged" in err
    assert "'2#9' for the question 'q'" in err
    assert "--index" in err


@pytest.mark.slow
def test_the_bundled_sample_answers(odqa: Run, tmp_path: Path) -> None:
    """Everything as it is installed: hybrid index, bundled models, no network."""
    pytest.importorskip("odqa.reading.extractive")
    place = ("--indexes-dir", str(tmp_path))
    assert odqa("build-index", *place)[0] == 0
    code, out, _ = odqa("ask", "훈민정음을 만든 임금은 누구인가?", "--json", *place)
    answers = json.loads(out)["answers"]
    assert code == 0
    assert "세종" in answers[0]["text"]
    for evidence in answers[0]["evidence"]:
        assert evidence["text"][evidence["start"] : evidence["end"]] == answers[0]["text"]


def test_a_library_that_prints_does_not_spoil_stdout(
    odqa: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noisy(config: object) -> LastWordReader:
        print("Welcome to the noisy reader!")
        return LastWordReader()

    monkeypatch.setitem(components.READERS, "noisy", noisy)
    command = ("ask", "거북선", "--json", "--set", "reader.model=noisy", "--retriever", "sparse")
    _, out, err = odqa(*command)
    assert json.loads(out)["answers"]
    assert "noisy" in err


def test_configuration_file_and_set(odqa: Run, home: Path) -> None:
    (home / "c.yaml").write_text("reader:\n  model: last-word\nfusion:\n  no_answer_bias: 20.0\n")
    command = ("ask", "거북선", "--json", "--config", "c.yaml", "--retriever", "sparse")
    biased = json.loads(odqa(*command)[1])
    plain = json.loads(
        odqa(*command, "--set", "fusion.no_answer_bias=0")[1]
    )  # --set has the last word
    assert biased["no_answer_probability"] > 0.9 > plain["no_answer_probability"]


def test_debug_shows_the_traceback_and_nothing_else_does(odqa: Run) -> None:
    code, _, err = odqa("search", "x", "--index", "missing")
    assert code == 1
    assert "Traceback" not in err
    code, _, err = odqa("search", "x", "--index", "missing", "--debug")
    assert code == 1
    assert "Traceback" in err


def test_unexpected_errors_are_said_in_a_line(odqa: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(config: object) -> LastWordReader:
        raise ZeroDivisionError("a fault in the program")

    monkeypatch.setitem(components.READERS, "broken", broken)
    code, out, err = odqa("ask", "x", "--set", "reader.model=broken", "--retriever", "sparse")
    assert (code, out) == (1, "")
    assert "ZeroDivisionError: a fault in the program" in err
    assert "--debug" in err
    assert len(err.splitlines()) == 1


def test_an_interrupted_command_ends_with_130(home: Path) -> None:
    os.mkfifo(home / "pipe.yaml")  # reading it waits until somebody writes
    process = start(home, "search", "거북선", "--config", "pipe.yaml")
    with (home / "pipe.yaml").open("wb"):  # opens when the command does, and lets it wait
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == b""
    assert err.decode() == "odqa: interrupted\n"


def test_a_closed_pipe_is_no_failure(home: Path) -> None:
    lines = "\n".join(f"q{n}\t조선 제작" for n in range(20_000))
    (home / "many.tsv").write_text(lines, encoding="utf-8")
    process = start(home, "search", "--questions", "many.tsv", "--retriever", "sparse")
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"q0 Q0 ")
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    assert process.wait(timeout=60) == 0
    assert b"Traceback" not in err
    assert b"Broken" not in err


def test_work_goes_on_when_nobody_reads_its_progress(home: Path) -> None:
    (home / "few.tsv").write_text("q1\t거북선\n", encoding="utf-8")
    command = ("search", "--questions", "few.tsv", "--output", "few.trec", "--retriever", "sparse")
    process = start(home, *command)
    assert process.stderr is not None
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    assert (home / "few.trec").read_text(encoding="utf-8").startswith("q1 Q0 ")


@pytest.mark.parametrize(
    ("closed", "index", "code"), [("2", "missing", 1), ("1", "small", 0), ("1", "missing", 1)]
)
def test_closed_streams(home: Path, closed: str, index: str, code: int) -> None:
    line = f'exec "$0" -m odqa search 거북선 --retriever sparse --index {index} {closed}>&-'
    command = ["sh", "-c", line, sys.executable]
    run = subprocess.run(command, cwd=home, env=environment(), capture_output=True, check=False)
    assert run.returncode == code
    assert run.stdout == b""
    assert b"Traceback" not in run.stderr


def test_an_output_file_is_complete_or_absent(odqa: Run, home: Path) -> None:
    (home / "two.tsv").write_text("a\t거북선\nb\t측우기", encoding="utf-8")
    base = ("search", "--questions", "two.tsv", "--retriever", "sparse")
    code, _, _ = odqa(*base, "--index", "missing", "--output", "absent.trec")
    assert code == 1
    assert not (home / "absent.trec").exists()
    assert not (home / ".absent.trec.part").exists()
    assert odqa(*base, "--output", "/dev/null")[0] == 0


def test_stdout_is_utf8_whatever_the_locale(home: Path) -> None:
    command = [sys.executable, "-m", "odqa", "search", "거북선", "--retriever", "sparse"]
    env = {**environment(), "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    run = subprocess.run(command, cwd=home, env=env, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "거북선" in run.stdout.decode("utf-8")


def in_terminal(home: Path, typed: bytes, command: list[str]) -> tuple[int, str]:
    """Run a command at a pseudo-terminal, type, and return its exit code and what it showed."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command, cwd=home, env=environment(), stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    os.write(master, typed)
    seen = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        ready, _, _ = select.select([master], [], [], 0.2)
        if ready:
            try:
                chunk = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            seen += chunk
        elif process.poll() is not None:
            break
    os.close(master)
    return process.wait(timeout=30), seen.decode()


def test_a_terminal_wraps_wide_characters(home: Path) -> None:
    command = [sys.executable, "-m", "odqa", "search", "거북선", "--retriever", "sparse"]
    code, out = in_terminal(home, b"", command)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out)
    assert code == 0
    assert "거북선" in plain
    assert all(cell_len(line.rstrip()) <= 40 for line in plain.splitlines())


def test_json_at_a_terminal_is_one_object_on_several_lines(home: Path) -> None:
    command = [sys.executable, "-m", "odqa", "search", "--json", "--retriever", "sparse", "거북선"]
    code, out = in_terminal(home, b"", command)
    assert code == 0
    assert json.loads(out[out.index("{") :])["candidates"][0]["title"] == "거북선"
    assert len(out.splitlines()) > 5


def test_without_a_question_a_terminal_gets_a_prompt(home: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); from small_components import *\n"
        "from odqa.build import components; from odqa.cli import main\n"
        "components.READERS['last-word'] = lambda config: LastWordReader()\n"
        "sys.exit(main())"
    )
    command = [sys.executable, "-c", program, str(Path(__file__).parent), "ask", *READER]
    code, out = in_terminal(home, "거북선 제작\n\n".encode(), command)
    assert code == 0
    assert "Ask a question" in out
    assert "이순신" in out
