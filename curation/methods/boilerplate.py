"""Captions that say nothing about their image, by kind. Every pattern must match the whole caption, in any case."""

import re
from typing import Literal

Boilerplate = Literal[
    "file_name", "camera_name", "url", "date", "number", "hex", "generic", "navigation", "click", "social", "advert"
]

# Words that say nothing of an image alone, with an article or with a number ("the image", "Picture 34").
_GENERIC = (
    "image|images|img|picture|pictures|pic|pics|photo|photos|photograph|graphic|graphics|"
    "illustration|screenshot|screen shot|thumbnail|thumb|preview|banner|logo|our logo|site logo|icon|spacer|"
    "separator|divider|placeholder|untitled|unnamed|no title|no description|no caption|no image|not available|"
    "undefined|test|alt text|file|document|advertisement"
)
# Words that may name something as soon as they are more than alone (Avatar 2, Pixel 7, The Line, Line 4).
_ALONE = (
    "avatar|pixel|blank|empty|bullet|line|dot|figure|transparent|loading|unknown|n/a|none|null|nil|(?-i:nan|NaN|NAN)|"
    "default|todo|alt|title|caption|description|name|slide|scan|ad|ads|advert|sponsor|sponsored"
)
_NUMBERED = r"fig\.?|figure|abb\.?|slide|scan|page"  # these with a number: a fig is a fruit, Fig. 3 is not
_FOREIGN_GENERIC = (
    "bild|foto|fotos|abbildung|grafik|unbenannt|ohne titel|ohne namen|photographie|sans titre|sans nom|imagen|imágenes|"
    "fotografía|fotografia|sin título|sin titulo|sin nombre|imagem|imagens|sem título|sem titulo|sem nome|immagine|"
    "immagini|senza titolo|senza nome|afbeelding|afbeeldingen|plaatje|naamloos|zonder titel|obrazek|zdjęcie|"
    "bez tytułu|bez nazwy|obrázek|bez názvu|billede|billedet|bilde|uden titel|unavngivet|uten tittel|"
    "namnlös|utan titel|kuva|nimetön|kép|névtelen|imatge|sense títol|fără titlu|resim|görsel|fotoğraf|adsız|isimsiz|"
    "изображение|изображения|картинка|фото|фотография|без названия|без имени|без заголовка|зображення|без назви|"
    "εικόνα|φωτογραφία|χωρίς τίτλο|תמונה|ללא כותרת|ללא שם|صورة|صور|بدون عنوان|تصویر|عکس|चित्र|छवि|तस्वीर|शीर्षकहीन|"
    "hình ảnh|ảnh|không có tiêu đề|chưa đặt tên|รูปภาพ|ภาพ|ไม่มีชื่อ|gambar|tanpa judul|图片|图像|照片|相片|无标题|"
    "未命名|圖片|圖像|無標題|画像|写真|無題|イメージ|이미지|사진|그림|무제|제목 없음"
)
_NAVIGATION = (
    "home|homepage|home page|next|next page|prev|previous|previous page|up|back|forward|top|back to top|to top|"
    "first|last|contents|table of contents|toc|index|menu|nav|navigation|search|go|more|read more|see more|"
    "learn more|show more|more info|details|close|open|expand|collapse|print|download|upload|share|like|tweet|"
    "login|log in|logout|sign in|sign up|register|subscribe|cart|add to cart|checkout|help|faq|contact|contact us|"
    "about|about us|sitemap|site map|rss|feed|email|e-mail|skip to content|follow us"
)
_EXTENSIONS = "jpe?g|jpe|jfif|png|gif|webp|bmp|svgz?|tiff?|ico|avif|heic|psd|pdf|eps|html?|php|aspx?|mp4|mov"
_CAMERAS = r"dsc[nf]?|_?dsc|img[pe]?|_mg|pxl|mvi|cimg|gopr|gh0|dji|hpim|dcim|screen[ _-]?shot|whatsapp image"
# These are also names and words (Sam 5, Kif 3, Scan 2): with the long numbers that cameras write only.
_CAMERA_WORDS = r"(?-i:SAM)|pict|kif|vid|wp|scan"
_CAMERA_ENDS = r"(?:[ _-]*(?:hdr|pano|burst|edited|edit|copy|crop|cropped|bokeh|night|mp|wa\d{4})\b\d*)*"
_SITES = r"twitter|facebook|instagram|pinterest|linkedin|youtube|reddit|tumblr|whatsapp|google|google\+|rss|e-?mail"

