"""Every pair within the radius is found, none beyond it, and flat or differently coloured pictures are left alone."""

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pydantic import ValidationError
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from curation.stages.image_decode import ImageDecode
from curation.stages.perceptual_duplicates import PerceptualDuplicates
from tests.helpers.pairs import by_url, encoded, measured, pair, pairs_of, picture, run_global, same_verdicts, texts_of


def hashed(hashes: list[int], tiny: list[bytes] | None = None, contrast: float = 50.0) -> pa.Table:
    num = len(hashes)
    rows = [pair(f"n{i}", f"caption {i}") for i in range(num)]
    return pairs_of(
        *rows,
        phash=(pa.uint64(), hashes),
        tiny_rgb=(pa.binary(192), tiny or [bytes(192)] * num),
        contrast=(pa.float32(), [contrast] * num),
        width=(pa.int32(), [1 + i % 5 for i in range(num)]),
        height=(pa.int32(), [1] * num),
    )


def scattered(num: int, seed: int, most_flips: int = 9) -> list[int]:
    """Hashes in families: each a flip of up to `most_flips` random bits of one of a few."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2**63, num // 8).tolist()
    found = []
    for _ in range(num):
        value = int(rng.choice(centres))
        for bit in rng.choice(64, rng.integers(most_flips), replace=False):
            value ^= 1 << int(bit)
        found.append(value)
    return found


@pytest.mark.parametrize(("radius", "num_bands"), [(0, None), (1, None), (4, None), (4, 6), (6, None), (6, 8), (8, 10)])
def test_groups_are_those_of_comparing_all_with_all(radius, num_bands):
    hashes = scattered(200, radius)
    pairs = hashed(hashes)
    near = np.array([[(a ^ b).bit_count() <= radius for b in hashes] for a in hashes])
    groups = connected_components(coo_array(near), directed=False)[0]
    stage = PerceptualDuplicates(radius=radius, num_bands=num_bands, grouping="components")
    verdicts = run_global(stage, pairs, slots=3)
    assert 1 < groups < 200 and verdicts.reason.null_count == groups


@pytest.mark.parametrize("radius", [2, 5])
def test_near_survivor_removes_only_what_lies_within_the_radius_of_its_survivor(radius):
    hashes = scattered(200, 3) * 2  # every signature twice: copies must follow the one they equal
    pairs = hashed(hashes)
    verdicts = run_global(PerceptualDuplicates(radius=radius, grouping="near_survivor"), pairs, slots=5)
    hash_of = dict(zip(pairs.column("uid").to_pylist(), pairs.column("phash").to_pylist(), strict=True))
    area_of = dict(zip(pairs.column("uid").to_pylist(), pairs.column("width").to_pylist(), strict=True))
    kept = [u for u, r in zip(hash_of, verdicts.reason.to_pylist(), strict=True) if r is None]
    for uid, survivor in zip(hash_of, verdicts.detail.to_pylist(), strict=True):
        if survivor:
            assert (hash_of[uid] ^ hash_of[survivor]).bit_count() <= radius
            assert survivor in kept and area_of[survivor] >= area_of[uid]
    apart = [(hash_of[a] ^ hash_of[b]).bit_count() > radius for a in kept for b in kept if a < b]
    assert all(apart)
    chained = run_global(PerceptualDuplicates(radius=radius, grouping="components"), pairs)
    assert verdicts.reason.null_count >= chained.reason.null_count


def test_colour_parts_what_the_hash_takes_for_one():
    red, blue = (np.tile(np.array(c, np.uint8), 64).tobytes() for c in ([200, 0, 0], [0, 0, 200]))
    pairs = hashed([5, 5, 5], [red, blue, red])
    assert run_global(PerceptualDuplicates(), pairs).reason.null_count == 2
    assert run_global(PerceptualDuplicates(max_colour_distance=None), pairs).reason.null_count == 1


def test_flat_pictures_are_left_alone():
    assert run_global(PerceptualDuplicates(), hashed([0, 0, 0], contrast=3.9)).reason.null_count == 3
    assert run_global(PerceptualDuplicates(), hashed([0, 0, 0], contrast=4.0)).reason.null_count == 1


@pytest.mark.parametrize("grouping", ["components", "near_survivor"])
@pytest.mark.parametrize("merge", [True, False])
def test_the_cut_into_buckets_and_slots_changes_nothing(grouping, merge):
    rng = np.random.default_rng(1)
    tiny = [rng.integers(0, 30, 192, dtype=np.uint8).tobytes() for _ in range(200)]
    pairs = hashed(scattered(160, 5) + [7] * 40, tiny)
    stage = PerceptualDuplicates(radius=5, grouping=grouping, merge_captions=merge)
    whole = run_global(stage, pairs)
    assert 10 < whole.reason.null_count < 190
    assert all(same_verdicts(whole, run_global(stage, pairs, 0, b, s)) for b, s in [(1, 5), (2, 1), (7, 4), (200, 16)])


def test_real_copies_are_found_and_their_captions_merged():
    bodies, rows = {}, []
    for seed in range(12):
        image = picture(seed, (160, 120))
        small = image.resize((120, 90), Image.Resampling.LANCZOS)
        copies = {"big": encoded(image), "jpg": encoded(image, "JPEG", quality=70), "small": encoded(small)}
        for name, body in copies.items():
            rows.append(pair(f"{name}{seed}", f"{name} {seed}"))
            bodies[f"{name}{seed}"] = body
    plain = pairs_of(*rows)
    pairs = measured(ImageDecode(), plain, [bodies[name] for name in by_url(plain, plain.column("uid"))])
    verdicts = run_global(PerceptualDuplicates(), pairs, buckets=4, slots=4)
    uid = by_url(pairs, pairs.column("uid"))
    kept = {name for name, reason in by_url(pairs, verdicts.reason).items() if reason is None}
    texts = texts_of(pairs, verdicts)
    for seed in range(12):
        survivor = min((f"big{seed}", f"jpg{seed}"), key=lambda name: uid[name])  # equal area, captions and length
        assert kept & {f"big{seed}", f"jpg{seed}", f"small{seed}"} == {survivor}
        assert sorted(texts[survivor]) == sorted([f"big {seed}", f"jpg {seed}", f"small {seed}"])
    assert len({Image.open(io.BytesIO(body)).size for body in bodies.values()}) == 2


def thumbnail(level: int, **cells: int) -> bytes:
    """8 x 8 of one grey level; `cells` c5=80 sets cell 5 to 80."""
    grey = [level] * 64
    for name, value in cells.items():
        grey[int(name[1:])] = value
    return bytes(value for value in grey for _ in range(3))


# (hash, thumbnail, width, height) beside (0, grey 100, 400, 300), which survives: alike all, the same picture some
OTHERS = [
    ("two bits", (0b11, thumbnail(100), 200, 150), True),
    ("three bits", (0b111, thumbnail(100), 200, 150), False),
    ("two levels", (0, thumbnail(102), 200, 150), True),
    ("three levels", (0, thumbnail(103), 200, 150), False),
    ("one spot", (0, thumbnail(100, c5=116), 200, 150), True),
    ("one clear spot", (0, thumbnail(100, c5=117), 200, 150), False),  # 0.27 levels on average
    ("cut to the pixel", (0, thumbnail(100), 200, 146), True),
    ("another shape", (0, thumbnail(100), 200, 145), False),
]


def seen(*rows: tuple[int, bytes, int, int]) -> pa.Table:
    hashes, tiny, wide, high = (list(column) for column in zip(*rows, strict=True))
    return pairs_of(
        *[pair(f"n{i}", f"caption {i}") for i in range(len(rows))],
        phash=(pa.uint64(), hashes),
        tiny_rgb=(pa.binary(192), tiny),
        contrast=(pa.float32(), [50.0] * len(rows)),
        width=(pa.int32(), wide),
        height=(pa.int32(), high),
    )


@pytest.mark.parametrize("grouping", ["components", "near_survivor"])
@pytest.mark.parametrize(("name", "other", "gives"), OTHERS)
def test_only_a_picture_that_is_surely_the_same_gives_its_caption(grouping, name, other, gives):
    pairs = seen((0, thumbnail(100), 400, 300), other)
    verdicts = run_global(PerceptualDuplicates(grouping=grouping), pairs)
    assert by_url(pairs, verdicts.reason) == {"n0": None, "n1": "copy"}
    assert texts_of(pairs, verdicts)["n0"] == (["caption 0", "caption 1"] if gives else ["caption 0"])


def test_no_caption_comes_through_a_chain():
    grey = thumbnail(100)
    pairs = seen((0, grey, 400, 300), (0b11, grey, 200, 150), (0b1111, grey, 100, 75), (0b111111, grey, 50, 38))
    chained = run_global(PerceptualDuplicates(grouping="components"), pairs, slots=3)
    assert list(by_url(pairs, chained.reason).values()).count("copy") == 3
    assert texts_of(pairs, chained)["n0"] == ["caption 0", "caption 1"]
    near = run_global(PerceptualDuplicates(), pairs, slots=3)
    assert by_url(pairs, near.reason) == {"n0": None, "n1": "copy", "n2": "copy", "n3": None}  # six bits away


def test_the_bounds_of_the_same_picture_are_settings():
    pairs = seen((0, thumbnail(100), 400, 300), (0b111, thumbnail(103, c5=120), 200, 150))
    wide = PerceptualDuplicates(merge_radius=3, merge_colour_distance=4, merge_largest_difference=20)
    assert texts_of(pairs, run_global(wide, pairs))["n0"] == ["caption 0", "caption 1"]
    for name in ("merge_radius", "merge_colour_distance", "merge_largest_difference"):
        strict = wide.model_copy(update={name: 2})
        assert texts_of(pairs, run_global(strict, pairs))["n0"] == ["caption 0"], name


def test_bands_that_could_miss_a_pair_are_refused():
    with pytest.raises(ValidationError, match="num_bands must be"):
        PerceptualDuplicates(radius=6, num_bands=6)


def test_no_pairs_no_verdicts():
    empty = hashed([1, 2]).slice(0, 0)
    for grouping in ("components", "near_survivor"):
        assert len(run_global(PerceptualDuplicates(grouping=grouping), empty).reason) == 0
        assert run_global(PerceptualDuplicates(grouping=grouping), hashed([1, 2**40 - 1])).reason.null_count == 2
