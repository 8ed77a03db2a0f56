"""The configuration: typed, flat, and the only place where a default lives.

A configuration is read from a YAML file (``--config``) and from ``--set section.key=value``; every
key is checked, and an unknown one is refused with the nearest valid names.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from odqa.errors import ConfigError, InputError

T = TypeVar("T")
_SCIENTIFIC = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


@dataclass(frozen=True, slots=True)
class CorpusConfig:
    """How articles become passages (recorded in the index)."""

    passage_chars: int = 500  # aimed at; sentences are never cut unless one alone is longer
    overlap_chars: int = 0  # whole sentences repeated at the start of the next passage
    repair_parentheses: bool = True  # "(, 1924년" -> "(1924년", "()" -> ""


@dataclass(frozen=True, slots=True)
class DuplicatesConfig:
    """Near-duplicate passages, looked for when an index is built (recorded in the index)."""

    enabled: bool = True  # false: none are looked for, and a search can collapse none
    threshold: float = 0.9  # Jaccard similarity from which two passages are the same, 0.8 to 1


@dataclass(frozen=True, slots=True)
class TokenizerConfig:
    """Terms of the sparse index (recorded in the index)."""

    name: str = "mecab"  # mecab | bigram | whitespace


@dataclass(frozen=True, slots=True)
class SparseConfig:
    """BM25 over weighted fields. All but the last are burnt into the index when it is built."""

    engine: str = "bm25s"  # bm25s | rank-bm25
    k1: float = 1.6  # how slowly a term's further occurrences saturate
    b: float = 0.4  # how much long passages are held back, 0 to 1
    title_weight: int = 3  # how many times the title's terms count beside the passage's
    part_weight: float = 0.5  # of what compound words are made of, beside the words themselves
    bigram_weight: float = 0.25  # of syllable pairs that are no word (unknown names, spacing)
    discount_question_words: bool = True  # what asks (몇, 누구, 하다, ...) counts less


@dataclass(frozen=True, slots=True)
class DenseConfig:
    """The dense leg: the encoder (recorded in the index) and how FAISS stores its vectors."""

    encoder: str = "static-ko"  # a bundled name, a Hugging Face id, or a folder
    pooling: str = "auto"  # auto | cls | mean | last (transformers encoders)
    question_prefix: str | None = None  # None: what the encoder's authors prescribe
    passage_prefix: str | None = None  # likewise
    max_length: int = 512  # tokens
    batch_tokens: int = 8192  # tokens in a batch, padding included
    device: str = "auto"  # auto | cpu | cuda | cuda:N
    precision: str = "auto"  # auto | fp32 | bf16 | fp16
    faiss: str = "sq5"  # sq5 | sq8 | fp16 | flat, or what faiss.index_factory takes


@dataclass(frozen=True, slots=True)
class RetrievalConfig:
    """The first stage and how its legs are merged."""

    retriever: str = "hybrid"  # sparse | dense | hybrid
    depth: int = 100  # candidates each leg gives to the merge
    merge: str = "weighted"  # weighted | rrf
    sparse_weight: float = 0.25  # weighted merge: weight of sparse; dense has the rest
    rrf_k: int = 60  # reciprocal rank fusion: score = 1 / (rrf_k + rank)
    collapse_duplicates: bool = True  # of near-duplicate passages, only the best is returned
    per_article: int = 0  # at most so many passages of one article; 0: no limit


@dataclass(frozen=True, slots=True)
class OverlapConfig:
    """What of the question stands in a passage, weighed beside the first stage's score (1)."""

    depth: int = 100  # candidates looked at; 0: none, the merge's order stays
    passage: float = 1.5  # share of the question's letter pairs in title, heading and text
    sentence: float = 1.2  # likewise in title, heading and one sentence
    run: float = 0.03  # for each letter of the longest stretch of the question in a sentence
    title: float = 0.8  # share of the title's letter pairs in the question
    length: float = 0.37  # natural logarithm of 1 + the passage's characters


@dataclass(frozen=True, slots=True)
class RerankConfig:
    """The second stage: an encoder or a cross-encoder reorders the first candidates."""

    encoder: str = "none"  # none | e5-small-ko | a Hugging Face id or folder, of either kind
    depth: int = 30  # candidates it sees
    weight: float = 0.95  # its weight; the first stage's normalised score has the rest


@dataclass(frozen=True, slots=True)
class ReaderConfig:
    """The reader. Lengths are in tokens of its own tokenizer unless named otherwise."""

    model: str = "reader-ko"  # a bundled name, a Hugging Face id, or a folder
    passages: int = 10  # candidates read for one question
    max_length: int = 384  # of a window: question and a stretch of the passage
    stride: int = 128  # tokens two windows of a long passage share
    max_question_length: int = 64  # a longer question is cut
    max_answer_chars: int = 60  # a longer span is no answer
    length_penalty: float = 0.2  # what each character of a span beyond the eighth costs, in logits
    n_best: int = 5  # readings kept of each passage
    yes_no: bool = True  # a yes/no question is answered "yes" or "no", not by a span
    batch_tokens: int = 6144  # tokens in a batch, padding included
    device: str = "auto"  # auto | cpu | cuda | cuda:N
    precision: str = "auto"  # auto | fp32 | bf16 | fp16; the bundled reader's: auto | fp32 | int8


