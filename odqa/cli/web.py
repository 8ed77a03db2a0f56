"""The HTTP side of ``odqa serve``: JSON in and out, and one page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from odqa import __version__
from odqa.cli.questions import Question, is_valid_text
from odqa.errors import OdqaError, UsageError

if TYPE_CHECKING:
    from odqa.cli.serve import Service

MOST_BYTES = 1_000_000  # of a request
MOST_QUESTIONS = 256
MOST_RESULTS = 1_000
MOST_CHARACTERS = 10_000  # of a question: so many take some tenths of a second
_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(?::\d*)?")

T = TypeVar("T")


def make_app(service: Service, hosts: Collection[str] | None = None) -> Starlette:
    """``POST /ask``, ``POST /search``, ``GET /health`` and the page at ``/``.

    One request is worked on at a time: the reader uses all cores for each.

    Args:
        service: what answers.
        hosts: the names by which it may be asked, in lower case and an IPv6 address in brackets;
            a request for another gets status 400. None: by any.
    """
    one_at_a_time = CapacityLimiter(1)

    async def work(function: Callable[[], T]) -> T:
        return await to_thread.run_sync(function, limiter=one_at_a_time)

    async def ask(request: Request) -> Response:
        body = await _body(request, {"id", "question", "questions", "top_n", "explain"})
        top_n, explain = _number(body, "top_n", 5), _flag(body, "explain")
        many = "questions" in body
        if many == ("question" in body):
            raise UsageError("give either 'question' or 'questions'")
        questions = _questions(body["questions"]) if many else [_question(body, "1")]
        records = await work(lambda: service.answer(questions, top_n=top_n, explain=explain))
        return _json({"results": records} if many else records[0])

    async def search(request: Request) -> Response:
        body = await _body(request, {"question", "top_k"})
        question, top_k = _question(body, "1").text, _number(body, "top_k", 10)
        return _json(await work(lambda: service.search(question, top_k=top_k)))

    async def health(request: Request) -> Response:
        return _json({"status": "ok", "index": service.index, "version": __version__})

    async def page(request: Request) -> Response:
        return HTMLResponse(files("odqa.cli").joinpath("page.html").read_text(encoding="utf-8"))

    async def refused(request: Request, error: Exception) -> Response:
        return _json({"error": str(error)}, status=400)

    async def failed(request: Request, error: Exception) -> Response:
        return _json({"error": str(error) or type(error).__name__}, status=500)

    async def no_such_place(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _json({"error": error.detail}, status=error.status_code, headers=error.headers)

    routes = [
        Route("/", page),
        Route("/ask", ask, methods=["POST"]),
        Route("/search", search, methods=["POST"]),
        Route("/health", health),
    ]
    handlers = {
        UsageError: refused,
        OdqaError: failed,
        HTTPException: no_such_place,
        Exception: failed,
    }
    middleware = [] if hosts is None else [Middleware(_OnlyHosts, hosts=hosts)]
    return Starlette(routes=routes, exception_handlers=handlers, middleware=middleware)


class _OnlyHosts:
    """Refuses what is asked of another host.

    A page of the web whose name is made to lead to this machine (DNS rebinding) could read the
    answers otherwise. Starlette's own TrustedHostMiddleware knows no IPv6 address before 1.0.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            asked = Headers(scope=scope).get("host", "")
            name = _HOST.fullmatch(asked.lower())
            if name is None or name[1] not in self._hosts:
                known = ", ".join(sorted(self._hosts))
                message = f"the host '{asked}' is not served here, only: {known}"
                await _json({"error": message}, status=400)(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _body(request: Request, allowed: set[str]) -> dict[str, Any]:
    """The JSON object of a request, with no other fields than ``allowed``."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MOST_BYTES:
            raise UsageError(f"the request is longer than {MOST_BYTES:,} bytes")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the request is no JSON in UTF-8 ({error})") from error
    if not isinstance(body, dict):
        raise UsageError('the request must be a JSON object such as {"question": "…"}')
    if unknown := sorted(body.keys() - allowed):
        known = ", ".join(sorted(allowed))
        raise UsageError(f"unknown field '{unknown[0]}'; known: {known}")
    return body


def _questions(values: Any) -> list[Question]:
    if not isinstance(values, list) or not 0 < len(values) <= MOST_QUESTIONS:
        raise UsageError(f"'questions' must be a list of 1 to {MOST_QUESTIONS} questions")
    found = []
    for number, value in enumerate(values, start=1):
        fields = {"question": value} if isinstance(value, str) else value
        if not isinstance(fields, dict):
            raise UsageError(f"question {number} must be a string or an object")
        found.append(_question(fields, str(number)))
    return found


def _question(fields: Mapping[str, Any], default_id: str) -> Question:
    text, name = fields.get("question"), fields.get("id", default_id)
    if not isinstance(text, str) or not isinstance(name, str):
        raise UsageError("'question' and 'id' must be strings")
    if not text.strip():
        raise UsageError("the question is empty: ask something")
    if not (is_valid_text(text) and is_valid_text(name)):
        raise UsageError("'question' and 'id' must not hold a NUL or half a character")
    if len(text) > MOST_CHARACTERS:
        raise UsageError(f"the question is longer than {MOST_CHARACTERS:,} characters")
    return Question(name, text)


def _number(body: Mapping[str, Any], name: str, default: int) -> int:
    value = body.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MOST_RESULTS:
        raise UsageError(f"'{name}' must be a whole number from 1 to {MOST_RESULTS}")
    return value


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise UsageError(f"'{name}' must be true or false")
    return value


def _json(
    value: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    content = json.dumps(dict(value), ensure_ascii=False).encode("utf-8", "replace")
    return Response(content, status, headers, media_type="application/json")
