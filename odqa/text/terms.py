"""The terms that a passage is indexed and encoded under."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from odqa.protocols import Tokenizer
from odqa.types import Passage, Terms


def passage_terms(
    passages: Sequence[Passage], tokenizer: Tokenizer, title_weight: int = 1
) -> Iterator[Terms]:
    """The terms of each passage: title (so many times), section heading, text.

    A heading is counted once with each passage under it: it is taken out of the passage's text, but
    it often names what the passage never says again.
    """
    shared = list(dict.fromkeys(text for p in passages for text in (p.title, p.heading) if text))
    of_shared = dict(zip(shared, tokenizer.terms(shared), strict=True)) | {"": Terms([], [], [])}
    texts = tokenizer.terms([passage.text for passage in passages])
    for passage, text in zip(passages, texts, strict=True):
        title, heading = of_shared[passage.title], of_shared[passage.heading]
        yield Terms(
            title.words * title_weight + heading.words + text.words,
            title.parts * title_weight + heading.parts + text.parts,
            title.bigrams * title_weight + heading.bigrams + text.bigrams,
        )
