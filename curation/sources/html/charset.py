"""The character set of a page: byte order mark, then the HTTP header, then a meta element, then UTF-8, then Latin."""

import codecs
import re

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_SCANNED_BYTES = 4096  # browsers look at 1,024; pages with long scripts first exist
_IN_HEADER = re.compile(r"charset\s*=\s*[\"']?\s*([^\s\"';,]+)", re.IGNORECASE)
_IN_META = re.compile(rb"<meta[^>]{0,500}?charset\s*=\s*[\"']?\s*([^\s\"'/>;]+)", re.IGNORECASE)

# Labels whose meaning on the web is not Python's (WHATWG Encoding); every other label means Python's codec.
_ON_THE_WEB = {
    "ascii": "cp1252",
    "us-ascii": "cp1252",
    "iso-8859-1": "cp1252",
    "iso8859-1": "cp1252",
    "latin1": "cp1252",
    "latin-1": "cp1252",
    "l1": "cp1252",
    "iso-8859-9": "cp1254",
    "latin5": "cp1254",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "x-gbk": "gb18030",
    "gb_2312-80": "gb18030",
    "big5": "big5hkscs",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "x-sjis": "cp932",
    "windows-31j": "cp932",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "ksc5601": "cp949",
    "windows-949": "cp949",
    "x-euc-jp": "euc-jp",
    "unicode": "utf-16-le",
    "utf-16": "utf-16-le",
    "x-mac-cyrillic": "mac-cyrillic",
    "macintosh": "mac-roman",
    "utf8": "utf-8",
    "x-utf-8": "utf-8",
}
# Python codecs that read text of the web; its registry also holds rot13, zip, punycode, utf-7, unicode_escape ...
_FAMILIES = re.compile(
    r"utf-8|utf-16-[lb]e|cp(1250|1251|1252|1253|1254|1255|1256|1257|1258|866|874|932|949)|iso8859-\d+|koi8-[ru]|"
    r"gb18030|big5hkscs|euc_jp|iso2022_jp|mac-(roman|cyrillic)"
)


def codec_of(label: str) -> str | None:
    """The Python codec that a declared label means on the web; None when it means none."""
    label = label.strip().lower()
    try:
        name = codecs.lookup(_ON_THE_WEB.get(label, label)).name
    except (LookupError, ValueError, UnicodeError):
        return None
    return name if _FAMILIES.fullmatch(name) else None


def decode_page(body: bytes, content_type: str) -> str:
    """The text of an HTML body; bytes that its character set does not know become U+FFFD. NULs are removed."""
    for mark, name in _MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(name, "replace").replace("\0", "")
    declared = _IN_HEADER.search(content_type)
    codec = codec_of(declared[1]) if declared else None
    if codec is None:
        meta = _IN_META.search(body, 0, _SCANNED_BYTES)
        codec = codec_of(meta[1].decode("latin-1")) if meta else None
        if codec and codec.startswith("utf-16"):
            codec = "utf-8"  # a meta element that could be read as ASCII is not in UTF-16
    if codec is None:
        try:
            return body.decode("utf-8").replace("\0", "")
        except UnicodeDecodeError:
            codec = "cp1252"
    return body.decode(codec, "replace").replace("\0", "")
