"""What an image body is, by its first bytes; a server's Content-Type is never believed."""

_SVG_HEAD = 1024


def image_format(body: bytes) -> str:
    """One of jpg png webp gif bmp tiff avif heic jxl ico svg, or "" when the bytes start like no image."""
    if body.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if body.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "webp"
    if body[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if body[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if body[:2] == b"BM" and len(body) >= 26 and body[6:10] == b"\0\0\0\0":  # "BM" alone also opens ordinary text
        return "bmp"
    if body[4:8] == b"ftyp":
        if body[8:12] in (b"avif", b"avis"):
            return "avif"
        return "heic" if body[8:11] in (b"hei", b"hev", b"mif") else ""
    if body.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")):
        return "jxl"
    if body[:4] == b"\0\0\1\0" and len(body) > 22:
        return "ico"
    return "svg" if _is_svg(body) else ""


def _is_svg(body: bytes) -> bool:
    head = body[:_SVG_HEAD].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"<svg"):
        return True
    return head.startswith((b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in head
