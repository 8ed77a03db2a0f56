from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odqa.errors import ConfigError
from odqa.protocols import Tokenizer
from odqa.text.tokenizers import create_tokenizer

NAMES = ["mecab", "bigram", "whitespace"]


def test_mecab_keeps_content_morphemes() -> None:
    terms = create_tokenizer("mecab").tokenize(["훈민정음은 1443년에 세종이 창제하였다."])[0]
    assert terms == ["훈민정음", "1443", "년", "세종", "창제"]


def test_mecab_gives_the_stem_of_a_melted_verb() -> None:
    went, goes = create_tokenizer("mecab").tokenize(["학교에 갔다", "학교에 가는"])
    assert went == goes == ["학교", "가"]


def test_bigrams_of_syllables() -> None:
    terms = create_tokenizer("bigram").tokenize(["대한민국의 수도, KBS2는 韓國語 꽃"])[0]
    assert terms == ["대한", "한민", "민국", "국의", "수도", "kbs2", "는", "韓國", "國語", "꽃"]


def test_white_space_strips_punctuation() -> None:
    terms = create_tokenizer("whitespace").tokenize(["“서울은,  (수도)이다.” - C++"])[0]
    assert terms == ["서울은", "수도)이다", "c"]


@pytest.mark.parametrize("name", NAMES)
def test_width_case_and_normal_form_make_no_difference(name: str) -> None:
    tokenizer = create_tokenizer(name)
    plain, wide, upper = tokenizer.tokenize(
        ["abc 방송 2023", "ＡＢＣ 방송 ２０２３", "ABC 방송 2023"]
    )
    assert plain == wide == upper


@pytest.mark.parametrize("name", NAMES)
def test_protocol_and_batches(name: str) -> None:
    tokenizer = create_tokenizer(name)
    assert isinstance(tokenizer, Tokenizer)
    assert tokenizer.fingerprint == create_tokenizer(name).fingerprint
    assert tokenizer.fingerprint.startswith(f"{name}/")
    texts = ["서울은 수도이다.", "", " \n", "123", "?!"]
    batch = tokenizer.tokenize(texts)
    assert batch == [tokenizer.tokenize([text])[0] for text in texts]
    assert batch[1] == batch[2] == batch[4] == []
    assert tokenizer.tokenize([]) == []


@pytest.mark.parametrize("name", NAMES)
@given(text=st.text(max_size=100))
@settings(max_examples=60, deadline=None)
def test_terms_are_never_empty_nor_hold_white_space(name: str, text: str) -> None:
    for term in create_tokenizer(name).tokenize([text])[0]:
        assert term
        assert unicodedata.normalize("NFKC", term) == term or not term.isalpha()


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="unknown tokenizer 'kiwi'; known: bigram, mecab, white"):
        create_tokenizer("kiwi")
