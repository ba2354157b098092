"""Which columns are what: told by names, by settings, and without a header by the first rows."""

import pytest

from curation.sources.table.layout import Names, Unknown, has_header, layout_of, layout_of_row, without_header

U = "http://e.org/1.png"


def test_columns_without_names_are_called_by_their_number_also_beyond_nine():
    row = [*"abcdefghijk", U, "l"]
    columns = without_header([row[:5], row, []], Names())
    assert columns == [*map(str, range(11)), "url", "12"]
    found = layout_of(columns, Names(captions={"12": "caption", "10": "alt", "2": "caption"}))
    assert found.captions == (("12", "caption"), ("10", "alt"), ("2", "caption")), "in the order of the setting"
    assert (found.url, found.uid) == ("url", "")
    assert without_header([row], Names(url="3")) == [str(at) for at in range(13)]


@pytest.mark.parametrize(
    ("rows", "names", "columns"),
    [
        ([["a", U]], Names(), ["caption", "url"]),
        ([[U, "a"]], Names(), ["url", "caption"]),
        ([[U, "a"]], Names(captions={"1": "alt"}), ["url", "1"]),
        ([[U]], Names(), ["url"]),
        ([[U, "a", "b"]], Names(), ["url", "1", "2"]),
        ([[U, "see"], ["none", U], [U, "x"]], Names(), ["url", "caption"]),  # most of that column are urls
    ],
)
def test_the_column_of_urls_is_told_by_its_values_and_beside_it_a_single_one_is_the_caption(rows, names, columns):
    assert without_header(rows, names) == columns


@pytest.mark.parametrize(
    ("rows", "words"), [([["a", "b"]], "0 columns of urls"), ([[U, U]], "2 columns of urls"), ([], "0 columns of urls")]
)
def test_without_one_column_of_urls_a_header_is_asked_for(rows, words):
    with pytest.raises(Unknown) as told:
        without_header(rows, Names())
    assert told.value.setting == "header" and words in told.value.found


@pytest.mark.parametrize(
    ("first", "names", "header"),
    [
        (["URL", "x"], Names(), True),
        (["a", "b"], Names(), True),
        ([U, "b"], Names(), False),
        ([U, "text"], Names(), False),
        ([U, "Url"], Names(), True),
        ([U, "b"], Names(url="b"), True),
        ([U, "b"], Names(captions={"b": "alt"}), True),
        ([U, "b"], Names(uid="b"), True),
        ([U, ""], Names(uid=""), False),
    ],
)
def test_a_first_row_names_columns_when_it_says_url_or_what_the_settings_name_or_holds_no_url(first, names, header):
    assert has_header(first, names) is header


@pytest.mark.parametrize(
    ("columns", "names", "expected"),
    [
        (["Image_URL", "Alt", "x", "UID"], Names(), ("Image_URL", (("Alt", "alt"),), "UID")),
        (["url", "title", "caption"], Names(), ("url", (("title", "title"), ("caption", "caption")), "")),
        (["url", "text", "uid"], Names(uid=""), ("url", (("text", "caption"),), "")),
        (["url", "text", "id"], Names(uid="id"), ("url", (("text", "caption"),), "id")),
        (["url", "text"], Names(captions={}), ("url", (), "")),
        (["text", "alt"], Names(url="text"), ("text", (("alt", "alt"),), "")),
        (["url", "text", "b"], Names(url="text", captions={"b": "alt"}), ("text", (("b", "alt"),), "")),
        (["url", "text"], Names(url="text", captions={"url": "alt"}), ("text", (("url", "alt"),), "")),
    ],
)
def test_names_of_columns_are_known_in_any_case_and_a_setting_counts_before_them(columns, names, expected):
    url, captions, uid = expected
    found = layout_of(columns, names)
    assert (found.url, found.captions, found.uid) == expected
    assert found.known >= {url, *(name for name, _ in captions), *([uid] if uid else [])}
    assert not found.known & (set(columns) - {url, uid, *(name for name, _ in captions)})


@pytest.mark.parametrize(
    ("columns", "names", "expected"),
    [
        (["url", "text"], Names(), ("url", (("text", "caption"),), "")),
        (["url", "n"], Names(), ("url", (), "")),
        (["url", "b"], Names(captions={"a": "alt", "b": "title"}, uid="id"), ("url", (("b", "title"),), "")),
        (["a", "url"], Names(url="a"), ("a", (), "")),
        (["url", "image_url"], Names(), "two_urls"),
        (["link"], Names(), "no_url"),
        (["url"], Names(url="a"), "no_url"),
    ],
)
def test_a_row_that_names_its_own_columns_may_lack_any_but_the_url(columns, names, expected):
    found = layout_of_row(columns, names)
    assert (found if isinstance(found, str) else (found.url, found.captions, found.uid)) == expected


def test_a_column_without_a_name_is_a_further_one_with_and_without_a_uid():
    for columns in (["url", "text", "uid", ""], ["url", "text", ""]):
        assert "" not in layout_of(columns, Names()).known
