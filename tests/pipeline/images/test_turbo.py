"""With simplejpeg or without it: the same pixels, and of damaged files the same outcome."""

import io
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.images import turbo
from pipeline.images.decoder import Picture, Refused
from tests.helpers import edits, pairs
from tests.helpers.lanes import examples

simplejpeg = pytest.importorskip("simplejpeg")
SIZES = [(203, 101), (64, 48), (17, 9), (9, 8), (8, 8), (3, 3), (2, 1), (33, 200)]
PLAIN: list[tuple[str, dict[str, object]]] = [
    ("RGB", {}), ("RGB", {"subsampling": 0}), ("RGB", {"subsampling": 1}), ("RGB", {"progressive": True}),
    ("RGB", {"progressive": True, "subsampling": 0}), ("RGB", {"optimize": True, "quality": 20}), ("L", {}),
    ("L", {"progressive": True}), ("RGB", {"restart_marker_blocks": 3}), ("RGB", {"keep_rgb": True}),
    ("RGB", {"restart_marker_rows": 1, "progressive": True}), ("RGB", {"quality": 100}),
]  # fmt: skip
ODD: list[tuple[str, dict[str, object]]] = [("CMYK", {}), ("CMYK", {"progressive": True})]


PHOTO = edits.photo(1, (320, 240))


def jpeg(mode: str, options: dict[str, object], size: tuple[int, int]) -> bytes:
    return pairs.encoded(PHOTO.resize(size).convert(mode), "JPEG", **options)


def subsampled(kind: str, size: tuple[int, int]) -> bytes:
    levels = np.ascontiguousarray(PHOTO.resize(size))
    return simplejpeg.encode_jpeg(levels, 80, colorsubsampling=kind)


def by_pillow(body: bytes, spare: int) -> Image.Image | None:
    """What Pillow alone makes of it; None when it makes nothing."""
    try:
        with Image.open(io.BytesIO(body), formats=("JPEG",)) as image:
            if spare > 1:
                image.draft(None, (max(1, image.width // spare), max(1, image.height // spare)))
            return image.convert("RGB")
    except Exception:
        return None


def by_turbo(body: bytes, spare: int) -> Image.Image | None:
    """What is decoded without Pillow; None where it is left to Pillow."""
    with Image.open(io.BytesIO(body), formats=("JPEG",)) as header:
        if spare > 1:
            header.draft(None, (max(1, header.width // spare), max(1, header.height // spare)))
        return turbo.decoded(header, body, 1)


def outcome(body: bytes, spare: float) -> object:
    try:
        image, box = Picture(body).reduced(spare)
    except Refused as refused:
        return refused.reason
    return image.tobytes(), image.size, box


def without_package(function: Callable[[], object]) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "simplejpeg", None)
        turbo._decoder.cache_clear()
        try:
            assert turbo._decoder() is None
            return function()
        finally:
            turbo._decoder.cache_clear()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spare", [1, 2, 4, 8])
def test_a_plain_jpeg_is_decoded_here_to_the_pixels_of_pillow(size, spare):
    bodies = [jpeg(*kind, size) for kind in PLAIN] + [subsampled(kind, size) for kind in ("440", "411")]
    for body in bodies:
        found, expected = by_turbo(body, spare), by_pillow(body, spare)
        assert expected is not None
        if max(expected.size) < 8:
            assert found is None or found.tobytes() == expected.tobytes()
            continue
        assert found is not None
        assert found.size == expected.size and found.tobytes() == expected.tobytes()


def test_what_is_not_plain_is_left_to_pillow():
    for kind in ODD:
        assert by_turbo(jpeg(*kind, (64, 48)), 1) is None
    assert by_turbo(jpeg("RGB", {}, (64, 48))[:-2], 1) is None  # no end mark
    assert by_turbo(jpeg("RGB", {}, (600, 400)), 1) is None  # too large to be worth it
    assert by_turbo(jpeg("RGB", {}, (600, 400)), 2) is not None


def test_what_is_slow_to_decode_is_not_decoded_twice():
    body = jpeg("RGB", {"progressive": True}, (2000, 2000))
    with Image.open(io.BytesIO(body)) as header:
        header.draft(None, (250, 250))
        assert turbo.decoded(header, body, 10) is not None
    with Image.open(io.BytesIO(body)) as header:
        header.draft(None, (250, 250))
        assert turbo.decoded(header, body, 41) is None


@examples(600)
@given(st.sampled_from(PLAIN + ODD), st.sampled_from(SIZES), st.sampled_from([1, 2, 4, 8]), st.data())
def test_a_damaged_file_has_the_outcome_that_it_has_without_the_package(kind, size, spare, data):
    """Bytes changed, lost, doubled or put in, anywhere or in the header: reason, or pixels, size and box."""
    body = bytearray(jpeg(*kind, size))
    end = data.draw(st.sampled_from([body.index(b"\xff\xda") + 12, len(body)]))
    place, marks = st.integers(2, end - 1), st.sampled_from([0xFF, 0, 0x11, 0x22, 0xC0, 0xC4, 0xD0, 0xD9, 0xDA])
    for _ in range(data.draw(st.integers(0, 12))):
        body[data.draw(place)] = data.draw(st.one_of(marks, st.integers(0, 255)))
    at, length = data.draw(place), data.draw(st.integers(0, 300))
    form = data.draw(st.sampled_from(["as it is", "cut", "a piece lost", "zeros", "doubled", "marks", "more behind"]))
    if form == "cut":
        del body[at:]
    elif form == "a piece lost":
        del body[at : at + length]
    elif form == "zeros":
        body[at : at + length] = bytes(len(body[at : at + length]))
    elif form == "doubled":
        body[at:at] = body[at : at + length]
    elif form == "marks":
        body[at:at] = bytes(data.draw(st.lists(marks, max_size=4)))
    elif form == "more behind":
        body += body[at : at + length]
    damaged = bytes(body)
    assert outcome(damaged, spare) == without_package(lambda: outcome(damaged, spare))
