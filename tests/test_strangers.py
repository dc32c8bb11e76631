"""Files of strangers: whatever a header or score file holds is read, or refused in a sentence."""

from __future__ import annotations

import copy
import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from gtdnet.data.spec import ClipSpec
from gtdnet.engines.header import make_header, parse_header
from gtdnet.errors import InputError
from gtdnet.evaluate import EnsembleOptions, Evaluation, FailedClip, ensemble, read_results
from gtdnet.evaluate.results import write_results
from gtdnet.models import create_model, load_model, save_model
from gtdnet.weights.read import read_tensors

SPEC = ClipSpec(("left", "right", "stop"), num_segments=4, short_side=40, crop_size=32)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 20),
    st.sampled_from([10**7, 10**18, 10**400, -(10**9), math.inf, -math.inf, math.nan, 0.5, 1e308]),
    st.text(max_size=6),
    st.sampled_from(["", "3", "dense", "tsn_resnet18", "\ud800", "a\nb", "\x1b[31m", "x" * 5000]),
)
json_values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a JSON value, itself left out."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*before, key)
        if isinstance(inner, (dict, list)):
            yield from places(inner, (*before, key))


@st.composite
def spoilt(draw: st.DrawFn, good: dict[str, Any]) -> Any:
    """``good`` with one to three values replaced, taken out or added; or something else."""
    if draw(st.integers(0, 9)) == 0:
        return draw(json_values)
    value = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        ways = list(places(value))
        if not ways:
            break
        *way, last = draw(st.sampled_from(ways))
        inner = value
        for key in way:
            inner = inner[key]
        kind = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"]))
        if kind == "remove":
            del inner[last]
        elif kind == "add" and isinstance(inner, dict):
            inner[draw(st.text(max_size=4))] = draw(json_values)
        else:
            inner[last] = draw(json_values)
    return value


def one_sentence(error: InputError, path: Path) -> None:
    assert str(path) in str(error)
    assert "\n" not in str(error)


# ------------------------------------------------------------------------------------- model files


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = create_model("gtdnet_resnet18", 3, 4, width=0.05)
    return save_model(tmp_path_factory.mktemp("spoilt") / "good.safetensors", model, SPEC)


def header_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["gtdnet"])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_headers_of_model_files(model_path: Path, data: Any) -> None:
    header = data.draw(spoilt(header_of(model_path)))
    path = model_path.with_name("spoilt.safetensors")
    save_file(read_tensors(model_path), path, {"gtdnet": json.dumps(header)})
    try:
        loaded = load_model(path)
    except InputError as error:
        one_sentence(error, path)
    else:
        shape = (1, loaded.spec.frames_per_clip, 3, 32, 32)
        assert loaded.model(torch.zeros(shape)).shape == (1, loaded.spec.num_classes)
        assert isinstance(loaded.provenance, dict)
        assert isinstance(loaded.metrics, dict)


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5000, '{"format_version": Infinity}', "5"])
def test_headers_that_are_no_objects(model_path: Path, text: str) -> None:
    path = model_path.with_name("text.safetensors")
    save_file(read_tensors(model_path), path, {"gtdnet": text})
    with pytest.raises(InputError) as error:
        load_model(path)
    one_sentence(error.value, path)
    with pytest.raises(InputError) as error:
        parse_header(path, "onnx", text)
    one_sentence(error.value, path)


# ---------------------------------------------------------------------------------- exported files


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_headers_of_exported_files(model_path: Path, data: Any) -> None:
    good = json.loads(make_header(load_model_once(model_path), "fp32", {"exported": "today"}))
    path = Path("model.onnx")
    try:
        found = parse_header(path, "onnx", json.dumps(data.draw(spoilt(good))))
    except InputError as error:
        one_sentence(error, path)
    else:
        assert isinstance(found.spec, ClipSpec)


_loaded: dict[Path, Any] = {}


def load_model_once(path: Path) -> Any:
    if path not in _loaded:
        _loaded[path] = load_model(path)
    return _loaded[path]


# ------------------------------------------------------------------------------------- score files

