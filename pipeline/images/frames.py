"""Whether a picture moves, told by the container alone: no frame is decoded."""

_GIF_IMAGE, _GIF_EXTENSION = 0x2C, 0x21
_WEBP_ANIMATION = 0x02


def is_animated(body: bytes, ext: str) -> bool:
    """Whether there is more than one frame. A file that is cut short has those that it begins."""
    look = {"gif": _gif, "png": _png, "webp": _webp}.get(ext)
    return look is not None and look(body)


def _gif(body: bytes) -> bool:
    frames, at = 0, 13 + _colours(body[10:11])
    while at < len(body):
        kind = body[at]
        if kind == _GIF_IMAGE:
            frames += 1
            if frames > 1:
                return True
            at += 11 + _colours(body[at + 9 : at + 10])
        elif kind == _GIF_EXTENSION:
            at += 2
        else:  # the end, or what no reader reads past
            return False
        while at < len(body) and body[at]:  # blocks of up to 255 bytes, the last of none
            at += 1 + body[at]
        at += 1
    return False


def _colours(flags: bytes) -> int:
    """Bytes of the colour table that such flags announce."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def _png(body: bytes) -> bool:
    at = 8
    while (kind := body[at + 4 : at + 8]) not in (b"", b"IDAT", b"IEND"):
        if kind == b"acTL":
            return int.from_bytes(body[at + 8 : at + 12], "big") > 1
        at += 12 + int.from_bytes(body[at : at + 4], "big")
    return False


def _webp(body: bytes) -> bool:
    return body[12:16] == b"VP8X" and len(body) > 20 and bool(body[20] & _WEBP_ANIMATION)
