"""A packed dataset elsewhere gives what it gives here, in few requests, and fails clip by clip."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gtdnet import places
from gtdnet.data.check import check_dataset
from gtdnet.data.dataset import EvalClips, Sample, TrainClips
from gtdnet.data.decode import iter_frames, read_frames
from gtdnet.data.formats import list_splits, read_annotations
from gtdnet.data.formats.held_out import HeldOut
from gtdnet.data.pack import PackOptions, cache, pack, remote
from gtdnet.data.pack.shards import packed_clip
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import DecodeError, InputError
from gtdnet.evaluate import EvaluateOptions, evaluate
from gtdnet.report.frames import find_clips
from gtdnet.train.config import TrainConfig
from gtdnet.train.run import train

from .range_server import Store, serving


def spec_of(names: tuple[str, ...]) -> ClipSpec:
    return ClipSpec(num_segments=4, short_side=32, crop_size=28, class_names=names)


@pytest.fixture(scope="session")
def stored(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packed dataset of 18 clips; to be read only."""
    output = tmp_path_factory.mktemp("stored") / "packed"
    pack(PackOptions(str(dataset), str(output), workers=1))
    return output


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "cache"))
    monkeypatch.delenv(cache.SIZE, raising=False)
    monkeypatch.setattr(places, "_FIRST_WAIT", 0.001)
    return tmp_path / "cache" / "packs"


@pytest.fixture
def store(stored: Path) -> Iterator[Store]:
    pytest.importorskip("aiohttp", reason="fsspec reads http with aiohttp")
    with serving(stored) as store:
        yield store


def in_memory(folder: Path, name: str) -> str:
    """The files of a folder in fsspec's store of this process."""
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    for file in folder.iterdir():
        system.pipe_file(f"/{name}/{file.name}", file.read_bytes())
    return f"memory://{name}"


def same_as(here: Path, url: str) -> None:
    """Annotations, training and evaluation samples are those of the pack on disk."""
    assert list_splits(url) == list_splits(here) == ("train", "validation")
    for split in list_splits(here):
        mine, its = read_annotations(here, split), read_annotations(url, split)
        assert (its.format, its.class_names) == ("packed", mine.class_names)
        assert [(r.id, r.label) for r in its.records] == [(r.id, r.label) for r in mine.records]
        assert [r.path for r in its.records] == [
            r.path.replace(str(here), url) for r in mine.records
        ]
        spec = spec_of(mine.class_names)
        for clips, key in ((TrainClips, (3, 1)), (EvalClips, 2)):
            first, second = clips(mine.records, spec)[key], clips(its.records, spec)[key]  # type: ignore[index]
            assert isinstance(first, Sample) and isinstance(second, Sample)
            assert torch.equal(first.views, second.views) and first.label == second.label


def test_the_same_from_a_web_server(stored: Path, store: Store) -> None:
    same_as(stored, store.url)


def test_the_same_from_a_store_in_memory(stored: Path) -> None:
    same_as(stored, in_memory(stored, "the-same"))


def test_the_same_from_s3(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs", reason="s3fs is not installed: tests/with_s3.sh")
    server = pytest.importorskip("moto.server", reason="moto stands for S3: tests/with_s3.sh")
    boto3 = pytest.importorskip("boto3")
    running = server.ThreadedMotoServer("127.0.0.1", 0)
    running.start()
    try:
        host, port = running.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="clips")
        for file in stored.iterdir():
            client.upload_file(str(file), "clips", f"sets/packed/{file.name}")
        same_as(stored, "s3://clips/sets/packed")
    finally:
        running.stop()


