"""``kowiki``: the newest dump of the Korean Wikipedia, downloaded with resume and checksum."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import urllib.error
import urllib.request
from pathlib import Path

from odqa.errors import OdqaError

BASE_URL = "https://dumps.wikimedia.org/kowiki"
_SUMS = "latest/kowiki-latest-sha1sums.txt"
_DUMP = re.compile(r"([0-9a-f]{40})\s+(kowiki-(\d{8})-pages-articles\.xml\.bz2)")
_CHUNK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60
_ATTEMPTS = 5
_log = logging.getLogger(__name__)


def download_kowiki(folder: Path | None = None, *, base_url: str | None = None) -> Path:
    """The path of the newest dump, downloaded to ``folder`` unless it is there already.

    A download that broke off goes on where it stopped. Where the server cannot be reached, the
    newest complete dump in ``folder`` will do. ``folder`` is by default ``odqa`` in the user's
    cache (``$XDG_CACHE_HOME`` or ``~/.cache``).

    Raises:
        OdqaError: there is no dump and none can be fetched, or its SHA-1 is wrong.
    """
    folder = folder or default_folder()
    base_url = base_url or BASE_URL
    try:
        url, sha1 = _newest(base_url)
    except OSError as error:
        present = sorted(folder.glob("kowiki-*-pages-articles.xml.bz2"))
        if not present:
            raise OdqaError(
                f"the Korean Wikipedia's dump cannot be fetched from {base_url} ({error}). Fetch a "
                "kowiki-*-pages-articles.xml.bz2 by other means and give its path as the corpus."
            ) from error
        _log.warning("%s cannot be reached; using %s", base_url, present[-1].name)
        return present[-1]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / url.rpartition("/")[2]
    if not path.exists():
        download(url, path, sha1=sha1)
    return path


def default_folder() -> Path:
    """Where dumps are kept: ``odqa`` in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "odqa"


def download(url: str, path: Path, *, sha1: str) -> None:
    """Fetch ``url`` to ``path``; what arrived before lies beside it in ``path.part`` and is kept.

    Raises:
        OdqaError: the server fails again and again, or the SHA-1 of what came is wrong (it is
            deleted then).
    """
    part = path.with_name(path.name + ".part")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _fetch_rest(url, part)
            break
        except OSError as error:
            if attempt == _ATTEMPTS:
                raise OdqaError(
                    f"{url} cannot be fetched ({error}); {part} keeps what came: run it again"
                ) from error
            _log.warning("%s broke off (%s); going on", url, error)
    if _sha1(part) != sha1:
        part.unlink()
        raise OdqaError(f"{url} arrived damaged (wrong SHA-1) and was deleted; run it again")
    part.replace(path)


def _newest(base_url: str) -> tuple[str, str]:
    """(URL, SHA-1) of the newest dump of all articles."""
    with urllib.request.urlopen(_request(f"{base_url}/{_SUMS}"), timeout=_TIMEOUT_SECONDS) as reply:
        sums = reply.read().decode("utf-8", errors="replace")
    found = _DUMP.search(sums)
    if found is None:
        raise OdqaError(f"{base_url}/{_SUMS} lists no pages-articles dump")
    sha1, name, date = found.groups()
    return f"{base_url}/{date}/{name}", sha1


def _fetch_rest(url: str, part: Path) -> None:
    """Fetch what ``part`` lacks of ``url``, by an HTTP range request (RFC 9110, section 14)."""
    have = part.stat().st_size if part.exists() else 0
    request = _request(url)
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        reply = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is lacking
            return
        raise
    with reply:
        resumed = reply.status == 206
        wanted = (have if resumed else 0) + int(reply.headers.get("Content-Length", -1))
        with part.open("ab" if resumed else "wb") as out:
            while chunk := reply.read(_CHUNK_BYTES):
                out.write(chunk)
                _log.info("%s: %d of %d bytes", part.name, out.tell(), wanted)
    if "Content-Length" in reply.headers and part.stat().st_size < wanted:
        raise ConnectionError(f"the connection closed after {part.stat().st_size} of {wanted} B")


def _request(url: str) -> urllib.request.Request:
    return urllib.request.Request(url, headers={"User-Agent": "odqa (Korean question answering)"})


def _sha1(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha1").hexdigest()
