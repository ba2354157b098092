"""What an evaluation set holds is found in a crawl, as it is, as a near copy or by its words; strangers stay."""

import hashlib
import io
import tarfile

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageDraw
from pydantic import ValidationError

from curation.stage import Context
from curation.stage_order import check_stages
from curation.stages.clip_image_vector import ClipImageVector
from curation.stages.decontaminate import Decontaminate
from curation.stages.image_decode import ImageDecode
from pipeline.errors import DataError, RecipeError
from tests.helpers import cuts, tiny_clip, tiny_set
from tests.helpers.pairs import (
    by_url,
    encoded,
    grained,
    measured,
    pair,
    pairs_of,
    picture,
    run_global,
    same_verdicts,
    texts_of,
)
from tests.helpers.places import shared_files


def crawl(bodies: dict[str, bytes], texts: dict[str, list[str]] | None = None) -> pa.Table:
    texts = texts or {}
    rows = [
        pair(name, *texts.get(name, ["nothing"]), image_sha256=hashlib.sha256(body).hexdigest())
        for name, body in bodies.items()
    ]
    pairs = pairs_of(*rows)
    names = [url.rsplit("/", 1)[1] for url in pairs.column("url").to_pylist()]
    return measured(ImageDecode(blank_range=-1), pairs, [bodies[name] for name in names])


def stage(*sets, **settings) -> Decontaminate:
    return Decontaminate(sets=[{"name": name, "path": str(path)} for name, path in sets], **settings)


CAPTION = "two small boats lie on the quiet river at noon"


def test_each_test_finds_its_own_and_says_which_item(tmp_path):
    images = [picture(seed, (200, 160)) for seed in range(4)]
    one = tiny_set.write(tmp_path / "one", [(encoded(images[0]), "x"), (encoded(images[1]), CAPTION)])
    two = tiny_set.write(tmp_path / "two", [(encoded(images[2]), "x"), (encoded(images[0]), "x")])
    bodies = {
        "bytes": encoded(images[0]),
        "pixels": encoded(images[1], "BMP"),
        "near": encoded(images[2].resize((150, 120)), "JPEG", quality=70),
        "stranger": encoded(images[3]),
        "words": encoded(picture(7)),
        "some": encoded(picture(8)),
    }
    texts = {
        "words": ["We saw: TWO small boats lie on the quiet river!"],
        "some": ["boats on the river", f"{CAPTION}."],
        "bytes": [CAPTION],  # goes for its image: no caption is counted
    }
    pairs = crawl(bodies, texts)
    found = run_global(stage(("one", one), ("two", two)), pairs)
    assert by_url(pairs, found.reason) == {
        "bytes": "bytes", "pixels": "pixels", "near": "near", "stranger": None, "words": "caption", "some": None
    }  # fmt: skip
    item = "test/0.tar/s000000"
    assert by_url(pairs, found.detail) == {
        "bytes": f"one/{item}0", "pixels": f"one/{item}1", "near": f"two/{item}0", "stranger": None,
        "words": f"one/{item}1", "some": None,
    }  # fmt: skip
    assert texts_of(pairs, found)["some"] == ["boats on the river"] and found.caption_drops == {"caption": 2}


def test_the_report_counts_by_set_and_by_item(tmp_path):
    images = [picture(seed) for seed in range(3)]
    one = tiny_set.write(tmp_path / "one", [(encoded(images[0]), CAPTION), (encoded(images[1]), "x")])
    two = tiny_set.write(tmp_path / "two", [(encoded(images[0]), "x")])
    bodies = {"a": encoded(images[0]), "b": encoded(images[0], "BMP"), "c": encoded(images[2])}
    pairs = crawl(bodies, {"a": [CAPTION], "b": [CAPTION]})
    here = stage(("one", one), ("two", two))
    state = cuts.reduced(here, [pairs.slice(0, 1), pairs.slice(1)], Context(0, 3))
    others = dict(here.judge(pairs, state, Context(0, 3)).counts)
    section, first, second = here.sections({"others": others}, state)
    assert section.rows == (("one", 1, 1, 0, 0, 2), ("two", 1, 1, 0, 0, 0))
    assert first.rows == (("test/0.tar/s0000000", 1, 1, 2, 2),) and second.rows == (
        ("test/0.tar/s0000000", 1, 1, 2, 0),
    )