@dataclass(frozen=True, slots=True)
class FusionConfig:
    """Log-linear fusion: weighted scores of reader and retrieval, and clues (0: not looked at)."""

    reader_weight: float = 1.0  # of the reader's score
    retrieval_weight: float = 1.2  # of the retrieval score, standardised over the candidates
    temperature: float = 2.2  # above 1: less sure probabilities
    no_answer_bias: float = 5.0  # score of "no answer" on the fused scale
    names_article: float = 3.6  # clue: the question names the passage's article
    article_start: float = 0.9  # clue: the passage is the first of its article
    is_title: float = 3.5  # clue: the answer is the title of its article
    wrong_type: float = -14.0  # clue: no date for 언제, no number for 몇, a number for 누구 or 어디
    broken: float = -8.0  # clue: begins within a word, ends within a number, or a bracket is open
    single_character: float = -6.5  # clue: the answer is one character


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """How an index is built; none of it changes the index."""

    workers: int = 0  # processes that split and tokenise; 0: one for each usable core


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be set."""

    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    duplicates: DuplicatesConfig = field(default_factory=DuplicatesConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    sparse: SparseConfig = field(default_factory=SparseConfig)
    dense: DenseConfig = field(default_factory=DenseConfig)
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    overlap: OverlapConfig = field(default_factory=OverlapConfig)
    rerank: RerankConfig = field(default_factory=RerankConfig)
    reader: ReaderConfig = field(default_factory=ReaderConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    build: BuildConfig = field(default_factory=BuildConfig)
    seed: int = 13


def load_config(path: Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """The defaults, then the YAML file, then ``section.key=value`` overrides.

    Raises:
        InputError: the file is missing, no YAML, or no mapping.
        ConfigError: a key is unknown or a value has the wrong type.
    """
    config = Config()
    if path is not None:
        config = merge(config, read_yaml(path), where=str(path))
    return set_values(config, overrides)


def set_values(config: T, overrides: Iterable[str]) -> T:
    """``config`` with ``section.key=value`` strings put over it.

    Raises:
        ConfigError: a string has no "=", a key is unknown, or a value has the wrong type.
    """
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise ConfigError(f"--set {override}: write it as section.key=value")
        try:
            value = text if text == "" else yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise ConfigError(f"--set {override}: the value is not valid YAML") from error
        config = merge(config, _nest(key.strip(), value), where=f"--set {override}")
    return config


def merge(config: T, values: Mapping[str, Any], *, where: str, prefix: str = "") -> T:
    """``config`` (a frozen dataclass) with ``values`` put over it, keys and types checked."""
    hints = typing.get_type_hints(type(config))
    changes: dict[str, Any] = {}
    for key, value in values.items():
        dotted = f"{prefix}{key}"
        if key not in hints:
            raise ConfigError(f"{where}: unknown key '{dotted}'{_nearest(str(key), hints, prefix)}")
        current = getattr(config, key)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where}: '{dotted}' is a section; it needs keys under it")
            changes[key] = merge(current, value, where=where, prefix=f"{dotted}.")
        else:
            changes[key] = _checked(value, hints[key], f"{where}: '{dotted}'")
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]


def read_yaml(path: Path) -> Mapping[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        InputError: the file is missing, no YAML, or no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", path=path) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"is not valid YAML: {error}", path=path) from error
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise InputError("must hold sections with keys (a YAML mapping)", path=path)
    return values


def _nest(dotted: str, value: Any) -> dict[str, Any]:
    head, _, rest = dotted.partition(".")
    return {head: _nest(rest, value) if rest else value}


def _nearest(key: str, names: Iterable[str], prefix: str) -> str:
    names = list(names)
    close = difflib.get_close_matches(key, names, n=3, cutoff=0.5) or sorted(names)
    return "; the nearest valid names: " + ", ".join(f"{prefix}{name}" for name in close)


def _checked(value: Any, hint: Any, where: str) -> Any:
    """``value`` if it has the type ``hint`` (an int will do for a float, and so will "1e-4").

    Raises:
        ConfigError: it has not.
    """
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in allowed:
        return None
    if hint == tuple[str, ...]:
        if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise ConfigError(f"{where}: expected a list of names such as [a, b], got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where}: expected a finite number, got {value!r}")
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    # YAML 1.1 takes a number with an exponent for one only if it has a point and a sign
    if float in allowed and isinstance(value, str) and _SCIENTIFIC.fullmatch(value):
        return float(value)
    for kind in allowed:
        if isinstance(kind, type) and type(value) is kind:
            return value
    names = " or ".join("null" if k is type(None) else k.__name__ for k in allowed)
    raise ConfigError(f"{where}: expected {names}, got {value!r}")
