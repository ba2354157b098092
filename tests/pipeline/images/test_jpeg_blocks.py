"""JPEG files cut short whose end mark was put back, told from whole ones with all that browsers put up with. The oracle
is where a file was cut."""

import pytest
from PIL import Image

from pipeline.images.decoder import Picture, Refused
from tests.helpers import edits, pairs

PHOTO = edits.photo(1, (192, 128))
END = b"\xff\xd9"
BLOCK = 300  # bytes; more than the last block of 16 x 16 pixels takes
KINDS = [
    ("RGB", {}), ("RGB", {"subsampling": 0}), ("RGB", {"optimize": True, "quality": 30}), ("L", {}), ("CMYK", {}),
    ("RGB", {"keep_rgb": True}), ("RGB", {"restart_marker_blocks": 3}), ("RGB", {"restart_marker_rows": 1}),
]  # fmt: skip
PROGRESSIVE = [("RGB", {}), ("L", {}), ("CMYK", {}), ("RGB", {"restart_marker_rows": 1})]


def jpeg(mode: str, options: dict[str, object], image: Image.Image = PHOTO) -> bytes:
    return pairs.encoded(image.convert(mode), "JPEG", **options)


def outcomes(body: bytes) -> set[str]:
    """At all scales."""
    found = set()
    for spare in (1, 2, 4, 8):
        try:
            Picture(body).reduced(spare)
            found.add("")
        except Refused as refused:
            found.add(refused.reason)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_anywhere_with_its_end_put_back_is_truncated(kind):
    body = jpeg(*kind)
    start = body.index(b"\xff\xda") + 20
    for at in range(start, len(body) - BLOCK, max(1, (len(body) - start) // 40)):
        assert outcomes(body[:at] + END) == {"truncated"}, at
    cut = body[: (start + len(body)) // 2] + END
    assert outcomes(cut + b"junk" * 90) == outcomes(cut + body) == {"truncated"}  # whatever follows the end


def test_a_cut_behind_any_byte_is_seen():
    """Behind an escape or within a restart mark, too."""
    body = jpeg("RGB", {"restart_marker_blocks": 2, "quality": 60}, PHOTO.resize((96, 64)))
    for at in range(body.index(b"\xff\xda") + 20, len(body) - BLOCK):
        with pytest.raises(Refused, match="truncated"):
            Picture(body[:at] + END).rgb()


@pytest.mark.parametrize("kind", PROGRESSIVE)
def test_a_progressive_file_is_cut_where_its_coarse_picture_is_and_only_less_sharp_behind(kind):
    mode, options = kind
    body = jpeg(mode, {**options, "progressive": True})
    start = body.index(b"\xff\xda")
    tables = body.index(b"\xff\xc4", start)
    for at in range(start + 20, tables, max(1, (tables - start) // 30)):
        assert outcomes(body[:at] + END) == {"truncated"}, at
    fine = body.index(b"\xff\xda", tables)
    end = body.index(b"\xff\xc4", fine)
    for at in range(fine + 20, end, max(1, (end - fine) // 30)):
        assert outcomes(body[:at] + END) == {""}, at


@pytest.mark.parametrize("kind", [*KINDS, *((mode, {**options, "progressive": True}) for mode, options in PROGRESSIVE)])
@pytest.mark.parametrize("corner", [None, 126, 127, 128, 129, 130])
def test_what_browsers_put_up_with_stays(kind, corner):
    """Also where the last pixels are as grey as what is missing elsewhere."""
    image = PHOTO.copy()
    if corner is not None:
        image.paste((corner,) * 3, (96, 64, 192, 128))
    body = jpeg(*kind, image)
    before = [b"", b"ab" * 20, bytes(9), b"\xff" * 5, b"\xff\x00" * 300, b"\xff\xd3"]
    whole = [body[:-2] + junk + END for junk in before] + [body + junk for junk in (b"junk" * 90, bytes(2000), END)]
    assert [outcomes(each) for each in whole] == [{""}] * len(whole)