_DAY, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:'?\d{2}|[12]\d{3})"
_ENGLISH_MONTHS = (
    "january|jan|february|feb|march|mar|april|apr|may|june|jun|july|jul|august|aug|september|sept|sep|october|oct|"
    "november|nov|december|dec"
)
# No "set", "out", "ago", "mag" of other languages: they are English words (Set 5).
_MONTHS = _ENGLISH_MONTHS + (
    "|januar|jänner|februar|märz|mai|juni|juli|oktober|okt|dezember|dez|janvier|janv|février|févr|avril|avr|juin|"
    "juillet|juil|août|aout|septembre|octobre|novembre|décembre|déc|enero|ene|febrero|marzo|abril|abr|mayo|junio|julio|"
    "agosto|septiembre|setiembre|octubre|noviembre|diciembre|dic|gennaio|febbraio|aprile|maggio|giugno|luglio|"
    "settembre|ottobre|dicembre|janeiro|fevereiro|março|maio|junho|julho|setembro|outubro|novembro|dezembro|januari|"
    "februari|maart|mei|augustus|augusti|maj|marts|januar|desember|stycznia|lutego|marca|kwietnia|maja|czerwca|lipca|"
    "sierpnia|września|października|listopada|grudnia|ocak|şubat|nisan|mayıs|haziran|temmuz|ağustos|eylül|ekim|kasım|"
    "aralık|января|февраля|марта|апреля|мая|июня|июля|августа|сентября|октября|ноября|декабря|يناير|فبراير|مارس|أبريل|"
    "مايو|يونيو|يوليو|أغسطس|سبتمبر|أكتوبر|نوفمبر|ديسمبر"
)
_WEEKDAY = (
    r"(?:(?:mon|tue|tues|wed|wednes|thu|thur|thurs|fri|sat|satur|sun)(?:day)?|montag|dienstag|mittwoch|donnerstag|"
    r"freitag|samstag|sonntag|lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche)\.?,? (?:den |le )?"
)
_TIME = r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[ap]\.?m\.?)?(?: ?(?:z|utc|gmt|[+-]\d{2}:?\d{2}))?"
_SEEN = r"here|this|images?|picture|photo|thumbnail|icon|button|link|see|view|larger?|bigger|enlarge|zoom|full|download"