def test_requests_of_an_evaluation(stored: Path, store: Store, own_cache: Path) -> None:
    """The counts that docs/pack.md states: they are exact."""
    annotations = read_annotations(store.url, "validation")
    spec = spec_of(annotations.class_names)
    clips = EvalClips(annotations.records, spec)
    for i in range(len(clips)):
        assert isinstance(clips[i], Sample)
    (shard,) = json.loads((stored / "pack.json").read_text())["shards"]
    heads = [name for method, name, _, _ in store.asked if method == "HEAD"]
    assert heads == [shard["name"]]  # is it whole?
    assert len(store.gets("SHA256SUMS")) == 1
    assert store.gets("pack.json") == [(0, 1), (0, (stored / "pack.json").stat().st_size)]
    tail, manifest, directory, *pictures = store.gets(shard["name"])
    assert tail == (shard["bytes"] - 256, 256)
    assert len(pictures) == len(clips) == 5  # one a clip
    assert manifest[0] + manifest[1] == directory[0]  # nothing is fetched twice
    assert len(store.asked) == 12
    # Another command: what is kept needs no request.
    remote._packs.clear()
    remote._checked.clear()
    again = EvalClips(read_annotations(store.url, "validation").records, spec)
    assert all(isinstance(again[i], Sample) for i in range(len(again)))
    assert [name for _, name, _, _ in store.asked[12:]] == ["SHA256SUMS", shard["name"]]


def test_pictures_far_apart_are_asked_for_one_by_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = read_annotations(store.url, "validation").records[0]
    monkeypatch.setattr(remote, "NEAR", 0)
    clip = packed_clip(record.path)
    assert clip is not None
    before = len(store.asked)
    pictures = dict(clip.read([0, 5, 6, 12]))
    sizes = [n for _, name, _, n in store.asked[before:]]
    assert len(sizes) == 1 + 3  # the directory; 5 and 6 touch
    assert sum(sizes[1:]) == sum(30 + len(clip.name) + 10 + len(p) for p in pictures.values())


@pytest.mark.parametrize(
    ("extents", "expected"),
    [
        ([], []),
        ([(0, 10)], [(0, 10)]),
        ([(0, 10), (10, 20)], [(0, 20)]),
        ([(0, 10), (10 + 262144, 262200)], [(0, 262200)]),
        ([(0, 10), (11 + 262144, 262200)], [(0, 10), (262155, 262200)]),
        ([(0, 8 << 20), (8 << 20, (8 << 20) + 1)], [(0, 8 << 20), (8 << 20, (8 << 20) + 1)]),
    ],
)
def test_what_is_asked_for_at_once(
    extents: list[tuple[int, int]], expected: list[tuple[int, int]]
) -> None:
    assert remote.joined(extents) == expected


def test_a_failure_that_passes_is_not_noticed(stored: Path, store: Store) -> None:
    store.failing.update({"SHA256SUMS": 1, "pack.json": 2, "clips-00000.zip": 3})
    same_as(stored, store.url)


def test_a_clip_that_cannot_be_had_costs_that_clip(store: Store) -> None:
    records = read_annotations(store.url, "validation").records
    frames, _ = read_frames(records[0].path, lambda n: np.arange(4))
    store.failing["clips-00000.zip"] = 4
    with pytest.raises(DecodeError, match=r"cannot be fetched \(ClientResponseError\)") as error:
        read_frames(records[1].path, lambda n: np.arange(4))
    assert error.value.path == records[1].path
    assert len(read_frames(records[1].path, lambda n: np.arange(4))[0]) == 4
    store.failing["clips-00000.zip"] = 1000
    again, _ = read_frames(records[0].path, lambda n: np.arange(4))  # of the cache
    assert torch.equal(again, frames)


def test_the_cache_is_bounded_and_mends_itself(
    store: Store, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = read_annotations(store.url, "train").records
    whole = list(iter_frames(records[0].path))
    for part in own_cache.rglob("*-*-*"):  # damaged on disk
        if part.is_file() and part.parent.name not in ("index", "manifest"):
            part.write_bytes(part.read_bytes()[:-1] + b"!")
    assert all(map(np.array_equal, iter_frames(records[0].path), whole))
    limit, kept = 60_000, 0
    monkeypatch.setenv(cache.SIZE, str(limit / 1e9))
    for record in records[1:]:
        list(iter_frames(record.path))
        kept = sum(p.stat().st_size for p in own_cache.rglob("*-*-*") if p.is_file())
        assert kept <= limit
    assert kept > limit / 4
    monkeypatch.setenv(cache.SIZE, "0")
    before = len(store.asked)
    list(iter_frames(records[-2].path))
    list(iter_frames(records[-2].path))
    assert len(store.asked) - before >= 2


def test_a_cache_that_cannot_be_written(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "file"))
    record = read_annotations(store.url, "validation").records[0]
    assert len(list(iter_frames(record.path)))
    assert capsys.readouterr().err.count("nothing is kept there") == 1