RESULT: dict[str, Any] = {
    "protocol": {"views": "8x1x1", "split": "validation", "frames": "in-order", "spec": {}},
    "model": {"path": "m.safetensors", "name": "tsm_resnet50", "sha256": "0"},
    "data": {"path": "data", "format": "list", "classes": "identical"},
    "versions": {"gtdnet": "0"},
}


@pytest.fixture(scope="module")
def scores_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scores = np.full((4, 3), 1 / 3, np.float32)
    failures = (FailedClip("e", 1, "e.mp4", "cut off"),)
    labels = np.array([0, 1, 2, -1])
    evaluation = Evaluation(("l", "r", "s"), tuple("abcd"), scores, labels, failures)
    folder = tmp_path_factory.mktemp("scores")
    write_results(folder, evaluation, {**evaluation.to_dict(), **RESULT})
    return folder / "scores.npz"


arrays = st.one_of(
    json_values.map(lambda value: np.array(json.dumps(value))),
    st.sampled_from(
        [
            np.array(["0.5"] * 12).reshape(4, 3), np.array([b"a", b"b", b"c", b"d"]),
            np.array([{}] * 4, object), np.zeros((4, 3), complex), np.zeros((4, 3), int),
            np.zeros((4, 3, 1), np.float32), np.zeros((0, 0), np.float32), np.zeros(4),
            np.zeros(4, "datetime64[s]"), np.zeros(4, [("a", "f4")]), np.array(5),
            np.zeros(4, "u8"),
            np.array([0, 1, 2, 3]), np.array(["a", "a", "b", "c"]), np.array([["a"], ["b"]]),
            np.full((4, 3), np.inf, np.float32), np.zeros((4, 3), np.float16), np.array([], "U1"),
        ]
    ),
)  # fmt: skip
KEYS = ["ids", "scores", "labels", "class_names", "fingerprint", "about"]


@settings(max_examples=200, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(KEYS), arrays, min_size=1, max_size=2))
@example(changes={"scores": np.array([["0.5"] * 3] * 4)})
@example(changes={"scores": np.array([[{}] * 3] * 4, object)})
@example(changes={"about": np.array('{"failures": [], "protocol": [], "model": 5, "data": null}')})
@example(changes={"about": np.array('{"failures": [["e", "1", 2, 3]]}')})
@example(changes={"about": np.array("[" * 100_000)})
def test_score_files(scores_path: Path, changes: dict[str, Any]) -> None:
    read_changed(scores_path, changes)


def read_changed(scores_path: Path, changes: dict[str, Any]) -> None:
    with np.load(scores_path) as file:
        held = {**{key: file[key] for key in file.files}, **changes}
    path = scores_path.with_name("spoilt.npz")
    np.savez(path, **held)
    for use in (read_results, lambda p: _joined(p, scores_path)):
        try:
            found = use(path)
        except InputError as error:
            one_sentence(error, path)
        else:
            assert found


def _joined(path: Path, other: Path) -> dict[str, Any]:
    output = str(path.with_name("joined"))
    return ensemble(EnsembleOptions([str(other), str(path)], output=output, overwrite=True))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_what_score_files_say_of_themselves(scores_path: Path, data: Any) -> None:
    good = {**RESULT, "failures": [["e", 1, "e.mp4", "cut off"]]}
    about = json.dumps(data.draw(spoilt(good)))
    read_changed(scores_path, {"about": np.array(about)})


@pytest.mark.parametrize("cut", [0, 10, 200, -30])
def test_damaged_score_files(scores_path: Path, cut: int) -> None:
    path = scores_path.with_name("damaged.npz")
    content = bytearray(scores_path.read_bytes())
    content[cut : cut + 20 if cut >= 0 else None] = b"\xff" * 20
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_results(path)
    one_sentence(error.value, path)


@pytest.mark.parametrize("key", KEYS)
def test_score_files_with_members_that_are_no_arrays(scores_path: Path, key: str) -> None:
    path = scores_path.with_name("bytes.npz")
    with zipfile.ZipFile(scores_path) as good, zipfile.ZipFile(path, "w") as file:
        for info in good.infolist():
            file.writestr(info, b"scores" if info.filename == f"{key}.npy" else good.read(info))
    with pytest.raises(InputError) as error:
        read_results(path)
    one_sentence(error.value, path)
