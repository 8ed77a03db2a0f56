"""Questions about what the beginning of an article says of its subject.

An encyclopaedia says when people lived in brackets ("김소월(1902년 9월 7일 ~ 1934년 12월 24일)은"),
where its subject belongs in the first predicate ("대한민국의 시인이다") and facts in short
statements ("수도는 파리이며, 인구는 ..."). People ask for just that ("김소월은 언제 태어났나요?"),
and sentences turned into questions (``odqa.training.asking``) never do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from odqa.training.forms import closed, fitting

_DATE = r"(?:기원전 ?)?\d{1,4}년(?: ?\d{1,2}월(?: ?\d{1,2}일)?)?"
_SPAN = re.compile(
    rf"(?P<reign>재위[^\d()]{{0,4}})?(?P<first>{_DATE})(?P<dash> ?[~～∼〜–—-] ?)(?P<last>{_DATE})?"
)
_LEAD = re.compile(r"[^().]{1,60}\((?P<inside>(?:[^()]|\([^()]*\))*)\)[은는이가]? ")
_PREDICATE = re.compile(r"(?P<class>[가-힣A-Za-z]{2,12}?)(?P<ending>이다|이었다|였다|(?<!이)다)[.]")
_COUNTRIES = (
    "대한민국", "한국", "조선", "고려", "신라", "백제", "고구려", "일본", "중국", "중화인민공화국",
    "중화민국", "타이완", "미국", "영국", "잉글랜드", "스코틀랜드", "아일랜드", "프랑스", "독일",
    "이탈리아", "스페인", "포르투갈", "네덜란드", "벨기에", "스위스", "오스트리아", "헝가리",
    "체코", "폴란드", "러시아", "소련", "우크라이나", "스웨덴", "노르웨이", "덴마크", "핀란드",
    "그리스", "터키", "이집트", "인도", "인도네시아", "태국", "베트남", "필리핀", "말레이시아",
    "싱가포르", "몽골", "이란", "이라크", "이스라엘", "오스트레일리아", "뉴질랜드", "캐나다",
    "멕시코", "브라질", "아르헨티나", "칠레", "콜롬비아", "페루", "우루과이", "남아프리카 공화국",
    "나이지리아", "모로코", "루마니아", "불가리아", "세르비아", "크로아티아",
    "조선민주주의인민공화국",
)  # fmt: skip
_OF_COUNTRY = re.compile(rf"(?:^|[ )])(?P<country>{'|'.join(_COUNTRIES)})의 ")
_PERSON = (
    "배우", "선수", "가수", "정치인", "정치가", "작가", "소설가", "시인", "화가", "감독", "학자",
    "과학자", "철학자", "교수", "의사", "변호사", "기자", "군인", "장군", "무장", "무신", "문신",
    "왕", "여왕", "국왕", "황제", "교황", "천황", "왕비", "황후", "왕자", "공주", "대통령", "총리",
    "장관", "의원", "외교관", "목사", "신부", "승려", "음악가", "작곡가", "지휘자", "연주자",
    "피아니스트", "기타리스트", "무용가", "코미디언", "희극인", "개그맨", "아나운서", "방송인",
    "모델", "성우", "기업인", "사업가", "경영인", "독립운동가", "운동가", "혁명가", "탐험가",
    "래퍼", "만화가", "건축가", "조각가", "사진가", "발명가", "언론인", "법조인", "종교인",
    "신학자", "사상가", "시나리오 작가", "극작가", "지도자", "다이묘", "환관", "귀족", "유학자",
)  # fmt: skip
_STATE = ("왕조", "나라", "국가", "왕국", "제국", "공화국")
_EVENT = ("전쟁", "전투", "내전", "혁명", "운동", "반란", "분쟁", "사건", "대회", "항쟁")
_ASKED: dict[str, _Tails] = {
    "birth": (
        "{은} 언제 태어났는가?", "{은} 언제 태어났나요?", "{이} 태어난 날은 언제인가?",
        "{의} 출생일은 언제인가요?", "{의} 생년월일은?", "{은} 언제 출생했나요?",
        "{의} 생일은 언제인가?", "{이} 태어난 때는?",
    ),
    "birth year": (
        "{은} 몇 년에 태어났는가?", "{은} 몇 년도에 태어났나요?", "{이} 태어난 해는?",
        "{의} 출생 연도는 언제인가요?", "{은} 몇 년생인가?",
    ),
    "death": (
        "{은} 언제 사망했는가?", "{은} 언제 죽었나요?", "{이} 사망한 날은 언제인가?",
        "{의} 사망일은 언제인가요?", "{은} 언제 세상을 떠났는가?", "{이} 죽은 때는?",
        "{은} 언제 사망하였나요?",
    ),
    "death year": (
        "{은} 몇 년에 사망했는가?", "{은} 몇 년도에 죽었나요?", "{이} 사망한 해는?",
        "{의} 사망 연도는 언제인가요?",
    ),
    "founding": (
        "{은} 언제 건국되었나요?", "{은} 언제 세워졌는가?", "{이} 건국된 해는 언제인가?",
        "{의} 건국일은 언제인가요?", "{은} 언제 시작되었나요?",
    ),
    "fall": ("{은} 언제 멸망했는가?", "{은} 언제 망했나요?", "{이} 멸망한 해는 언제인가?"),
    "beginning": (
        "{은} 언제 시작되었는가?", "{은} 언제 일어났나요?", "{이} 시작된 날은 언제인가?",
        "{이} 일어난 때는?", "{은} 언제 발생했나요?",
    ),
    "end": ("{은} 언제 끝났는가?", "{은} 언제 끝났나요?", "{이} 끝난 날은 언제인가?"),
    "accession": ("{은} 언제 즉위했는가?", "{이} 즉위한 때는 언제인가요?", "{의} 즉위일은?"),
    "abdication": ("{의} 재위가 끝난 때는 언제인가?", "{은} 언제까지 재위했나요?"),
    "nationality": (
        "{은} 어느 나라 사람인가?", "{은} 어느 나라 사람인가요?", "{의} 국적은 어디인가요?",
        "{은} 어느 나라의 {class}인가?", "{은} 어느 나라 {class}인가요?",
    ),
    "country": ("{은} 어느 나라의 {class}인가?", "{은} 어느 나라 {class}인가요?"),
}  # fmt: skip
_Tails = tuple[str, ...]
_WHERE: _Tails = ("어디인가?", "어디인가요?", "")
_WHO: _Tails = ("누구인가?", "누구인가요?", "")
_WHAT: _Tails = ("무엇인가?", "무엇인가요?", "")
_HOW_MUCH: _Tails = ("얼마인가?", "얼마인가요?", "")
_RELATIONS: dict[str, _Tails] = {
    **dict.fromkeys(("수도", "본사", "행정 중심지", "주도", "군청 소재지", "중심지"), _WHERE),
    **dict.fromkeys(
        ("아버지", "부친", "어머니", "모친", "아내", "부인", "남편", "배우자", "아들", "스승",
         "감독", "저자", "창업자", "설립자", "초대 회장"), _WHO),
    **dict.fromkeys(
        ("본명", "별명", "시호", "묘호", "호", "본관", "학명", "공용어", "통화", "종교", "국교",
         "포지션", "직업", "국화", "원제"), _WHAT),
    **dict.fromkeys(
        ("인구", "면적", "넓이", "높이", "길이", "전체 길이", "해발 고도", "인구 밀도", "키"),
        _HOW_MUCH),
}  # fmt: skip
_RELATION = re.compile(
    rf"(?:^|(?<=[.,] )|(?<=(?:로|며|고) ))(?P<noun>{'|'.join(sorted(_RELATIONS, key=len)[::-1])})"
    r"[은는] (?P<value>[^\s(),.](?:[^(),]|,(?=\d)){0,24}?)"
    r"(?=\(|, |이(?:며|고|나|지만|었|다[.])|다[.]|으?로, )"
)
_NO_NAME = re.compile(r"(?:[은는을를며고]|으로|에서|이며) |[다된한인의던었였]$")  # a clause


@dataclass(frozen=True, slots=True)
class LeadQuestion:
    """A question and its answer, ``text[start:start + len(answer)]``."""

    question: str
    answer: str
    start: int
    sort: str  # date | year | place | person | number | thing


def lead_questions(text: str, title: str, random: np.random.Generator) -> list[LeadQuestion]:
    """What can be asked about an article's subject, in a random order.

    Args:
        text: the article's first passage.
        title: the article's; what it has in brackets to tell it from others is left out.
        random: draws the forms of the questions and their order.
    """
    name = re.sub(r"\s*\([^()]*\)$", "", title)
    if not name:
        return []
    found = [*_of_brackets(text, name, random), *_of_relations(text, name, random)]
    whole = [q for q in found if q.answer not in q.question]
    return [whole[i] for i in random.permutation(len(whole))]


def _of_brackets(text: str, name: str, random: np.random.Generator) -> Iterator[LeadQuestion]:
    """Of the first sentence: when its subject lived or lasted, and which country's it is."""
    sentence = text.split("\n", 1)[0]
    predicate = _PREDICATE.search(sentence)
    if predicate is None or (predicate["ending"] == "다" and closed(predicate["class"])):
        return  # "태어났다" is no copula, "선수다" is one
    kind = predicate["class"]
    person = kind.endswith(_PERSON) and not kind.endswith(_STATE)
    lead = _LEAD.match(sentence)
    if lead is not None and lead.end() < predicate.start():
        yield from _of_times(text, lead, name, _kinds_of_time(kind, person=person), random)
    begin = lead.end() - 1 if lead is not None else 0
    country = _OF_COUNTRY.search(sentence, begin, predicate.start())
    if country is None:
        return
    phrase = sentence[country.end() : predicate.end("class")]
    if phrase.count(" ") < 2 and "," not in phrase:
        asked = _form("nationality" if person else "country", name, random, noun=phrase)
        yield LeadQuestion(asked, country["country"], country.start("country"), "place")


