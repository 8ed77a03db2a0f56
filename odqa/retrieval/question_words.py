"""Words that ask rather than describe, and how much each counts in a question.

"누구", "몇", "이름" stand in many questions and hardly ever in the passage that answers them. The
weight of a word is the share of the training questions with it whose answering passage holds it,
divided by what a word of content reaches, for words of which that share is low;
``scripts/tune_sparse.py`` counts them and writes the table. A word that the table does not name
counts in full.
"""

from __future__ import annotations

import functools
import json
from importlib import resources
from types import MappingProxyType

_TABLE = "question_words.json"


@functools.cache
def question_word_weights() -> MappingProxyType[str, float]:
    """Word to weight, above 0 and below 1."""
    table = resources.files(__package__).joinpath(_TABLE)
    return MappingProxyType(json.loads(table.read_text(encoding="utf-8")))
