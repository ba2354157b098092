"""Addresses of pages, hosts and people are found in any spelling, and words with a dot in them are none."""

import pytest

from curation.generation.checks.addresses import addresses


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see https://www.Example.com/a?b=c, and more", ["example.com/a?b=c"]),
        ("from WWW.EXAMPLE.ORG.", ["example.org"]),
        ("BESTCATS.COM", ["bestcats.com"]),
        ("bestcats.com and dogs.de/rex", ["bestcats.com", "dogs.de/rex"]),
        ("write to Jane.Doe@mail.example.net", ["jane.doe@mail.example.net"]),
        ("visit cats dot com", ["cats.com"]),
        ("cats[.]org or cats (dot) info", ["cats.org", "cats.info"]),
        ("коты.рф", ["коты.рф"]),
    ],
)
def test_an_address_has_one_form(text, found):
    assert list(addresses(text)) == found


@pytest.mark.parametrize(
    "text",
    [
        "a poster about ASP.NET and the U.S.AT noon",
        "A cat sat.It slept.",
        "He has left.No one came",
        "at 5.30 p.m. with 3.5 kg of flour",
        "version 2.0.in use",
        "a file readme.md beside main.py and run.sh",
        "",
    ],
)
def test_sentences_without_a_space_and_names_with_a_dot_are_none(text):
    assert list(addresses(text)) == []
