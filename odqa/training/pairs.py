"""Pairs of a question and a passage that answers it, to teach an encoder."""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from odqa.config import CorpusConfig
from odqa.corpus import read_documents
from odqa.corpus.datasets import read_examples
from odqa.corpus.passages import split_passages
from odqa.text.tokenizers import create_tokenizer
from odqa.types import Passage


def reading_pairs(path: Path) -> list[tuple[str, Passage]]:
    """(question, passage) of a reading data set's answerable questions."""
    return [
        (example.question, example.passage)
        for example in read_examples(path, "train")
        if example.passage is not None and example.answers
    ]


def judged_pairs(
    questions: Mapping[str, str],
    relevant: Mapping[str, set[str]],
    corpus: str,
    tokenizer_name: str,
) -> list[tuple[str, Passage]]:
    """(question, passage) for topics judged by article.

    Which passage of a relevant article answers is not known: the one that shares the rarest terms
    with the question is taken.

    Args:
        questions: by topic id.
        relevant: the relevant articles' ids, by topic id.
        corpus: a source that holds those articles.
        tokenizer_name: for the comparison of terms.
    """
    wanted = set().union(*relevant.values())
    documents = (document for document in read_documents(corpus) if document.doc_id in wanted)
    passages = {
        document.doc_id: list(split_passages(document, CorpusConfig())) for document in documents
    }
    tokenizer = create_tokenizer(tokenizer_name)
    terms = {
        doc_id: [
            set(terms) for terms in tokenizer.tokenize([f"{p.title}\n{p.text}" for p in found])
        ]
        for doc_id, found in passages.items()
    }
    rarity = _rarity([found for sets in terms.values() for found in sets])
    pairs = []
    for topic, question in questions.items():
        asked = set(tokenizer.tokenize([question])[0])
        for doc_id in sorted(relevant.get(topic, ()) & terms.keys()):
            scores = [sum(rarity[term] for term in asked & found) for found in terms[doc_id]]
            if scores:
                pairs.append((question, passages[doc_id][scores.index(max(scores))]))
    return pairs


def _rarity(sets: Sequence[set[str]]) -> dict[str, float]:
    """Inverse document frequency of each term: ln(1 + n / df)."""
    counts = collections.Counter(term for found in sets for term in found)
    return {term: math.log1p(len(sets) / count) for term, count in counts.items()}
