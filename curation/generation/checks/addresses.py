"""Addresses in an answer that stood in no text that it was made from."""

import re
from collections.abc import Iterator

from curation.generation.checks.asked import Asked
from curation.generation.request import Answer

_GENERIC = (
    "com net org edu gov mil int info biz name pro museum aero coop jobs mobi travel cat asia app dev blog shop store "
    "online site website xyz club top live news art photo photos gallery design studio world space tech cloud media "
    "agency digital social wiki рф бел укр срб 中国 香港 台湾 рус"
)
_COUNTRIES = (
    "ac ad ae af ag ai al ao aq ar at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cc cd cf cg "
    "ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga gd ge gf gg "
    "gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km "
    "kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc me mg mh mk ml mm mn mo mp mq mr mt mu mv mw mx my mz na "
    "nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pn pr pt pw qa re ro ru rw sa sb sc sd se sg si sk sl sm "
    "sn sr ss st su sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu "
    "wf ws ye yt za zm zw"
)
"""Of those that end names of files as well (md, py, rs, sh, ps, so, zip), and of `am` and `as`, none."""
_LABEL = r"[^\W_](?:[\w-]*[^\W_])?"
_HOST = rf"(?:{_LABEL}\.)+(?:{'|'.join((_GENERIC + ' ' + _COUNTRIES).split())})"
_ADDRESS = re.compile(
    rf"\b[a-z][a-z0-9+.-]{{1,9}}://[^\s<>\"')]+|\bwww\.[^\s<>\"')]+"
    rf"|(?<![\w@./\\-])(?:(?P<user>[\w.+-]+)@)?(?P<host>{_HOST})(?![\w-]|\.\w)(?P<path>[:/?#][^\s<>\"')]*)?"
    rf"|\b(?P<spoken>[\w-]+ ?(?: dot |\(\.\)|\[\.\]|\(dot\)|\[dot\]) ?(?:com|net|org|info|io)\b)",
    re.IGNORECASE,
)
_MAY_HAVE = re.compile(r"\.\w|://|\bdot\b|[\])]", re.IGNORECASE)
_SHORT = frozenset("com net org cn".split())
"""Under these a name of digits, or of one letter, is common."""


def has_new_address(text: str, answer: Answer, asked: Asked) -> bool:
    if not _MAY_HAVE.search(text):
        return False
    mine = set(addresses(text))
    if not mine:
        return False
    known = {each for data in asked.data for each in addresses(data)}
    hosts = {re.split("[:/?#]", each, maxsplit=1)[0] for each in known}
    return not mine <= known | hosts


def addresses(text: str) -> Iterator[str]:
    """Of pages, hosts and people, each in one form: no scheme, no www, no case."""
    for found in _ADDRESS.finditer(text):
        if found["host"] and not found["user"] and not _is_meant(found["host"], found["path"] or ""):
            continue
        plain = found[0].casefold()
        if found["spoken"]:
            plain = re.sub(r"[\s()\[\]]*(?:dot|\.)[\s()\[\]]*", ".", plain)
        plain = re.sub(r"^(?:[a-z][a-z0-9+.-]*://)?(?:www\.)?", "", plain)
        yield plain.rstrip(".,;:!?/")


def _is_meant(host: str, path: str) -> bool:
    """Whether it is an address, and not two sentences without a space between or a word with a dot in it."""
    *_, name, top = host.split(".")
    if not (top.islower() or host.isupper()) and any(char.isascii() for char in top):
        return False
    if host.isupper() and top not in ("COM", "ORG", "DE", "EU", "INFO"):
        return False  # ASP.NET, U.S.AT
    if top.casefold() in _SHORT:
        return True
    return not name.isdecimal() and (len(name) > 1 or len(path) > 1)
