from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gtdnet.bench import engines
from gtdnet.bench.models import ModelBenchOptions, bench_models
from gtdnet.bench.profile import by_pytorch, kinds, operators, quiet_mean
from gtdnet.bench.result import text
from gtdnet.data.spec import ClipSpec
from gtdnet.engines import build_engine, example_clips
from gtdnet.engines.profile import Node, kind_of
from gtdnet.models import create_model

CPU = torch.device("cpu")
SPEC = ClipSpec(tuple("abc"), num_segments=4, short_side=64, crop_size=64)
PACKAGES = {"onnx": ("onnx", "onnxruntime", "onnxscript"), "openvino": ("openvino",)}

with_each_engine = pytest.mark.parametrize(
    "engine",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                any(find_spec(package) is None for package in packages),
                reason="the extra 'export' is not installed",
            ),
        )
        for name, packages in PACKAGES.items()
    ],
)


def small(name: str) -> nn.Module:
    torch.manual_seed(0)
    return create_model(name, 3, 4, width=0.25).eval()


# ---------------------------------------------------------------------------------- the tables


def test_the_mean_is_of_the_quieter_half_of_the_calls() -> None:
    calls = [
        [Node("a", "Conv", 1, seconds), Node("b", "Add", 1, 1.0), Node("b", "Add", 1, 1.0)]
        for seconds in (9.0, 1.0, 50.0, 3.0, 2.0)
    ]
    assert quiet_mean(calls) == [Node("a", "Conv", 1, 2.0), Node("b", "Add", 2, 2.0)]
    assert quiet_mean(calls[:1]) == [Node("a", "Conv", 1, 9.0), Node("b", "Add", 2, 2.0)]
    assert quiet_mean([[Node("a", "Conv", 1, 2.0)], []]) == []  # a call without any is quieter


OWN = [
    Node("first", "Conv", 1, 0.050),
    Node("second", "Conv", 1, 0.030),
    Node("gate", "Mul", 8, 0.012),
    Node("shift", "Slice", 8, 0.007),
    Node("shape", "Shape", 8, 0.0),
    Node("pool", "Pool", 1, 0.001),
]
FLOOR = [
    Node("first", "Conv", 1, 0.083),
    Node("norm", "Norm", 1, 0.006),
    Node("p", "Pool", 1, 1e-3),
]


def test_operators_are_the_costliest_nodes() -> None:
    assert operators(OWN, 2) == [
        {"name": "first", "calls": 1, "ms": 50.0, "share": 0.5},
        {"name": "second", "calls": 1, "ms": 30.0, "share": 0.3},
    ]
    assert operators([], 2) == []
    (long,) = operators([Node("x" * 60 + "y" * 60, "Conv", 1, 1.0)], 1)
    assert long["name"] == "x" * 48 + "..." + "y" * 29


def test_kinds_of_a_case_alone() -> None:
    assert kinds(OWN, None, 2) == [
        {"kind": "Conv", "ms": 80.0, "share": 0.8},
        {"kind": "Mul", "ms": 12.0, "share": 0.12},
        {"kind": "rest", "ms": 8.0, "share": 0.08},
    ]
    assert [row["kind"] for row in kinds(OWN, None, 9)] == ["Conv", "Mul", "Slice", "Pool"]


def test_kinds_beside_the_floor_are_those_with_the_largest_differences() -> None:
    found = kinds(OWN, FLOOR, 3)
    assert found == [
        {"kind": "Mul", "ms": 12.0, "floor_ms": 0.0, "more_ms": 12.0, "share": 1.2},
        {"kind": "Slice", "ms": 7.0, "floor_ms": 0.0, "more_ms": 7.0, "share": 0.7},
        {"kind": "Norm", "ms": 0.0, "floor_ms": 6.0, "more_ms": -6.0, "share": -0.6},
        {"kind": "rest", "ms": 81.0, "floor_ms": 84.0, "more_ms": -3.0, "share": -0.3},
    ]
    assert sum(row["more_ms"] for row in found) == pytest.approx(100 - 90)
    assert {row["share"] for row in kinds(OWN, OWN, 3)} == {None}


def test_kinds_in_the_text_and_results_without_them() -> None:
    case = {
        **{"model": "mine", "engine": "onnx", "precision": "fp32", "layout": None},
        **{"batch_size": 2, "threads": 1, "num_segments": 4, "crop_size": 32},
        **{"latency_ms": {"median": 101.0, "p95": 102.0}, "clips_per_second": 20.0},
        **{"gmacs": 1.0, "gflops": 20.0, "memory": {}, "vs_floor": None},
        "memory_vs_floor": None,
    }
    result: dict[str, Any] = {
        **{"bench": "models", "cases": [case], "clock": "wall", "reference": None, "rounds": 6},
        **{"left_out": [], "machine": {"cores": 2}},
        "load": dict.fromkeys(("load_average", "seconds", "cores_used_by_others")),
    }
    assert "kind" not in text(result)
    case |= {"operators": operators(OWN, 1), "kinds": kinds(OWN, FLOOR, 1)}
    told = text(result)
    assert (
        "Operators of mine, onnx, fp32, batch 2, per call:\n\n"
        "operator  calls  ms  share\n"
        "first         1  50   50 %\n\n"
        "mine, onnx, fp32, batch 2, minus its floor, by kind of operation (100.00 - 90.00 = 10.00 "
        "ms per\ncall):\n\n"
        "kind  ms  floor  difference  share of it\n"
        "Mul   12      0          12        120 %\n"
        "rest  88     90          -2        -20 %"
    ) in told
    case |= {"kinds": kinds(OWN, None, 1)}
    assert "by kind of operation (100.00 ms per call):\n\nkind  ms  share\n" in text(result)


