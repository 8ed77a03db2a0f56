"""The terms that a passage is indexed and encoded under."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from odqa.protocols import Tokenizer
from odqa.types import Passage


def passage_terms(
    passages: Sequence[Passage], tokenizer: Tokenizer, title_weight: int = 1
) -> Iterator[list[str]]:
    """The terms of each passage: title (so many times), section heading, text.

    A heading is counted once with each passage under it: it is taken out of the passage's text, but
    it often names what the passage never says again.
    """
    shared = list(dict.fromkeys(text for p in passages for text in (p.title, p.heading) if text))
    of_shared = dict(zip(shared, tokenizer.tokenize(shared), strict=True)) | {"": []}
    texts = tokenizer.tokenize([passage.text for passage in passages])
    for passage, terms in zip(passages, texts, strict=True):
        yield of_shared[passage.title] * title_weight + of_shared[passage.heading] + terms
