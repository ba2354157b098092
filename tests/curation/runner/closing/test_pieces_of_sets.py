"""Pictures of a reference set are embedded in pieces by tasks of their own: what a run that is stopped has made of them
stays, and the cut into pieces changes nothing."""

import io

import pytest
from PIL import Image

from curation.methods.references import vectors
from curation.runner.driver import curate
from curation.settings import CurateSettings
from curation.stages import decontaminate, reference_clusters
from pipeline.errors import DataError
from tests.helpers import small_crawl, tiny_clip, tiny_set
from tests.helpers.pairs import encoded, picture

CLIP = tiny_clip.kept()


class Stopped(DataError):
    pass


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Curates with a stage that embeds two sets of eleven and seven, or one of eleven; in pieces of `size`."""
    paths = small_crawl.write(tmp_path / "crawl", small_crawl.records(48), files=2)
    turned = [Image.open(io.BytesIO(small_crawl.picture(at))).convert("RGB").resize((90, 70)) for at in range(11)]
    rows = [(encoded(each, "JPEG"), "x") for each in turned]
    rows[3] = (b"no picture", "x")
    one = tiny_set.write(tmp_path / "one", rows)
    two = tmp_path / "two"
    two.mkdir()
    for at in range(7):
        (two / f"{at}.png").write_bytes(encoded(picture(at)))
    sets = [{"name": "one", "path": str(one)}, {"name": "two", "path": str(two)}]
    of_kind = {
        "decontaminate": [
            {"kind": "decontaminate", "sets": sets, "embed": CLIP, "min_cosine": 0.97, "max_difference": None}
        ],
        "reference_clusters": [
            {"kind": "kmeans", "k": 6},
            {"kind": "reference_clusters", "path": str(one), "embed": CLIP},
            {"kind": "threshold", "column": "reference_items", "min": 2},
        ],
    }
    embedded: list[int] = []
    stops = [10**9]
    real = vectors.embedded

    def counted(located, piece, *args):
        if len(embedded) == stops[0]:
            stops[0] = 10**9
            raise Stopped("here", "stopped", "to go on", "")
        embedded.append(piece)
        return real(located, piece, *args)

    for stage in (decontaminate, reference_clusters):
        monkeypatch.setattr(stage, "embedded", counted)

    def made(kind: str, name: str, size: int, stop: int = 10**9):
        monkeypatch.setattr(vectors, "_PIECE", size)
        embedded.clear()
        stops[0] = stop
        plain = small_crawl.recipe(paths, tmp_path / name, tmp_path / "entries.json", pool=str(tmp_path / "pool"))
        before = [{"kind": "image_decode"}, {"kind": "clip_image_vector", **CLIP}]
        settings = CurateSettings.model_validate({**plain, "stages": [*before, *of_kind[kind]]})
        try:
            return curate(settings, name="x", seed=0, quiet=True), list(embedded)
        except Stopped:
            return None, list(embedded)

    return made


@pytest.mark.parametrize(("kind", "items"), [("decontaminate", 18), ("reference_clusters", 11)])
def test_pieces_are_made_once_each_and_a_stop_loses_one(made, kind, items):
    whole, pieces = made(kind, "whole", 1024)
    assert pieces == [0] and 0 < whole.num_pairs
    assert sum(n for stage in whole.stages for n in stage.drops.values() if stage.name in (kind, "threshold")) > 3
    cut, pieces = made(kind, "cut", 4)
    assert pieces == list(range(-(-items // 4))) and cut.digest() == whole.digest()
    none, before = made(kind, "stopped", 4, stop=2)
    again, after = made(kind, "stopped", 4)
    assert none is None and sorted(before + after) == list(range(-(-items // 4))) and len(before) == 2
    assert again.digest() == whole.digest()


def test_a_set_without_a_picture_is_said(made, tmp_path):
    for path in (tmp_path / "two").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="two: holds no picture that decodes; expected a reference set"):
        made("decontaminate", "none", 4)
