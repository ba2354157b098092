"""Everything in an object store that speaks S3 over HTTP: inputs, pool, output, and what is downloaded."""

import hashlib
from pathlib import Path

import pytest

from curation.runner.driver import curate
from curation.settings import CurateSettings
from pipeline.contract.dataset import verify
from tests.helpers import downloads, small_crawl
from tests.helpers.web import Says, web

pytest.importorskip("s3fs", reason="needs s3fs")
pytestmark = pytest.mark.slow
moto = pytest.importorskip("moto.server", reason="needs moto[s3], flask and flask-cors")


@pytest.fixture(scope="module")
def store():
    """A client of an S3 server on loopback with a bucket `crawl`; fsspec's s3:// goes there."""
    import boto3
    import s3fs

    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        client = boto3.client("s3")
        client.create_bucket(Bucket="crawl")
        yield client
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def made(plain, **more):
    return curate(CurateSettings.model_validate({**plain, **more}), name="test", seed=3, quiet=True)


def objects(store, prefix: str) -> dict[str, bytes]:
    """Name -> bytes below the prefix, as another client has them."""
    pages = store.get_paginator("list_objects_v2").paginate(Bucket="crawl", Prefix=f"{prefix}/")
    keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
    return {key.removeprefix(f"{prefix}/"): store.get_object(Bucket="crawl", Key=key)["Body"].read() for key in keys}


def outcome(store, prefix: str) -> dict[str, str]:
    """As small_crawl.outcome."""
    found = {
        name: hashlib.sha256(body).hexdigest()
        for name, body in objects(store, prefix).items()
        if name.startswith("index/") or name in ("subset.npy", "entry_counts.json") or name.endswith(".tar")
    }
    return {name: digest for name, digest in found.items() if not name.startswith("_")}


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    paths = small_crawl.write(folder / "in", small_crawl.records(), 2)
    plain = small_crawl.recipe(paths, folder / "out", folder / "entries.json")
    return plain, made(plain), folder


def test_from_the_store_to_the_store_is_the_same(store, local):
    plain, manifest, folder = local
    for path in map(Path, plain["sources"][0]["paths"]):
        store.upload_file(str(path), "crawl", f"in/{path.name}")
    there = {**plain, "sources": [{"kind": "warc", "paths": ["s3://crawl/in/*.warc.gz"]}], "output": "s3://crawl/out"}
    assert made(there).digest() == manifest.digest()
    assert outcome(store, "out") == small_crawl.outcome(folder / "out")
    assert verify("s3://crawl/out").problems == []
    before = {key: body for key, body in objects(store, "out").items() if not key.startswith("_")}
    assert made(there).digest() == manifest.digest()  # finished before
    assert {key: body for key, body in objects(store, "out").items() if not key.startswith("_")} == before


def test_inputs_of_a_plain_web_server_are_read(local, tmp_path):
    plain, manifest, _ = local
    routes = {
        f"/{Path(path).name}": Says(200, Path(path).read_bytes(), ranges=True) for path in plain["sources"][0]["paths"]
    }
    with web(routes) as server:
        source = {"kind": "warc", "paths": [server.url(path) for path in routes]}
        assert made(plain, sources=[source], output=str(tmp_path / "out")).digest() == manifest.digest()


@pytest.mark.exhaustive
def test_what_is_downloaded_goes_into_the_store(store, local, tmp_path):
    with web() as server:
        downloads.serve(server)
        plain = downloads.recipe(tmp_path, downloads.pages(server), fetch={"commit_urls": 9})
        here = made(plain)
        there = made(plain, output="s3://crawl/downloaded")
        assert there.digest() == here.digest() and there.inputs == here.inputs
        assert outcome(store, "downloaded") == small_crawl.outcome(tmp_path / "out")
        server.asked.clear()
        made(plain, output="s3://crawl/downloaded")
        assert server.asked == []


def test_folders_of_images_in_a_store_give_what_they_give_on_a_disk(store, tmp_path):
    for number in range(12):
        for ending, body in (("png", small_crawl.picture(number)), ("txt", f"a picture of cat {number}".encode())):
            name = f"{number % 3}/{number:03d}.{ending}"
            store.put_object(Bucket="crawl", Key=f"folders/{name}", Body=body)
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / name).write_bytes(body)
    store.put_object(Bucket="crawl", Key="folders/.hidden/x.png", Body=small_crawl.picture(50))
    digests = {}
    for place, paths in {"s3://crawl/folders": ["s3://crawl/folders"], "glob": ["s3://crawl/folders/*"]}.items():
        output = f"s3://crawl/from-{place[:2]}"
        plain = {"sources": [{"kind": "files", "paths": paths}], "stages": [{"kind": "image_decode"}], "output": output}
        digests[place] = made(plain, ray={"address": "inline"}).shards
    plain |= {"sources": [{"kind": "files", "paths": [str(tmp_path / "in")]}], "output": str(tmp_path / "out")}
    local = made(plain, ray={"address": "inline"})
    assert local.num_pairs == 12 and all(shards == local.shards for shards in digests.values())
