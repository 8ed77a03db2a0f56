"""Unicode at the door, and the repair of what extraction from wikitext left broken."""

from __future__ import annotations

import html
import re
import unicodedata

# Soft hyphen, zero-width space, marks of writing direction, word joiner, byte order mark.
_INVISIBLE = "\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
_UNWANTED = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f{_INVISIBLE}]")
_LINE_BREAK = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ENTITY = re.compile(  # escaped any number of times: "&amp;amp;lt;"
    r"&(?:amp;)*((?:lt|gt|amp|quot|apos|nbsp|ndash|mdash|#\d{1,7}|#x[0-9a-fA-F]{1,6});)"
)

# Blanks within a line; the rest of the parenthesis must not be looked for beyond it.
_SP = r"[^\S\n]"
_LEADING = re.compile(rf"\({_SP}*(?:[,;:]{_SP}+)+")
# A run that no parenthesis closes is matched too, lest each of its marks begin another search.
_TRAILING = re.compile(rf"[,;](?<=[^(,;][,;])(?:{_SP}|[,;])*(\))?")
_DOUBLED = re.compile(rf"[,;]{_SP}+(?:[,;]{_SP}+)*(?=[,;](?:{_SP}|$))", re.MULTILINE)
# "main()" of a program keeps its parentheses; a Korean word, a Hanja or a bracket does not.
_EMPTY = re.compile(  # of a run of blanks, only the first (or second) begins a search
    rf"(?:(?<![a-z0-9_])(?<!{_SP})|(?<=[a-z0-9_]{_SP})){_SP}*\((?:{_SP}|또는|혹은|및|[,;])*\)"
)

_LINK = re.compile(r"\[\[([^\[\]\n]*)\]\]")
_NO_TEXT = re.compile(
    r"\s*:?(?:파일|그림|분류|미디어|file|image|category|media)\s*:", re.IGNORECASE
)
_REFERENCE = re.compile(r"<ref\b[^<>]*(?:/>|>[^<]*</ref>)", re.IGNORECASE)
_LINE_BREAK_TAG = re.compile(r"</?br\s*/?>", re.IGNORECASE)

_NOT_LETTERS = re.compile(r"[\W_]+")
_PARENTHESIS = re.compile(r"(?<!\s)\s*\([^()]*\)$")


# Dots between words or numbers that other keyboards and editors write; NFKC would make ㆍ a vowel.
_MIDDLE_DOTS = str.maketrans(dict.fromkeys("\u318d\u30fb\uff65\u2027\u2022\u2219\u22c5\u119e", "·"))


def uniform_dots(text: str) -> str:
    """``text`` with every kind of middle dot written "·"."""
    return text.translate(_MIDDLE_DOTS)


def letters(text: str) -> str:
    """Letters and digits alone, folded (NFKC): what is left of two writings of one name."""
    return _NOT_LETTERS.sub("", unicodedata.normalize("NFKC", uniform_dots(text)).casefold())


def without_parenthesis(title: str) -> str:
    """``title`` without a parenthesis at its end, which tells namesakes apart: "뇌 (동물)"."""
    return _PARENTHESIS.sub("", title)


def nfc(text: str) -> str:
    """``text`` in Unicode's composed form, lone surrogates replaced by U+FFFD.

    Every offset of the system counts characters of this form; it never strips an accent, which
    in the decomposed form would destroy Hangul.
    """
    if text.isascii():
        return text
    return _SURROGATE.sub("\ufffd", unicodedata.normalize("NFC", text))


def without_invisible(text: str) -> str:
    """``text`` without control and invisible characters, as a copied text may hold."""
    return _UNWANTED.sub("", text)


def clean_characters(text: str) -> str:
    """``text`` in NFC with uniform line breaks, without control and invisible characters.

    HTML entities that an extractor left escaped ("&lt;") become their characters. Idempotent.
    """
    while "&" in text and (unescaped := _ENTITY.sub(_unescape, text)) != text:
        text = unescaped
    return nfc(without_invisible(_LINE_BREAK.sub("\n", text)))


def strip_markup(text: str) -> str:
    """``text`` without the wikitext links, references and ``<br>`` an extractor left. Idempotent.

    "[[닉슨 독트린|괌 독트린]]" becomes "괌 독트린"; a link to a picture or category disappears.
    """
    while "[[" in text and (plain := _LINK.sub(_link_text, text)) != text:  # from the inside out
        text = plain
    if "<" in text:
        text = _LINE_BREAK_TAG.sub(" ", _REFERENCE.sub("", text))
    return text


def repair_parentheses(text: str) -> str:
    """``text`` with parentheses mended whose foreign words an extractor dropped. Idempotent.

    "리치(, 1941년" becomes "리치(1941년", "(南韓, )" becomes "(南韓)", "우크라이나()는" becomes
    "우크라이나는".
    """
    if "(" not in text:
        return text
    while True:
        mended = _LEADING.sub("(", text)
        mended = _DOUBLED.sub("", mended)
        mended = _TRAILING.sub(_without_run, mended)
        mended = _EMPTY.sub("", mended)
        if mended == text:
            return text
        text = mended


def _unescape(match: re.Match[str]) -> str:
    return html.unescape(f"&{match.group(1)}")


def _without_run(match: re.Match[str]) -> str:
    return match.group(1) or match.group()


def _link_text(match: re.Match[str]) -> str:
    inner = match.group(1)
    return "" if _NO_TEXT.match(inner) else inner.rpartition("|")[2]
