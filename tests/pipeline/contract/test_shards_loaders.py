"""Other people's loaders read our shards unchanged."""

import argparse
import inspect
from functools import partial

import pytest

from tests.helpers.datasets import make_dataset, make_pair

SHARDS, PAIRS = 2, 9
WANTED = {make_pair(n).text for n in range(SHARDS * PAIRS)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("loaders")
    make_dataset(str(path), SHARDS, PAIRS)
    return path


def test_plain_webdataset_reads_every_pair_decoded(folder):
    wds = pytest.importorskip("webdataset")
    urls = sorted(map(str, folder.glob("shard-*.tar")))
    samples = list(wds.WebDataset(urls, shardshuffle=False).decode("pil"))
    assert {sample["txt"] for sample in samples} == WANTED
    for sample in samples:
        image = next(sample[ext] for ext in ("jpg", "png", "webp") if ext in sample)
        assert image.size == (12, 9) and sample["json"]["captions"][0]["text"] == sample["txt"]


@pytest.mark.parametrize("is_train", [True, False])
def test_open_clips_own_loader_reads_every_pair(folder, is_train, monkeypatch):
    data = pytest.importorskip("open_clip_train.data")
    if "eof_value" in inspect.signature(data.tar_file_expander).parameters:
        # webdataset > 0.2.86 marks the end of a shard with {}, at which open_clip 3.3 stops on any shard at all.
        monkeypatch.setattr(data, "tar_file_expander", partial(data.tar_file_expander, eof_value=None))
    torch = pytest.importorskip("torch")
    args = argparse.Namespace(
        train_data=str(folder / "shard-{000000..000001}.tar"),
        val_data=str(folder / "shard-{000000..000001}.tar"),
        train_num_samples=SHARDS * PAIRS,
        val_num_samples=SHARDS * PAIRS,
        train_data_upsampling_factors=None,
        dataset_resampled=False,
        seed=0,
        batch_size=9,
        workers=1,
        world_size=1,
    )
    texts: list[str] = []

    def preprocess(image):
        return torch.tensor(image.size)

    def tokenizer(text):  # codes of the characters stand for tokens, so that they can be read back
        return torch.tensor([[*map(ord, text.ljust(40))]])

    loader = data.get_wds_dataset(args, preprocess, is_train, tokenizer=tokenizer).dataloader
    for sizes_N2, codes_NL in loader:
        assert (sizes_N2 == torch.tensor([12, 9])).all()
        texts += ["".join(map(chr, row)).strip() for row in codes_NL.tolist()]
    assert sorted(texts) == sorted(WANTED)