# Every word of a pattern ends where a word ends: what is only the beginning of one (Mario, Decanter) is another word.
PATTERNS = {
    # holiday.jpg, C:\pics\a b.png
    "file_name": rf"\S(?:.*[^\s.])?\.(?:{_EXTENSIONS})",
    # DSC_0123, IMG 2009-11-02, Screenshot 2020 (also after underscores have become spaces), P1010023
    "camera_name": (
        rf"(?:(?:{_CAMERAS})[ _-]*\d|(?:{_CAMERA_WORDS})[ _-]*\d{{3}}|p\d{{7}}\b)[\d _.:()~-]*"
        rf"(?:at [\d .:]+)?(?: ?[ap]m)?{_CAMERA_ENDS}"
    ),
    "url": r"(?:https?://|ftp://|www\.)\S+|[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:com|org|net|edu|gov|info|io|co\.uk|de|fr)(?:/\S*)?",
    # 2004-08-25, 25/8/04, Aug 25 2004, 25 August 2004, August 2004, 25 de agosto de 2004, 2004年8月25日; perhaps a time
    "date": (
        rf"(?:{_WEEKDAY})?(?:\d{{1,4}}[-/. ]\d{{1,2}}[-/. ]\d{{1,4}}"
        rf"|(?:{_ENGLISH_MONTHS})\.? {_DAY}(?:st|nd|rd|th)?(?:(?: {_TIME})?,? {_YEAR})?"
        rf"|{_DAY}(?:st|nd|rd|th|er|º)?\.? (?:of |de )?(?:{_MONTHS}|mars|marca)\.?,?"
        rf"(?: (?:de |del )?{_YEAR})?(?: г\.?)?"
        rf"|(?:{_MONTHS})\.?,? (?:de |del )?[12]\d{{3}}"
        r"|(?:\d{4} ?[年년] ?)?\d{1,2} ?[月월] ?(?:\d{1,2} ?[日일])?)"
        rf"(?:(?:[ t,]+|, at | at ){_TIME})?"
    ),
    "number": r"[\W_]*\d[\d\W_]*",
    # 5d41402abc4b2a76b9719d911017c592, 550e8400-e29b-41d4-a716-446655440000, HASH(0x853b2b0); not Fabaceae 2019
    "hex": (
        r"(?:0x)?(?=[a-f]*\d)[0-9a-f]{8,}(?:[-_][0-9a-f]{4,}| (?=[a-f]*\d)[0-9a-f]{4,})*"
        r"|.*\b(?:hash|array|code|scalar)\(0x[0-9a-f]+\).*"
    ),
    "generic": (
        rf"\W*(?:(?:(?:a|an|the|my|this|your) )?(?:{_GENERIC}|{_FOREIGN_GENERIC})"
        r"(?:[ -]?(?:#|no\.?|nr\.?|number)? ?\d+)?"
        rf"|(?:{_ALONE})|(?:{_NUMBERED})[ -]?(?:#|no\.?|nr\.?|number)? ?\d+)(?: of \d+)?\W*"
    ),
    "navigation": rf"\W*(?:{_NAVIGATION})\W*",
    "click": (
        rf"\W*(?:please )?(?:click\W*|(?=.*\b(?:{_SEEN})\b)(?:click|tap|press|touch|hover|roll over)\b"
        r"(?: (?:here|on|to|for|the|this|image|images|picture|photo|thumbnail|icon|button|link|it|and|or|"
        r"see|view|a|full|full-size|fullsize|large|larger|bigger|size|sized|version|enlarge|zoom|open|close|play|download|"
        r"visit|go|more|info|information|details|return|continue|website|site))*\W*)"
        r"|\W*enlarge(?: (?:image|picture|photo|this image))?\W*|"
        r"(?:view|see) (?:full|larger|large|full-size)(?: (?:size|image|version))*"
        r"|\W*(?:(?:cliquez|cliquer|clic|haga clic|haz clic|pulse|clique|clicca|clicca qui|klik|klicken|klicken sie|"
        r"bild anklicken|kliknij|klicka|klikk|нажмите|кликните|кликни),? (?:ici |aquí |hier )?"
        r"(?:sur l'image |na imagem |sull'immagine |en la imagen |auf das bild )?"
        r"(?:pour (?:l')?agrandir|para (?:ampliar|agrandar|aumentar)|per ingrandire|"
        r"om te vergroten|zum vergrößern|aby powiększyć|för att förstora|for å forstørre|for at forstørre|"
        r"(?:чтобы|для) (?:увеличить|увеличения))(?: l'image| la imagen| a imagem| das bild)?"
        r"|zum vergrößern(?: bitte)? (?:an)?klicken|büyütmek için tıklayın|انقر للتكبير|"
        r"点击(?:图片)?(?:放大|查看大图)|點擊放大|クリックで拡大|"
        r"クリックすると拡大(?:します)?|클릭(?:하면|하여) ?확대)\W*"
    ),
    "social": (
        rf"\W*(?:share|follow|find|like|join|tweet|post|pin|save)\b(?=.* (?:us|{_SITES})\W*$)"
        rf"(?: (?:this|it|us|me|on|to|at|via|with|by|{_SITES}))*\W*"
        rf"|\W*(?:share|tweet|pin|like) (?:this|it)\W*|\W*(?:share|tweet)\W*"
        rf"|\W*(?:on |our )?(?:{_SITES})(?: (?:page|link))?\W*"
    ),
    "advert": (
        r".*\b(?:buy (?:it |them )?(?:now|today|online)|(?:best|lowest|low|special) prices?|free shipping|"
        r"order (?:now|today)|limited (?:time )?offer|click here to buy|\d+% off|satisfaction guaranteed|"
        r"act now|cheap(?:est)? prices?)\b.*"
    ),
}

COMPILED = {name: re.compile(pattern, re.IGNORECASE | re.DOTALL) for name, pattern in PATTERNS.items()}


def boilerplate(text: str, names: tuple[str, ...]) -> str | None:
    """The first of the named patterns that is the whole text, or None."""
    for name in names:
        if COMPILED[name].fullmatch(text):
            return name
    return None


def compiled(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """A user's own patterns, all of them valid; ValueError naming the first that is not."""
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"`{pattern}` is no regular expression: {error}") from None
    return patterns