def test_flat_icons_and_other_colours_are_no_near_copies(tmp_path):
    flat = Image.new("RGB", (64, 64), (250, 250, 250))
    flat.putpixel((3, 3), (248, 248, 248))
    other = Image.new("RGB", (64, 64), (250, 250, 250))
    other.putpixel((9, 40), (249, 248, 250))
    red = picture(5).point(lambda level: level // 2)
    blue = Image.fromarray(np.asarray(red) + np.array([0, 0, 100], np.uint8))
    path = tiny_set.write(tmp_path / "one", [(encoded(flat), "x"), (encoded(red), "x")])
    pairs = crawl({"same": encoded(flat, "BMP"), "icon": encoded(other), "blue": encoded(blue)})
    assert by_url(pairs, run_global(stage(("one", path)), pairs).reason) == {
        "same": "pixels", "icon": None, "blue": None
    }  # fmt: skip
    blind = stage(("one", path), max_colour_difference=510.0)
    assert by_url(pairs, run_global(blind, pairs).reason)["blue"] == "near"


def test_short_captions_are_nobodys_unless_asked_for(tmp_path):
    path = tiny_set.write(tmp_path / "one", [(encoded(picture(1)), "a red car")])
    pairs = crawl({"a": encoded(picture(2)), "b": encoded(picture(3))}, {"a": ["A red car."], "b": ["a red car here"]})
    assert run_global(stage(("one", path)), pairs).reason.null_count == 2
    found = run_global(stage(("one", path), min_words=3), pairs)
    assert by_url(pairs, found.reason) == {"a": "caption", "b": None}
    assert run_global(stage(("one", path), ngram=None), pairs).reason.null_count == 2


def test_what_is_no_set_is_refused_and_its_content_is_in_the_digest(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(RecipeError, match=r"stages\.1\.sets\.0\.path: .*neither tars nor images") as caught:
        check_stages([ImageDecode(), stage(("x", tmp_path / "none"))])
    assert "test/0.tar" in caught.value.hint
    row = (encoded(picture(1)), "x")
    one, same = (tiny_set.write(tmp_path / name, [row]) for name in ("one", "same"))
    assert stage(("x", one)).digest() == stage(("x", same)).digest()
    (same / "test/1.tar").write_bytes((same / "test/0.tar").read_bytes())
    assert stage(("x", one)).digest() != stage(("x", same)).digest()


def test_a_crop_a_frame_and_another_brightness_are_near_copies(tmp_path):
    images = {name: grained(seed, (240, 200)) for seed, name in enumerate(("cropped", "framed", "darker", "stranger"))}
    path = tiny_set.write(tmp_path / "one", [(encoded(each), "x") for each in list(images.values())[:3]])
    frame = Image.new("RGB", (250, 208), (255, 255, 255))
    frame.paste(images["framed"], (5, 4))
    bodies = {
        "cropped": encoded(images["cropped"].crop((12, 10, 228, 190)), "JPEG", quality=80),
        "framed": encoded(frame, "JPEG", quality=85),
        "darker": encoded(images["darker"].point(lambda level: level * 8 // 10), "JPEG", quality=85),
        "stranger": encoded(images["stranger"]),
    }
    pairs = crawl(bodies)
    found = by_url(pairs, run_global(stage(("one", path)), pairs).reason)
    assert found == {"cropped": "near", "framed": "near", "darker": "near", "stranger": None}
    blind = by_url(pairs, run_global(stage(("one", path), max_difference=None), pairs).reason)
    assert set(blind.values()) == {None}


def rays(number: int, side: int = 160) -> Image.Image:
    """Pictures that are like each other by degrees."""
    image = Image.new("RGB", (side, side), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    for at in range(number):
        angle = 2 * np.pi * at / number
        draw.line([side / 2, side / 2, side / 2 * (1 + np.cos(angle)), side / 2 * (1 + np.sin(angle))], (0, 0, 0), 1)
    return image


def test_siblings_of_an_item_are_no_copies_of_it_where_a_crawl_is_full_of_them(tmp_path):
    path = tiny_set.write(tmp_path / "one", [(encoded(rays(60)), "x")])
    siblings = {f"rays{number}": encoded(rays(number)) for number in range(40, 80) if number != 60}
    again = {"again": encoded(rays(60), "BMP")}
    pairs = crawl(siblings | again)
    found = run_global(stage(("one", path)), pairs)
    assert {name for name, why in by_url(pairs, found.reason).items() if why} == {"again"}
    few = crawl({"rays61": siblings["rays61"]} | again)
    alone = run_global(stage(("one", path)), few)
    wide = run_global(stage(("one", path), max_difference=1.0), few)
    assert by_url(few, wide.reason)["rays61"] == "near" and by_url(few, alone.reason)["again"] == "pixels"
    for cut in (2, 5, 11):
        assert same_verdicts(found, run_global(stage(("one", path)), pairs, 0, cut))


def test_hits_are_shown_with_their_items_by_set_and_test(tmp_path):
    images = [picture(seed, (200, 160)) for seed in range(3)]
    one = tiny_set.write(tmp_path / "one", [(encoded(images[0]), "x"), (encoded(images[1]), f"{CAPTION}\nmore")])
    two = tmp_path / "two"
    two.mkdir()
    (two / "a.png").write_bytes(encoded(images[2]))
    bodies = {
        "a": encoded(images[0]),
        "b": encoded(images[1], "BMP"),
        "c": encoded(images[2]),
        "d": encoded(picture(9)),
    }
    pairs = crawl(bodies)
    judge = stage(("one", one), ("two", two))
    found = judge.shown(pairs, run_global(judge, pairs), None)
    urls = by_url(pairs, range(pairs.num_rows))
    shown = {
        each.title.split(",")[0]: (each.rows.tolist(), each.against.to_pylist()) for each in found if len(each.rows)
    }
    assert shown == {
        "one: bytes": ([urls["a"]], ["one/test/0.tar/s0000000"]),
        "one: pixels": ([urls["b"]], ["one/test/0.tar/s0000001"]),
        "two: bytes": ([urls["c"]], ["two/a.png"]),
    }
    assert [each.place for each in found] == sorted(each.place for each in found)
    told = judge.held_against(["one/test/0.tar/s0000001", "two/a.png", "two/gone.png", "three/x"])
    assert {name: (each.image, each.caption) for name, each in told.items()} == {
        "one/test/0.tar/s0000001": (encoded(images[1]), CAPTION),
        "two/a.png": (encoded(images[2]), ""),
    }


def embedded(bodies: list[bytes]) -> pa.Array:
    made = ClipImageVector(**tiny_clip.kept()).open(Context())(pa.table({"image": pa.array(bodies, pa.large_binary())}))
    return made.column("image_vector")


def test_vectors_at_or_above_the_cosine_are_hits_whoever_made_them(tmp_path):
    images = [picture(seed, (120, 90)) for seed in range(12)]
    path = tiny_set.write(tmp_path / "one", [(encoded(each), "x") for each in images[:4]])
    names = [f"p{at}" for at in range(12)]
    pairs = crawl({name: encoded(image.transpose(0)) for name, image in zip(names, images, strict=True)})
    bodies = [encoded(images[int(url.rsplit("/p", 1)[1])].transpose(0)) for url in pairs.column("url").to_pylist()]
    pairs = pairs.append_column("image_vector", embedded(bodies))
    mine = np.array(pairs.column("image_vector").to_pylist(), np.float64)
    theirs = np.array(embedded([encoded(each) for each in images[:4]]).to_pylist(), np.float64)
    cosine = (mine / np.linalg.norm(mine, axis=1)[:, None]) @ (theirs / np.linalg.norm(theirs, axis=1)[:, None]).T
    bound = float(np.sort(cosine.max(axis=1))[-5] - 1e-7)
    here = stage(("one", path), min_cosine=bound, embed=tiny_clip.kept())
    found = run_global(here, pairs, 0, 3)
    hit = cosine.max(axis=1) >= bound
    assert found.reason.to_pylist() == ["embedding" if each else None for each in hit] and hit.sum() == 5
    items = [f"one/test/0.tar/s000000{at}" if yes else None for at, yes in zip(cosine.argmax(axis=1), hit, strict=True)]
    assert found.detail.to_pylist() == items
    np.save(tmp_path / "v.npy", theirs.astype(np.float32))
    sets = [{"name": "one", "path": str(path), "vectors": str(tmp_path / "v.npy")}]
    assert same_verdicts(found, run_global(Decontaminate(sets=sets, min_cosine=bound), pairs))
    np.save(tmp_path / "v.npy", theirs[:3].astype(np.float32))
    with pytest.raises(DataError, match="3 vectors, where the set has 4 items"):
        run_global(Decontaminate(sets=sets, min_cosine=bound), pairs)


def test_vectors_of_another_model_or_of_none_are_refused_before_any_work(tmp_path):
    path = tiny_set.write(tmp_path / "one", [(encoded(picture(1)), "x")])
    before = [ImageDecode(), ClipImageVector(**tiny_clip.kept())]
    check_stages([*before, stage(("one", path), min_cosine=0.9, embed=tiny_clip.kept())])
    with pytest.raises(RecipeError, match=r"stages\.2\.embed: .*expected one model"):
        check_stages([*before, stage(("one", path), min_cosine=0.9, embed=tiny_clip.saved(tmp_path, 4))])
    with pytest.raises(RecipeError, match=r"sets\.0\.path: .*no model is named"):
        check_stages([*before, stage(("one", path), min_cosine=0.9)])
    with pytest.raises(RecipeError, match="image_vector"):
        check_stages([ImageDecode(), stage(("one", path), min_cosine=0.9, embed=tiny_clip.kept())])
    with pytest.raises(ValidationError, match="no min_cosine"):
        stage(("one", path), embed=tiny_clip.kept())


def planted(image: Image.Image) -> dict[str, bytes]:
    wide, high = image.size
    small = image.resize((max(8, wide * 7 // 10), max(8, high * 7 // 10)), Image.Resampling.LANCZOS)
    cropped = image.crop((wide // 100, high // 100, wide - wide // 100, high - high // 100))
    return {
        "pixels": encoded(image),
        "recoded": encoded(image, "JPEG", quality=75),
        "trimmed": encoded(
            image.crop((wide // 20, high // 20, wide - wide // 20, high - high // 20)), "JPEG", quality=80
        ),
        "resized": encoded(small, "JPEG", quality=90),
        "cropped": encoded(cropped, "JPEG", quality=95),
    }


@pytest.mark.slow
def test_planted_copies_of_a_real_set_are_found_and_strangers_are_not():
    (tar,) = shared_files("eval/clipart-retrieval/test/0.tar")
    bodies = {}
    with tarfile.open(tar) as archive:
        for member in [m for m in archive if m.name.endswith(".jpg")][:150]:
            data = archive.extractfile(member).read()
            bodies[f"bytes-{member.name}"] = data
            image = Image.open(io.BytesIO(data)).convert("RGB")
            bodies |= {f"{kind}-{member.name}": body for kind, body in planted(image).items()}
    strangers = {f"stranger-{seed}": encoded(picture(seed)) for seed in range(200)}
    pairs = crawl(bodies | strangers)
    found = by_url(pairs, run_global(stage(("retrieval", tar.parents[1])), pairs).reason)
    recall = {
        kind: sum(found[name] is not None for name in found if name.startswith(kind)) / 150
        for kind in ("bytes", "pixels", "recoded", "resized", "cropped", "trimmed")
    }
    assert recall["bytes"] == recall["pixels"] == 1
    assert recall["recoded"] >= 0.98 and recall["resized"] >= 0.98 and recall["cropped"] >= 0.98
    assert recall["trimmed"] >= 0.95, recall
    assert all(found[name] is None for name in strangers)
