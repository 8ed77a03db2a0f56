from __future__ import annotations

import bz2
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from odqa.corpus import kowiki, read_documents
from odqa.errors import OdqaError

NAME = "kowiki-20260101-pages-articles.xml.bz2"
PAGE = "<page><title>서울</title><ns>0</ns><id>1</id><revision><text>글</text></revision></page>"
CONTENT = bz2.compress(f"<mediawiki>{PAGE}</mediawiki>".encode()) + bytes(5_000)


class Dumps(ThreadingHTTPServer):
    """A server of dumps that can break off, ignore ranges and lie about checksums."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/kowiki"
        self.ranges: list[str | None] = []
        self.break_after: int | None = None
        self.knows_ranges = True
        self.sha1 = hashlib.sha1(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    server: Dumps

    def do_GET(self) -> None:
        if self.path == "/kowiki/latest/kowiki-latest-sha1sums.txt":
            other = "0" * 40
            sums = f"{other}  kowiki-20260101-stub.xml.gz\n{self.server.sha1}  {NAME}\n"
            self._send(200, sums.encode())
        elif self.path == f"/kowiki/20260101/{NAME}":
            self._send_dump()
        else:
            self.send_error(404)

    def _send_dump(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        start = 0
        if asked and self.server.knows_ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self._send(206 if start else 200, CONTENT[start:])

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if status == 206 or self.server.break_after is None or NAME not in self.path:
            self.wfile.write(content)
        else:
            self.wfile.write(content[: self.server.break_after])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def dumps() -> Iterator[Dumps]:
    server = Dumps()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_newest_dump_is_fetched_once(dumps: Dumps, tmp_path: Path) -> None:
    path = kowiki.download_kowiki(tmp_path, base_url=dumps.url)
    assert path == tmp_path / NAME
    assert path.read_bytes() == CONTENT
    assert kowiki.download_kowiki(tmp_path, base_url=dumps.url) == path
    assert dumps.ranges == [None]
    assert list(tmp_path.iterdir()) == [path]


def test_a_download_that_breaks_off_goes_on(dumps: Dumps, tmp_path: Path) -> None:
    dumps.break_after = 1_000
    path = kowiki.download_kowiki(tmp_path, base_url=dumps.url)
    assert path.read_bytes() == CONTENT
    assert dumps.ranges == [None, "bytes=1000-"]


@pytest.mark.parametrize("have", [10, len(CONTENT)])
def test_what_came_in_an_earlier_run_is_kept(dumps: Dumps, tmp_path: Path, have: int) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:have])
    assert kowiki.download_kowiki(tmp_path, base_url=dumps.url).read_bytes() == CONTENT
    assert dumps.ranges == [f"bytes={have}-"]


def test_a_server_without_ranges_begins_anew(dumps: Dumps, tmp_path: Path) -> None:
    dumps.knows_ranges = False
    (tmp_path / f"{NAME}.part").write_bytes(b"something else")
    assert kowiki.download_kowiki(tmp_path, base_url=dumps.url).read_bytes() == CONTENT


def test_a_wrong_checksum_is_an_error_and_leaves_nothing(dumps: Dumps, tmp_path: Path) -> None:
    dumps.sha1 = "1" * 40
    with pytest.raises(OdqaError, match="wrong SHA-1"):
        kowiki.download_kowiki(tmp_path, base_url=dumps.url)
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_a_complete_dump_will_do(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9/kowiki"
    with pytest.raises(OdqaError, match="give its path as the corpus"):
        kowiki.download_kowiki(tmp_path, base_url=nowhere)
    old = tmp_path / NAME
    old.write_bytes(CONTENT)
    assert kowiki.download_kowiki(tmp_path, base_url=nowhere) == old


def test_the_corpus_of_that_name(
    dumps: Dumps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("odqa.corpus.kowiki.BASE_URL", dumps.url)
    [document] = read_documents("kowiki")
    assert (document.doc_id, document.title, document.text) == ("1", "서울", "글")
    assert (tmp_path / "odqa" / NAME).is_file()
