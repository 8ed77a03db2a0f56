"""Metrics of answers and of rankings, each a pure function with its source beside it.

An answer metric takes one prediction and the gold answers of one question and gives a value from
0 to 1 (edit distances: a count, lower is better); golds are tried one by one and the best counts.
A ranking metric takes ids (or texts), best first, and what is relevant. Means over questions,
percentages and what a missing prediction costs belong to ``odqa.evaluation``.
"""

from __future__ import annotations

import math
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from html.parser import HTMLParser

AnswerMetric = Callable[[str, Sequence[str]], float]

_KORQUAD_SYMBOLS = str.maketrans(dict.fromkeys("'\"《》<>〈〉()‘’", " "))
_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_XOR_COUNTERS = str.maketrans("", "", "年歳人년")


# Normalisation of answers ---------------------------------------------------------------------


def normalize_korquad(text: str) -> str:
    """KorQuAD 1.0 (Lim et al. 2019, official scorer): brackets and quotes become spaces, then
    lower case, ASCII punctuation deleted, white space joined. Particles stay."""
    return _lower_without_punctuation(text.translate(_KORQUAD_SYMBOLS))


def normalize_korquad2(text: str) -> str:
    """KorQuAD 2.x: HTML tags away, then as KorQuAD 1.0, then every space away."""
    return normalize_korquad(_html_text(text)).replace(" ", "")


def normalize_klue(text: str) -> str:
    """KLUE-MRC (Park et al. 2021) as its official scorer behaves.

    The scorer's pattern for 《》〈〉‘’ is malformed and matches nothing, so those stay.
    """
    return _lower_without_punctuation(text)


def normalize_xor(text: str) -> str:
    """XOR-TyDi (Asai et al. 2021) and MKQA's Korean: lower case, ASCII punctuation and the
    counters 年 歳 人 년 deleted, white space joined."""
    return " ".join(text.lower().translate(_ASCII_PUNCTUATION).translate(_XOR_COUNTERS).split())


def _lower_without_punctuation(text: str) -> str:
    return " ".join(text.lower().translate(_ASCII_PUNCTUATION).split())


class _TextOnly(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)


def _html_text(text: str) -> str:
    parser = _TextOnly()
    try:
        parser.feed(text)
        parser.close()
    except AssertionError:  # how html.parser refuses a declaration that is none: "<![x"
        return text
    return "".join(parser.pieces)


# Answers --------------------------------------------------------------------------------------


def korquad_em(prediction: str, golds: Sequence[str]) -> float:
    """KorQuAD 1.0 exact match: 1 where a normalised gold equals the prediction, spaces included."""
    return _equal(normalize_korquad, prediction, golds)


def korquad_f1(prediction: str, golds: Sequence[str]) -> float:
    """KorQuAD 1.0 F1 over the multiset of characters without spaces; nothing shared is 0."""
    return _best(prediction, golds, lambda p, g: _overlap_f1(*map(_characters, (p, g))))


def korquad2_em(prediction: str, golds: Sequence[str]) -> float:
    """KorQuAD 2.x exact match: HTML and spacing do not count."""
    return _equal(normalize_korquad2, prediction, golds)


def korquad2_f1(prediction: str, golds: Sequence[str]) -> float:
    """KorQuAD 2.x F1 over characters, after HTML is stripped."""
    return _best(
        prediction, golds, lambda p, g: _overlap_f1(normalize_korquad2(p), normalize_korquad2(g))
    )


def klue_em(prediction: str, golds: Sequence[str]) -> float:
    """KLUE-MRC exact match as the official scorer has it; no gold means the empty string."""
    return _equal(normalize_klue, prediction, golds or [""])


def klue_rouge_w(prediction: str, golds: Sequence[str]) -> float:
    """KLUE-MRC "ROUGE-W" as the official scorer has it; no gold means the empty string.

    In truth the F1 of the longest common contiguous substring, of length L in characters with
    spaces: P = L / len(prediction), R = L / len(gold). An empty gold gives 1 to an empty
    prediction and 0 to any other.
    """
    return _best(
        prediction,
        golds or [""],
        lambda p, g: _substring_f1(normalize_klue(p), normalize_klue(g)),
    )


def klue_fixed_em(prediction: str, golds: Sequence[str]) -> float:
    """``klue_em`` with the brackets and quotes stripped, as the official scorer meant to."""
    return _equal(normalize_korquad, prediction, golds or [""])


def klue_fixed_rouge_w(prediction: str, golds: Sequence[str]) -> float:
    """``klue_rouge_w`` with the brackets and quotes stripped, as the official scorer meant to."""
    return _best(
        prediction,
        golds or [""],
        lambda p, g: _substring_f1(normalize_korquad(p), normalize_korquad(g)),
    )


def xor_em(prediction: str, golds: Sequence[str]) -> float:
    """XOR-TyDi / MKQA exact match."""
    return _equal(normalize_xor, prediction, golds)


def xor_f1(prediction: str, golds: Sequence[str]) -> float:
    """XOR-TyDi / MKQA F1 over the multiset of white-space tokens; nothing shared is 0."""
    return _best(
        prediction,
        golds,
        lambda p, g: _overlap_f1(normalize_xor(p).split(), normalize_xor(g).split()),
    )


