"""Wikitext to plain text, by mwparserfromhell.

Headings come out as WikiExtractor writes them, a line such as "생애.", list items as lines of
their own; tables, pictures, references and templates are left out, except the templates that
merely set a stretch of text in another language or type.
"""

from __future__ import annotations

import re
from typing import Any

import mwparserfromhell
from mwparserfromhell.nodes import (
    Argument,
    Comment,
    ExternalLink,
    Heading,
    HTMLEntity,
    Tag,
    Template,
    Text,
    Wikilink,
)

# fmt: off
_NO_TEXT_TAGS = frozenset({
    "ref", "references", "table", "gallery", "math", "chem", "timeline", "score", "source", "style",
    "syntaxhighlight", "imagemap", "hiero", "graph", "mapframe", "templatestyles",
})
# fmt: on
_NO_TEXT_LINK = re.compile(r"\s*:?(?:파일|그림|분류|미디어|file|image|category|media)\s*:", re.I)
_INTERLANGUAGE = re.compile(r"\s*[a-z]{2,3}(?:-[a-z]+)*\s*:")
# Which positional parameter of a template is its text: {{lang|en|text}}, {{한자|서울|漢城}}.
_TEXT_PARAMETER = {
    "lang": "2",
    "llang": "2",
    "언어": "2",
    "nowrap": "1",
    "nobr": "1",
    "small": "1",
    "작게": "1",
    "big": "1",
    "color": "2",
    "글자색": "2",
    "ko-hanja": "1",
    "인용문": "1",
    "cquote": "1",
    "quote": "1",
    "transl": "2",
}
_MAGIC_WORD = re.compile(r"__[A-Z가-힣]+__")
_REDUNDANT_BLANKS = re.compile(r"[^\S\n]+")
_REDUNDANT_LINES = re.compile(r"[^\S\n]*\n\s*")


def plain_text(wikitext: str) -> str:
    """The readable text of an article's wikitext."""
    code = mwparserfromhell.parse(wikitext, skip_style_tags=False)
    text = _MAGIC_WORD.sub("", _text(code))
    return _REDUNDANT_LINES.sub("\n", _REDUNDANT_BLANKS.sub(" ", text)).strip()


def _text(code: Any) -> str:
    return "".join(_node_text(node) for node in code.nodes) if code is not None else ""


def _node_text(node: Any) -> str:
    match node:
        case Text():
            return str(node.value)
        case Wikilink():
            return _link_text(node)
        case Heading():
            title = _text(node.title).strip()
            return f"\n{title}.\n" if title else "\n"
        case Tag():
            return _tag_text(node)
        case Template():
            return _template_text(node)
        case ExternalLink():
            return _text(node.title)
        case HTMLEntity():
            return str(node.normalize())
        case Comment() | Argument():
            return ""
        case _:
            return ""


def _link_text(link: Wikilink) -> str:
    target = str(link.title)
    if _NO_TEXT_LINK.match(target) or (link.text is None and _INTERLANGUAGE.match(target)):
        return ""
    return _text(link.text) if link.text is not None else target.strip().lstrip(":")


def _tag_text(tag: Tag) -> str:
    name = str(tag.tag).strip().lower()
    if name in _NO_TEXT_TAGS:
        return ""
    if name in ("li", "dt", "dd", "br", "hr"):
        return "\n" if name != "br" else " "
    return _text(tag.contents)


def _template_text(template: Template) -> str:
    name = str(template.name).strip().lower()
    parameter = _TEXT_PARAMETER.get(name)
    if parameter is None and name.startswith("llang-"):
        parameter = "1"
    if parameter is None or not template.has(parameter):
        return ""
    return _text(template.get(parameter).value)
