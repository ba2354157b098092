"""Two lists of sentences of our own: good captions in many styles and languages pass, bad answers do not.

good.tsv   ISO code, caption
bad.jsonl  text, the reason that fits it best; `language` and `finish` where it is bad by them alone
"""

import json
from collections import Counter
from pathlib import Path

from curation.generation.checks.asked import Asked
from curation.generation.checks.judging import CheckSettings, judged
from curation.generation.checks.plain import made_plain
from curation.generation.languages import language_model, languages_of, model_path
from curation.generation.request import Answer

HERE = Path(__file__).parent
SAID = "Describe this picture in one sentence of at most 25 words. Answer with the sentence alone."


def reason(text: str, language: str = "", finish: str = "stop") -> str | None:
    model = language_model(str(model_path()))
    asked = Asked([], SAID, frozenset(), language)
    return judged(Answer(text, finish=finish), asked, CheckSettings(), lambda each: languages_of(model, each))[1]


def good() -> list[list[str]]:
    return [line.split("\t") for line in (HERE / "good.tsv").read_text("utf-8").splitlines()]


def test_of_good_captions_hardly_one_in_a_hundred_is_dropped_whatever_its_language_and_none_is_changed():
    rows = good()
    assert len(rows) > 250 and len({language for language, _ in rows}) > 20
    alarms = [text for language, text in rows if reason(text) or reason(text, language)]
    assert len(alarms) < 0.01 * len(rows), alarms
    assert [text for _, text in rows if made_plain(text) != text] == []


def test_of_bad_answers_hardly_one_passes_and_most_are_dropped_by_their_name():
    rows = [json.loads(line) for line in (HERE / "bad.jsonl").read_text().splitlines()]
    found = [reason(row["text"], row.get("language", ""), row.get("finish", "stop")) for row in rows]
    assert len(rows) > 250 and len(Counter(row["reason"] for row in rows)) > 10
    missed = [row["text"] for row, name in zip(rows, found, strict=True) if not name]
    assert len(missed) < 0.03 * len(rows), missed
    assert sum(row["reason"] == name for row, name in zip(rows, found, strict=True)) > 0.95 * len(rows)


def test_no_caption_passes_as_one_of_a_language_of_another_script():
    told = {"ru": "en", "zh": "de", "ja": "fr", "ar": "en", "ko": "es", "el": "it", "hi": "pt", "he": "nl"}
    rows = [(told[language], text) for language, text in good() if language in told]
    assert len(rows) > 15 and all(reason(text, other) == "language" for other, text in rows)
