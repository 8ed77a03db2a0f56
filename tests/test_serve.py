"""``odqa serve``, a process of its own, asked over HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from conftest import Run

from odqa.errors import OdqaError

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "odqa", "serve", "--port", "0", "--retriever", "sparse", *arguments],
        cwd=home,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    process = start(home)
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"'small' at (http://127\.0\.0\.1:\d+)$", line.strip())
    assert found, line + process.stderr.read()
    yield found[1]
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130


def get(url: str) -> tuple[str, bytes]:
    with urllib.request.urlopen(url, timeout=60) as response:
        return response.headers["Content-Type"], response.read()


def post(url: str, body: Any) -> tuple[int, dict[str, Any]]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(url, content, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_answers_are_those_of_ask(address: str, odqa: Run) -> None:
    question = "훈민정음 창제는 누가?"
    code, out, err = odqa("ask", "--json", "--no-timing", "--retriever", "sparse", question)
    assert code == 0, err
    assert post(f"{address}/ask", {"question": question}) == (200, json.loads(out))
    status, found = post(
        f"{address}/ask", {"questions": [question, {"id": "b", "question": "거북선?"}]}
    )
    assert status == 200
    assert found["results"][0] == json.loads(out)
    assert found["results"][1]["id"] == "b"
    status, found = post(f"{address}/ask", {"question": question, "top_n": 1, "explain": True})
    assert len(found["answers"]) <= 1
    assert found["candidates"][0]["rank"] == 1


def test_passages_are_those_of_search(address: str, odqa: Run) -> None:
    code, out, _ = odqa("search", "--json", "--retriever", "sparse", "측우기")
    assert code == 0
    status, found = post(f"{address}/search", {"question": "측우기"})
    assert (status, found["candidates"]) == (200, json.loads(out)["candidates"])
    assert len(post(f"{address}/search", {"question": "조선", "top_k": 1})[1]["candidates"]) == 1


def test_health_and_page(address: str) -> None:
    kind, content = get(f"{address}/health")
    assert kind == "application/json"
    assert json.loads(content).items() >= {"status": "ok", "index": "small"}.items()
    kind, content = get(address)
    assert kind == "text/html; charset=utf-8"
    assert "질문을 입력하세요" in content.decode("utf-8")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "no JSON"),
        (b'{"question": "\xff"}', "no JSON in UTF-8"),
        ([1], "must be a JSON object"),
        ({}, "either 'question' or 'questions'"),
        ({"question": "가", "questions": ["나"]}, "either"),
        ({"question": " \n"}, "empty"),
        ({"question": 3}, "must be strings"),
        ({"question": "가", "id": 3}, "must be strings"),
        ({"question": "\ud800"}, "half a character"),
        ({"question": "가", "id": "\ud800"}, "half a character"),
        ({"\ud800": 1}, "unknown field"),
        (b"[" * 50_000, "no JSON"),
        ({"question": "가" * 10_001}, "longer than 10,000 characters"),
        ({"question": "가", "topn": 3}, "unknown field 'topn'; known: explain, id"),
        ({"question": "가", "top_n": 0}, "'top_n' must be a whole number"),
        ({"question": "가", "top_n": True}, "'top_n' must be"),
        ({"question": "가", "explain": "yes"}, "'explain' must be"),
        ({"questions": []}, "1 to 256"),
        ({"questions": ["가"] * 257}, "1 to 256"),
        ({"questions": ["가", 3]}, "question 2 must be"),
        ({"question": "가" * 400_000}, "longer than 1,000,000 bytes"),
    ],
)
def test_a_bad_request_is_refused(address: str, body: Any, message: str) -> None:
    status, found = post(f"{address}/ask", body)
    assert status == 400
    assert message in found["error"]
    assert post(f"{address}/ask", {"question": "거북선"})[0] == 200  # it goes on


def test_other_errors_are_json_too(address: str) -> None:
    assert post(f"{address}/nowhere", {})[0] == 404
    status, found = post(f"{address}/health", {})
    assert status == 405
    assert found == {"error": "Method Not Allowed"}


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"])
def test_this_machine_is_asked_by_its_own_names(address: str, host: str) -> None:
    request = urllib.request.Request(f"{address}/health", headers={"Host": host})
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost:8000:9", "x@"],
)
def test_a_name_made_to_lead_to_this_machine_is_refused(address: str, host: str) -> None:
    for path, content in (("health", None), ("ask", b'{"question": "?"}')):
        request = urllib.request.Request(f"{address}/{path}", content, {"Host": host})
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=60)
        assert caught.value.code == 400
        assert "only: 127.0.0.1, [::1], localhost" in json.load(caught.value)["error"]


def test_the_hosts_that_are_accepted_are_those_of_the_address() -> None:
    from odqa.cli.serve import _hosts

    here = {"localhost", "127.0.0.1", "[::1]"}
    assert _hosts("127.0.0.1", "127.0.0.1") == _hosts("::1", "::1") == here
    assert _hosts("My-Machine", "127.0.1.1") == here | {"my-machine", "127.0.1.1"}
    assert _hosts("0.0.0.0", "0.0.0.0") is _hosts("::", "::") is None
    assert _hosts("my-machine", "192.0.2.7") is None


def test_a_fault_of_the_system_is_told_as_json() -> None:
    from odqa.cli.web import make_app

    class Damaged:
        index = "small"

        def answer(self, *_: Any, **__: Any) -> Any:
            raise OdqaError("a block of the index is damaged")

    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"question": "?"}', "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/ask", "headers": [], "query_string": b""}
    asyncio.run(make_app(Damaged())(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 500
    assert json.loads(sent[1]["body"]) == {"error": "a block of the index is damaged"}


def test_the_page_marks_the_sentence_of_a_yes_and_the_span_of_a_name() -> None:
    """The page's own function, run by Node where there is one."""
    if (node := shutil.which("node")) is None:
        pytest.skip("no Node here")
    page = files("odqa.cli").joinpath("page.html").read_text(encoding="utf-8")
    found = re.search(r"^function partsOf.*?^}$", page, re.DOTALL | re.MULTILINE)
    assert found
    evidence = [
        {"text": "𝄞는 높은음자리표.", "start": 3, "end": 9},
        {
            "text": "앞. 타조는 못 난다. 뒤.",
            "start": None,
            "end": None,
            "sentence": "타조는 못 난다.",
        },
    ]
    script = f"{found[0]}; console.log(JSON.stringify({json.dumps(evidence)}.map(partsOf)))"
    shown = subprocess.run([node, "-e", script], capture_output=True, check=True, encoding="utf-8")
    assert json.loads(shown.stdout) == [
        ["𝄞는 ", "높은음자리표", "."], ["앞. ", "타조는 못 난다.", " 뒤."],
    ]  # fmt: skip


def test_a_port_in_use_is_said(odqa: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = odqa("serve", "--port", str(port))
    assert code == 1
    assert f"cannot listen at 127.0.0.1, port {port}" in err
    assert odqa("serve", "--port", "70000")[0] == 2


def test_the_extra_is_named(odqa: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, err = odqa("serve")
    assert code == 1
    assert "pip install 'odqa[serve]'" in err
