from __future__ import annotations

import bz2
from pathlib import Path

import pytest

from odqa.corpus import corpus_name, mediawiki, read_documents
from odqa.corpus.wikitext import plain_text
from odqa.errors import InputError


def page(page_id: int, title: str, text: str, *, namespace: int = 0, redirect: str = "") -> str:
    moved = f'<redirect title="{redirect}" />' if redirect else ""
    return (
        f"<page><title>{title}</title><ns>{namespace}</ns><id>{page_id}</id>{moved}"
        f"<revision><id>9{page_id}</id><text bytes='1'>{text}</text></revision></page>"
    )


def dump(*pages: str) -> str:
    schema = "http://www.mediawiki.org/xml/export-0.11/"
    return f'<mediawiki xmlns="{schema}" xml:lang="ko">\n{"".join(pages)}\n</mediawiki>'


PAGES = [
    page(1, "서울", "'''서울'''은 [[대한민국|한국]]의 수도이다.\n== 역사 ==\n오래되었다."),
    page(2, "한성", "#넘겨주기 [[서울]]", redirect="서울"),
    page(3, "틀:수도", "틀이다.", namespace=10),
    page(4, "부산 &amp; 항구", "부산은 항구이다.&lt;ref&gt;출처&lt;/ref&gt;"),
]


@pytest.mark.parametrize("name", ["kowiki-20260101-pages-articles.xml", "kowiki.xml.bz2"])
def test_articles_of_a_dump(tmp_path: Path, name: str) -> None:
    raw = dump(*PAGES).encode()
    path = tmp_path / name
    path.write_bytes(bz2.compress(raw) if name.endswith("bz2") else raw)
    first, second = read_documents(path)
    assert (first.doc_id, first.title) == ("1", "서울")
    assert first.text == "서울은 한국의 수도이다.\n역사.\n오래되었다."
    assert (second.doc_id, second.title, second.text) == ("4", "부산 & 항구", "부산은 항구이다.")
    assert corpus_name(path) == name.split(".")[0]


def test_several_processes_give_the_same_in_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.xml"
    path.write_text(dump(*(page(n, f"글 {n}", f"[[글]] {n}이다.") for n in range(30))))
    alone = list(read_documents(path))
    monkeypatch.setattr(mediawiki, "_PARALLEL_BYTES", 0)
    monkeypatch.setattr(mediawiki, "_PAGES_A_TASK", 4)
    assert list(read_documents(path)) == alone
    assert [document.doc_id for document in alone] == [str(n) for n in range(30)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<html></html>", "is no MediaWiki dump: its root is <html>"),
        (dump(PAGES[0])[:-5], r"a\.xml:\d+: is not valid XML"),
        ("", r"is not valid XML"),
        (dump(), "holds no article"),
    ],
)
def test_a_bad_dump_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.xml"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        list(read_documents(path))


@pytest.mark.parametrize(
    ("wikitext", "plain"),
    [
        ("'''굵게''' ''기울여''", "굵게 기울여"),
        ("[[서울특별시|서울]]과 [[부산]]", "서울과 부산"),
        ("[[파일:a.jpg|섬네일|[[서울]]의 모습]]본문[[분류:도시]][[en:Seoul]]", "본문"),
        ("로마({{llang|la|Roma}}, {{lang|en|Rome}})는", "로마(Roma, Rome)는"),
        ("{{정보상자|이름=서울}}본문{{출처}}<!-- 주석 --><ref>출처</ref>", "본문"),
        ("{| class='wikitable'\n| 칸\n|}\n본문", "본문"),
        ("머리\n\n== 생애 ==\n=== 어린 시절 ===\n본문", "머리\n생애.\n어린 시절.\n본문"),
        ("* 하나\n* 둘\n# 셋", "하나\n둘\n셋"),
        ("물은 H<sub>2</sub>O&nbsp;이다.<br />끝", "물은 H2O 이다. 끝"),
        ("[http://a.b 바깥 글] [http://a.b]", "바깥 글"),
        ("__목차없음__본문", "본문"),
        ("깨진 {{틀 [[고리", "깨진 {{틀 [[고리"),
    ],
)
def test_plain_text(wikitext: str, plain: str) -> None:
    assert plain_text(wikitext) == plain