def _without_parts(store: Store) -> str:
    store.has_ranges = False
    return "gives whole files only, no parts"


def _refused(store: Store) -> str:
    store.refused.add("pack.json")
    return "pack.json: may not be read"


def _no_pack(store: Store) -> str:
    store.url += "/elsewhere"
    return "elsewhere is no packed dataset .*SHA256SUMS: no such file"


def _down(store: Store) -> str:
    store.failing["SHA256SUMS"] = 100
    return "SHA256SUMS cannot be fetched .*try again"


def _lets_in(store: Store) -> str:
    store.url = store.url.replace("http://", "http://me:word@")
    return r"^http://127[^@]*: the URL of a dataset must hold no name, password"


@pytest.mark.parametrize("spoil", [_without_parts, _refused, _no_pack, _down, _lets_in])
def test_what_cannot_be_read_is_one_sentence(store: Store, spoil: Callable[[Store], str]) -> None:
    match = spoil(store)
    with pytest.raises(InputError, match=match) as error:
        read_annotations(store.url, "train")
    assert "word" not in str(error.value).replace("password", "") and "\n" not in str(error.value)


def test_changed_files_are_refused(stored: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(stored, tmp_path / "copy")
    index, shard = copy / "pack.json", copy / "clips-00000.zip"
    index.write_text(index.read_text() + " ")
    with pytest.raises(InputError, match=r"pack.json is not what SHA256SUMS beside it says"):
        read_annotations(in_memory(copy, "changed"), "train")
    index.write_text(index.read_text()[:-1])
    sums = (copy / "SHA256SUMS").read_text()
    (copy / "SHA256SUMS").write_text(re.sub(r"[0-9a-f]{64}(?=  clips)", "../../outside", sums))
    with pytest.raises(InputError, match=r"pack.json is damaged"):
        read_annotations(in_memory(copy, "leads-out"), "train")
    (copy / "SHA256SUMS").write_text(sums)
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"clips-00000.zip has \d+ bytes instead of \d+"):
        read_annotations(in_memory(copy, "cut-off"), "train")


def test_damaged_pictures_are_named(stored: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(stored, tmp_path / "copy")
    shard = copy / "clips-00000.zip"
    data = bytearray(shard.read_bytes())
    data[200] ^= 1  # in the first clip's first picture
    shard.write_bytes(data)
    url = in_memory(copy, "damaged")
    report = check_dataset(url, workers=0)
    (bad,) = [fact for fact in report.facts.values() if fact.error]
    assert bad.error and "checksum does not match" in bad.error and bad.path.startswith(url)


def test_files_of_a_run_name_the_url(stored: Path, tmp_path: Path) -> None:
    url = in_memory(stored, "of-a-run")
    records = read_annotations(url, "train").records
    HeldOut(url, None, (records[3].id,)).save(tmp_path / "split.json")
    assert read_annotations(tmp_path / "split.json", "validation").records == records[3:4]
    metrics = {"data": {"path": url}, "protocol": {"split": "train"}}
    assert find_clips(metrics, None, tmp_path) == {r.id: r.path for r in records}


def test_training_evaluation_and_check(
    stored: Path, store: Store, tiny: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    """With decoding processes: a run is bit for bit that of the pack on disk."""
    weights, scores = [], []
    for name, data in (("here", str(stored)), ("there", store.url)):
        result = train(tiny(tmp_path / name, data=data, epochs=1, num_workers=2))
        model = result.model
        assert model is not None
        weights.append(load_file(model))
        found = evaluate(EvaluateOptions(str(model), data, num_workers=2))
        scores.append(dict(np.load(Path(found["output"], "scores.npz"))))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert scores[0].keys() == scores[1].keys()
    of_clips = scores[0].keys() - {"about"}  # which names the data
    assert of_clips and all(np.array_equal(scores[0][k], scores[1][k]) for k in of_clips)
    assert len(store.gets("SHA256SUMS")) == len(store.gets("pack.json")) - 1 == 1
    manifest = tmp_path / "good.json"
    report = check_dataset(store.url, workers=2, manifest=manifest)
    assert report.ok and len(report.facts) == 18
    listed = read_annotations(manifest, "train").records
    assert listed == read_annotations(store.url, "train").records