# ------------------------------------------------------------------------------------- engines


@with_each_engine
def test_every_node_of_every_call_is_counted(engine: str) -> None:
    model = small("gtdnet_resnet18")
    built: Any = build_engine(model, SPEC, engine, device="cpu", profiled=True, precision="fp32")
    plain = build_engine(model, SPEC, engine, device="cpu", precision="fp32")
    for clips in (1, 2, 1):
        answer = built(example_clips(SPEC, clips))
        torch.testing.assert_close(answer, plain(example_clips(SPEC, clips)))
    calls = built.nodes()
    assert len(calls) == 3
    convs = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    for call in calls:
        assert [node.name for node in call] == [node.name for node in calls[0]]
        found = sum(node.kind.startswith("Conv") for node in call)
        assert found == convs if engine == "onnx" else found >= convs  # whose form has two for some
    assert len({node.name for node in calls[0]}) == len(calls[0])
    if engine == "openvino":  # its own counters are means over the four clips
        infos = built._request.profiling_info
        for info, *nodes in zip(infos, *calls, strict=True):
            assert {node.name for node in nodes} == {info.node_name}
            assert [node.calls for node in nodes] == [1, 2, 1]
            mean = sum(node.seconds for node in nodes) / 4
            assert mean == pytest.approx(info.real_time.total_seconds())


@with_each_engine
def test_an_engine_is_not_profiled_unless_asked(engine: str) -> None:
    built: Any = build_engine(small("tsn_resnet18"), SPEC, engine, device="cpu", precision="fp32")
    built(example_clips(SPEC, 1))
    assert built.nodes() == []


@with_each_engine
def test_a_profile_sums_to_its_whole_and_leaves_nothing_behind(
    engine: str, six_rounds: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    result = bench_models(
        ModelBenchOptions(
            model_options={"width": 0.25}, models=["gtdnet_resnet18"], engines=engine,
            precisions="fp32", num_segments="4", crop_size=64, threads="1", device="cpu",
            seconds=0.1, memory=False, profile=3,
        )
    )  # fmt: skip
    assert list(tmp_path.rglob("*")) == [folder]
    own, floor = result["cases"]
    assert len(own["kinds"]) == len(floor["kinds"]) == 4
    assert len(own["operators"]) == len(floor["operators"]) == 3
    assert sum(row["share"] for row in floor["kinds"]) == pytest.approx(1, abs=1e-2)
    for row in own["kinds"]:
        assert row["ms"] - row["floor_ms"] == pytest.approx(row["more_ms"], abs=1.6e-3)
    for key, case in (("ms", own), ("floor_ms", floor)):
        whole = sum(row[key] for row in own["kinds"])
        share = case["operators"][0]["ms"] / case["operators"][0]["share"]
        assert whole == pytest.approx(share, rel=1e-2)
    assert sum(row["floor_ms"] for row in own["kinds"]) == pytest.approx(
        sum(row["ms"] for row in floor["kinds"]), rel=1e-2
    )
    told = text(result).replace("\n", " ")
    assert f"gtdnet_resnet18(width=0.25), {engine}, fp32, batch 1, minus its floor, by kind" in told
    assert f"tsn_resnet18(width=0.25), {engine}, fp32, batch 1, by kind of operation" in told


def test_operators_of_pytorch() -> None:
    x = torch.rand(64, 64)
    profiler = by_pytorch(lambda: (x @ x).relu() @ x, CPU)
    for _ in range(3):
        profiler.call()
    calls = profiler.nodes()
    assert len(calls) == 3
    for call in calls:
        found = {node.name: node for node in call}
        assert found["aten::mm"].calls == 2
        assert found["aten::mm"].kind == "aten::mm"
        assert found["aten::mm"].seconds > 0


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("graph_0_cpp_fused_relu_30", "cpp_fused_relu"),
        ("triton_poi_fused_add_mul_7", "triton_poi_fused_add_mul"),
        (f"## Call CompiledFxGraph {'f4' * 26} ##", "## Call CompiledFxGraph"),
        ("Torch-Compiled Region: 0/1", "Torch-Compiled Region"),
        ("aten::max_pool2d_with_indices", "aten::max_pool2d_with_indices"),
        ("aten::mm", "aten::mm"),
    ],
)
def test_kinds_of_pytorch_have_no_numbers(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_what_is_compiled_is_profiled_kernel_by_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a build of its own: each kernel tells PyTorch's profiler of itself, which takes time."""
    import torch._inductor.config as inductor

    told: list[bool] = []
    made: list[nn.Module] = []

    def compiled(network: nn.Module, **_: object) -> Callable[[torch.Tensor], torch.Tensor]:
        made.append(network)

        def call(clips: torch.Tensor) -> torch.Tensor:
            told.append(inductor.cpp.enable_kernel_profile)
            return network(clips)

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(engines, "unavailable", lambda engine, device: None)
    ready = engines.make_call(
        small("tsn_resnet18"), SPEC, engine="compile", precision="fp32", layout=None, batch_size=1,
        threads=1, device=CPU, profiled=True,
    )  # fmt: skip
    assert told == [True]  # when it compiles
    assert ready.profiler
    ready.profiler.call()
    ready.call()
    assert told == [True, True, False]
    assert len(made) == 2
    assert len(ready.profiler.nodes()) == 1  # not of the call that compiles
