"""WARC files with damage, lies about lengths, and bodies in which something looks like a record, for hypothesis."""

import gzip

from hypothesis import strategies as st

from tests.helpers.warcs import dictionary, dictionary_frame, framed, http, record

NESTED = record("http://inside.org/x", http(b"inner"))


def block(at: int, size: int, inside: str) -> bytes:
    """A body of `size` random-like bytes, with something that misleads behind them."""
    noise = bytes((at * 7 + n * n * 31) % 251 for n in range(size))
    return http(
        noise
        + {
            "": b"",
            "record": b"\r\n\r\n" + NESTED,
            "member": gzip.compress(NESTED, 0, mtime=0),
            "frame": framed(NESTED, 1),
        }[inside]
    )


@st.composite
def hostile_files(draw: st.DrawFn) -> bytes:
    pieces = []
    for at in range(draw(st.integers(1, 25))):
        inside = draw(st.sampled_from(["", "", "", "record", "member", "frame"]))
        body = block(at, draw(st.integers(0, 600)), inside)
        size = len(body) + draw(st.sampled_from([0] * 12 + [5, -7, 900, 3000, 10**6, 10**12]))
        digest = draw(st.sampled_from([{}, {"WARC_Block_Digest": ""}]))
        pieces.append(record(f"http://e.org/{at}", body, Content_Length=str(max(size, 0)), **digest))
        pieces += draw(
            st.sampled_from([[]] * 9 + [[b"garbage"], [b"\x1f\x8b\x08\x00junk"], [b"WARC/1.0\r\nX: y"], [bytes(30)]])
        )
    packing, zstd = draw(st.sampled_from(["plain", "alone", "one", "some"])), draw(st.booleans())
    words, has_checksum = draw(st.sampled_from([None, 1, 2])), draw(st.booleans())

    def pack(content: bytes, level: int = 6) -> bytes:
        """One member."""
        if not zstd:
            return gzip.compress(content, level, mtime=0)
        return framed(content, level or 1, dictionary(words) if words else None, has_checksum)

    if packing == "plain":
        data = b"".join(pieces)
    elif packing == "one":
        data = pack(b"".join(pieces))
    else:  # each in a member of its own, or several together, or one over several
        size = draw(st.integers(50, 3000))
        whole = b"".join(pieces)
        some = [whole[at : at + size] for at in range(0, len(whole), size)]
        level = draw(st.sampled_from([0, 6]))
        data = b"".join(pack(one, level) for one in (pieces if packing == "alone" else some))
    if packing != "plain" and zstd and words:
        data = dictionary_frame(dictionary(words), draw(st.booleans())) + data
        if draw(st.booleans()):  # another crawl behind it, with words of its own
            inside = [record(f"http://e.org/b{at}", block(at, 300, "record")) for at in range(6)]
            data += dictionary_frame(dictionary(2)) + b"".join(framed(one, 3, dictionary(2)) for one in inside)
    changed = bytearray(data)
    for _ in range(draw(st.sampled_from([0, 0, 1, 3]))):
        at, how = draw(st.integers(10, len(changed) - 1)), draw(st.integers(0, 2))
        if how == 0:
            changed[at] ^= 1 << draw(st.integers(0, 7))
        elif how == 1:
            del changed[at : at + draw(st.integers(0, 100))]
        else:
            changed[at:at] = bytes(range(draw(st.integers(0, 100))))
    return bytes(changed)