def syllable_distance(prediction: str, golds: Sequence[str]) -> float:
    """Levenshtein distance in characters (a Hangul syllable is one) to the nearest gold, raw."""
    return min(float(levenshtein(prediction, gold)) for gold in golds or [""])


def jamo_distance(prediction: str, golds: Sequence[str]) -> float:
    """As ``syllable_distance``, in jamo: the letters of Unicode's decomposed form (NFD)."""
    return min(
        float(
            levenshtein(unicodedata.normalize("NFD", prediction), unicodedata.normalize("NFD", g))
        )
        for g in golds or [""]
    )


def levenshtein(first: str, second: str) -> int:
    """The fewest insertions, deletions and substitutions from one to the other."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, start=1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(second, start=1):
            diagonal, row[j] = row[j], min(diagonal + (a != b), row[j] + 1, row[j - 1] + 1)
    return row[-1]


def _best(prediction: str, golds: Sequence[str], score: Callable[[str, str], float]) -> float:
    return max((score(prediction, gold) for gold in golds), default=0.0)


def _equal(normalize: Callable[[str], str], prediction: str, golds: Sequence[str]) -> float:
    return _best(prediction, golds, lambda p, g: float(normalize(p) == normalize(g)))


def _characters(text: str) -> str:
    return normalize_korquad(text).replace(" ", "")


def _overlap_f1(prediction: Sequence[str], gold: Sequence[str]) -> float:
    common = sum((Counter(prediction) & Counter(gold)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(prediction), common / len(gold)
    return 2 * precision * recall / (precision + recall)


def _substring_f1(prediction: str, gold: str) -> float:
    if not gold or not prediction:
        return float(prediction == gold)
    matcher = SequenceMatcher(None, prediction, gold, autojunk=False)
    length = matcher.find_longest_match().size
    if length == 0:
        return 0.0
    precision, recall = length / len(prediction), length / len(gold)
    return 2 * precision * recall / (precision + recall)


# Rankings -------------------------------------------------------------------------------------


def ndcg_at(k: int, ranking: Sequence[str], relevance: Mapping[str, int]) -> float:
    """Normalised discounted cumulative gain of the first k (Järvelin & Kekäläinen 2002).

    DCG = sum over ranks i = 1..k of relevance / log2(i + 1), as trec_eval's ``ndcg_cut``; divided
    by the DCG of the best possible ranking. 0 where nothing is relevant.
    """
    ideal = sorted((grade for grade in relevance.values() if grade > 0), reverse=True)
    best = _dcg(ideal[:k])
    gains = (max(relevance.get(item, 0), 0) for item in ranking[:k])
    return _dcg(gains) / best if best > 0 else 0.0


def mrr_at(k: int, ranking: Sequence[str], relevance: Mapping[str, int]) -> float:
    """Reciprocal rank: 1 / rank of the first relevant item among the first k, else 0."""
    for rank, item in enumerate(ranking[:k], start=1):
        if relevance.get(item, 0) > 0:
            return 1 / rank
    return 0.0


def recall_at(k: int, ranking: Sequence[str], relevance: Mapping[str, int]) -> float:
    """The share of the relevant items that the first k hold; 0 where nothing is relevant."""
    relevant = {item for item, grade in relevance.items() if grade > 0}
    return len(relevant.intersection(ranking[:k])) / len(relevant) if relevant else 0.0


def hit_at(k: int, ranking: Sequence[str], relevance: Mapping[str, int]) -> float:
    """1 where a relevant item is among the first k, else 0."""
    return float(any(relevance.get(item, 0) > 0 for item in ranking[:k]))


def holds_answer(text: str, golds: Iterable[str]) -> bool:
    """Does one of the answer strings stand in ``text``?

    Case and the amount of white space do not count. A number or Latin word must stand whole:
    "28" is not in "128자", nor "Go" in "Google". Blank answers stand nowhere.
    """
    folded = _fold(text)
    return any(_stands_in(_fold(gold), folded) for gold in golds)


def collapse_to_articles(ranking: Iterable[str]) -> list[str]:
    """Passage ids ``DOC_ID#N`` to article ids, the first occurrence of each kept."""
    return list(dict.fromkeys(article_of(item) for item in ranking))


def article_of(passage_id: str) -> str:
    """The article id: what stands before the last ``#`` (an id without one is an article's)."""
    head, separator, _ = passage_id.rpartition("#")
    return head if separator else passage_id


def _dcg(gains: Iterable[int]) -> float:
    return math.fsum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))


def _fold(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


# what may not stand beside a number ("28" in "1.28" or "28,000") or a Latin word
_WHOLE = (
    ("[0-9]", "(?<![0-9])(?<![0-9][.,])", "(?!,?[0-9]|[.][0-9])"),
    ("[a-z]", "(?<![a-z])", "(?![a-z])"),
)


def _stands_in(needle: str, text: str) -> bool:
    if not needle or needle not in text:
        return False
    pattern = re.escape(needle)
    for kind, before, behind in _WHOLE:
        if re.match(kind, needle):
            pattern = before + pattern
        if re.match(kind, needle[-1]):
            pattern += behind
    return re.search(pattern, text) is not None
