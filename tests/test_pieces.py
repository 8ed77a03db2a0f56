"""Pieces with offsets: they lie in the text, and are cut where a particle or punctuation begins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import vocabulary

from odqa.models.pieces import Pieces, PieceTokenizer, build_tokenizer
from odqa.text.morphemes import particle_boundaries

TEXTS = [
    "세종대왕은 1392년을 지나 훈민정음을 만들었다.",
    "(1392년 건국) 조선은 “한양”으로 옮겼다.",
    "III km2 KIAabc가각간ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
]
WORDS = ["▁세종대왕은", "▁1392년을", "(1392", "년을", "▁훈민정음", "을", "임금이다."]
VOCABULARY = vocabulary(TEXTS, WORDS)
PLAIN = PieceTokenizer(build_tokenizer(VOCABULARY))
CUT = PLAIN.with_morphemes(True)
NAMES = [piece for piece, _ in VOCABULARY]


def surfaces(tokenizer: PieceTokenizer, text: str) -> list[str]:
    found = tokenizer.encode([text])[0]
    return [text[a:b] for a, b in zip(found.starts, found.ends, strict=True)]


def names(found: Pieces) -> list[str]:
    return [NAMES[i] for i in found.ids]


korean = st.text(
    st.one_of(
        st.sampled_from("세종대왕은을이가 1392년(). ,“”Ⅲ㎢ABc\n\t "),
        st.characters(codec="utf-8"),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(korean, st.booleans())
def test_offsets_ascend_and_lie_in_the_text(text: str, morphemes: bool) -> None:
    found = (CUT if morphemes else PLAIN).encode([text])[0]
    assert len(found) == len(found.starts) == len(found.ends)
    assert found.ids.dtype == found.starts.dtype == found.ends.dtype == np.int32
    assert (found.starts >= 0).all()
    assert (found.ends <= len(text)).all()
    assert (found.starts <= found.ends).all()
    assert (np.diff(found.starts) >= 0).all()
    assert (np.diff(found.ends) >= 0).all()
    covered = [text[a:b] for a, b in zip(found.starts, found.ends, strict=True)]
    assert not any(character.isspace() for piece in covered for character in piece)


@settings(max_examples=150, deadline=None)
@given(korean)
def test_no_piece_crosses_a_boundary(text: str) -> None:
    found = CUT.encode([text])[0]
    borders = {i for i in range(1, len(text)) if text[i].isalnum() != text[i - 1].isalnum()}
    borders.update(particle_boundaries(text))
    for start, end in zip(found.starts, found.ends, strict=True):
        assert not [border for border in borders if start < border < end]


def test_pieces_end_where_the_answer_ends() -> None:
    assert surfaces(PLAIN, "1392년을") == ["1392년을"]  # one piece of the vocabulary
    cut = surfaces(CUT, "1392년을")
    assert "".join(cut) == "1392년을"
    assert cut[-1] == "을"
    assert surfaces(PLAIN, "a(1392년")[1:] == ["(1392", "년"]
    assert surfaces(CUT, "a(1392년")[1:3] == ["(", "1"]
    assert surfaces(CUT, "세종대왕은 1392년을")[-1] == "을"
    assert surfaces(CUT, "임금이다.")[-1] == "."


def test_the_first_part_of_an_eojeol_has_the_space_mark() -> None:
    found = CUT.encode(["훈민정음을"])[0]
    assert names(found) == ["▁훈민정음", "을"]
    assert list(zip(found.starts, found.ends, strict=True)) == [(0, 4), (4, 5)]
    # not at the start of the text, and after several spaces: the same pieces, other offsets
    found = CUT.encode(["가 \n 훈민정음을"])[0]
    assert names(found)[-2:] == ["▁훈민정음", "을"]
    assert list(zip(found.starts, found.ends, strict=True))[-2:] == [(4, 8), (8, 9)]


def test_characters_that_become_several() -> None:
    found = PLAIN.encode(["제Ⅲ장"])[0]  # NFKC: III; three pieces stand for the one character
    assert names(found)[-4:-1] == ["I", "I", "I"]
    assert surfaces(PLAIN, "제Ⅲ장")[-4:-1] == ["Ⅲ", "Ⅲ", "Ⅲ"]
    found = PLAIN.encode(["5㎢이다"])[0]
    assert names(found)[1:4] == ["k", "m", "2"]
    assert surfaces(PLAIN, "5㎢이다")[1:4] == ["㎢"] * 3


def test_decomposed_syllables_are_composed() -> None:
    # text is NFC at the door; what is not has the same pieces, and offsets that lie in it
    found = PLAIN.encode(["\u1100\u1161\u11a8"])[0]
    assert names(found) == ["▁각"]
    assert found.starts[0] == 0
    assert 1 <= found.ends[0] <= 3


def test_nothing_gives_no_pieces() -> None:
    for tokenizer in (PLAIN, CUT):
        for found in tokenizer.encode(["", "  \n\t "]):
            assert len(found) == 0
            assert found.starts.dtype == np.int32
        assert tokenizer.encode([]) == []


def test_plain_pieces_are_those_of_the_saved_tokenizer(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(VOCABULARY)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = PieceTokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.vocabulary_size == len(VOCABULARY)
    for text in TEXTS:
        whole = tokenizer.encode(text)
        assert whole.ids[0] == 0
        assert whole.ids[-1] == 2
        assert loaded.encode([text])[0].ids.tolist() == whole.ids[1:-1]
    pair = tokenizer.encode("가", "각").tokens
    assert pair == ["<s>", "▁가", "</s>", "</s>", "▁각", "</s>"]


def test_a_batch_is_as_one_by_one() -> None:
    for tokenizer in (PLAIN, CUT):
        for text, found in zip(TEXTS, tokenizer.encode(TEXTS), strict=True):
            alone = tokenizer.encode([text])[0]
            for part in ("ids", "starts", "ends"):
                np.testing.assert_array_equal(getattr(found, part), getattr(alone, part))


def test_text_cut_at_morphemes_cannot_write_special_tokens() -> None:
    for word in ("<s>", "</s>", "<pad>", "<mask>"):
        found = CUT.encode([f"가 {word} 각"])[0]
        assert not {0, 1, 2, len(VOCABULARY) - 1} & set(found.ids.tolist())