def _kinds_of_time(kind: str, *, person: bool) -> tuple[str, str] | None:
    """What the beginning and the end of a span of time are called."""
    if person:
        return "birth", "death"
    if kind.endswith(_STATE):
        return "founding", "fall"
    return ("beginning", "end") if kind.endswith(_EVENT) else None


def _of_times(
    text: str,
    lead: re.Match[str],
    name: str,
    kinds: tuple[str, str] | None,
    random: np.random.Generator,
) -> Iterator[LeadQuestion]:
    lived = False
    for span in _SPAN.finditer(text, lead.start("inside"), lead.end("inside")):
        reign = span["reign"] is not None or "재위" in text[lead.start() : span.start()]
        if kinds is None or (lived and not reign):
            continue
        lived = True
        for group, kind in zip(
            ("first", "last"), ("accession", "abdication") if reign else kinds, strict=True
        ):
            date = span[group]
            if date is None:
                continue
            year = re.match(r"(?:기원전 ?)?\d{1,4}년", date)
            by_year = kind in ("birth", "death") and random.random() < 0.25
            answer = year.group() if by_year and year is not None else date
            asked = _form(f"{kind} year" if by_year else kind, name, random)
            yield LeadQuestion(asked, answer, span.start(group), "year" if by_year else "date")


def _of_relations(text: str, name: str, random: np.random.Generator) -> Iterator[LeadQuestion]:
    """Of short statements: "수도는 파리이며"."""
    for match in _RELATION.finditer(text):
        noun, value = match["noun"], match["value"].rstrip()
        tails = _RELATIONS[noun]
        if tails is _HOW_MUCH and not value[0].isdigit():
            continue
        if value.count(" ") > 3 or _NO_NAME.search(value):
            continue
        tail = tails[int(random.integers(len(tails)))]
        asked = f"{name}의 {noun}{fitting('은', noun)} {tail}".rstrip()
        sort = {_WHERE: "place", _WHO: "person", _HOW_MUCH: "number"}.get(tails, "thing")
        yield LeadQuestion(asked.removesuffix("?") + "?", value, match.start("value"), sort)


def _form(kind: str, name: str, random: np.random.Generator, *, noun: str = "") -> str:
    """One of the forms in which something is asked, with the particles that fit the name."""
    forms: Sequence[str] = _ASKED[kind]
    form = forms[int(random.integers(len(forms)))]
    for particle in ("은", "이", "의"):
        form = form.replace(f"{{{particle}}}", name + fitting(particle, name))
    return form.format(**{"class": noun})
