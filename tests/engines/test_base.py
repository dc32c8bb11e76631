"""An engine is one class, made known by one line; what commands ask of it, it says itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gtdnet.data.spec import ClipSpec
from gtdnet.data.transforms import normalise
from gtdnet.device import PRECISIONS
from gtdnet.engines import (
    ENGINES,
    Choice,
    Engine,
    Source,
    build_engine,
    choose,
    example_clips,
    is_exported,
    register_engine,
    unavailable,
)
from gtdnet.engines.base import _registered
from gtdnet.errors import InputError
from gtdnet.infer import Recognizer
from gtdnet.models import ModelFile, VideoClassifier

CPU = torch.device("cpu")
DOCS = Path(__file__).parents[2] / "docs" / "export.md"


class Halves(Engine):
    """Somebody's own: computes in double precision, one half of a batch after the other."""

    name = "halves"
    title = "one half after the other"
    devices = ("cpu",)
    precisions = ("fp32",)

    def __init__(self, source: Source, choice: Choice) -> None:
        super().__init__(choice)
        self.source = source

    @classmethod
    def build(cls, source: Source, choice: Choice) -> Halves:
        return cls(source, choice)

    @torch.inference_mode()
    def logits(self, clips: Tensor) -> Tensor:
        model = self.source.model
        return torch.cat([model(normalise(part, self.source.spec)) for part in clips.chunk(2)])


@pytest.fixture
def halves() -> Iterator[type[Engine]]:
    yield register_engine(Halves)
    _registered.pop("halves")


@pytest.fixture
def file(tiny_model: Callable[..., VideoClassifier]) -> ModelFile:
    spec = ClipSpec(tuple("abcde"), num_segments=4, short_side=36, crop_size=32)
    return ModelFile(tiny_model("gtdnet_resnet18"), spec)


def test_the_engines() -> None:
    assert {name: (kind.devices, kind.precisions) for name, kind in ENGINES.items()} == {
        "torch": (("cpu", "cuda", "mps"), ("fp32", "bf16", "fp16")),
        "compile": (("cpu", "cuda", "mps"), ("fp32", "bf16", "fp16")),
        "onnx": (("cpu", "cuda"), ("fp32",)),
        "openvino": (("cpu",), ("fp32", "bf16", "int8")),
    }
    assert {name: (kind.suffixes, kind.saved_precisions) for name, kind in ENGINES.items()} == {
        "torch": ((".pt2",), ("fp32", "bf16")),
        "compile": ((), ()),
        "onnx": ((".onnx",), ("fp32",)),
        "openvino": ((".xml", ".bin"), ("fp32", "bf16", "int8")),
    }
    assert [name for name, kind in ENGINES.items() if kind.opens_files()] == ["onnx", "openvino"]
    for name, kind in ENGINES.items():
        assert kind.name == name
        assert set(kind.saved_precisions) <= set(kind.precisions) <= set(PRECISIONS)


def test_the_documented_table_is_theirs() -> None:
    rows = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line[:3] == "| `"]
    assert [row.split(" | ")[:2] for row in rows] == [
        [f"| `{name}`", kind.title] for name, kind in ENGINES.items()
    ]
    for row, kind in zip(rows, ENGINES.values(), strict=True):
        assert [p for p in PRECISIONS if p in row.split(" | ")[2]] == [
            p for p in PRECISIONS if p in kind.precisions
        ]


@pytest.mark.parametrize(
    ("file", "known"),
    [
        ("a/MODEL.ONNX", True),
        ("model.xml", True),
        ("model.pt2", True),
        ("model.bin", False),  # by itself it may be anything
        ("model.safetensors", False),
        ("hf://user/name", False),
        ("hf://user/name@v1.0/model.onnx", True),
    ],
)
def test_exported_files_are_known_by_their_names(file: str, known: bool) -> None:
    assert is_exported(file) == known


def test_an_engine_of_ones_own(halves: type[Engine], file: ModelFile) -> None:
    clips = example_clips(file.spec, 5)
    recognizer = Recognizer(file, "cpu", engine="halves")
    assert recognizer.engine.name == "halves"
    wanted = Recognizer(file, "cpu").scores(clips[:, None])
    torch.testing.assert_close(recognizer.scores(clips[:, None]), wanted)
    assert choose("auto", "cpu", "fp32").name != "halves"
    with pytest.raises(InputError, match="engine halves computes in fp32, not in bf16"):
        choose("halves", "cpu", "bf16")
    with pytest.raises(InputError, match=r"choose one of auto, torch, .*, openvino, halves$"):
        choose("none", "cpu", "fp32")
    assert unavailable("halves", torch.device("cuda")) == (
        "engine halves computes on the CPU, not on cuda; add --device cpu"
    )


def test_what_it_needs_is_named(halves: type[Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "packages", ("sys", "half_a_package"))
    monkeypatch.setattr(halves, "extra", "half-a-package")
    assert unavailable("halves", CPU) == (
        'engine halves: half_a_package is not installed; get it with: pip install "half-a-package"'
    )


def test_names_and_suffixes_are_taken_once(halves: type[Engine]) -> None:
    class Again(Halves):
        pass

    class Files(Halves):
        name = "files"
        suffixes = (".bin",)

    with pytest.raises(InputError, match="there is an engine 'halves' already; choose another"):
        register_engine(Again)
    with pytest.raises(InputError, match=r"'files': \.bin is the suffix of engine openvino's"):
        register_engine(Files)
    assert "files" not in ENGINES


@pytest.mark.parametrize("name", ["torch", "halves"])
def test_nodes_by_pytorchs_profiler(name: str, halves: type[Engine], file: ModelFile) -> None:
    plain = build_engine(file.model, file.spec, name, device="cpu", precision="fp32")
    counting = build_engine(
        file.model, file.spec, name, device="cpu", precision="fp32", profiled=True
    )
    for n in (1, 3):
        clips = example_clips(file.spec, n)
        assert torch.equal(counting(clips), plain(clips))
    assert plain.nodes() == []
    calls = counting.nodes()
    assert len(calls) == 2
    for nodes in calls:
        assert any("conv" in node.kind for node in nodes)
        assert all(node.seconds > 0 for node in nodes)
