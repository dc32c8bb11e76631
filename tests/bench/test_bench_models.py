from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from gtdnet.bench import engines
from gtdnet.bench.models import ModelBenchOptions, ModelCase, bench_models, plan
from gtdnet.bench.networks import Network
from gtdnet.bench.options import check_output
from gtdnet.bench.result import text
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.models import create_model, save_model
from gtdnet.models.backbones import BACKBONES
from gtdnet.models.complexity import complexity
from gtdnet.nn import fast_path

TINY: dict[str, Any] = {
    "models": ["gtdnet_resnet18"],
    "model_options": {"width": 0.125},
    "num_segments": "4",
    "crop_size": 32,
    "device": "cpu",
    "threads": "1",
    "engines": "eager",
    "precisions": "fp32",
    "seconds": 0.3,
    "memory": False,
}


def tiny(**options: Any) -> ModelBenchOptions:
    return ModelBenchOptions(**{**TINY, **options})


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    model = create_model("tea_resnet50", 3, 4, width=0.125)
    spec = ClipSpec(("a", "b", "c"), num_segments=4, short_side=36, crop_size=32)
    return save_model(tmp_path / "tea.safetensors", model, spec)


# ------------------------------------------------------------------------------------- plans


def labels(cases: list[ModelCase]) -> list[tuple[object, ...]]:
    return [tuple(case.to_dict().values()) for case in cases]


def test_each_case_is_followed_by_its_floor() -> None:
    cases, reference = plan(
        tiny(models=["gtdnet_resnet18", "tsm_resnet34"], batch_sizes="1,8", precisions="fp32,bf16")
    )
    assert reference is None
    assert labels(cases)[:4] == [
        ("gtdnet_resnet18(width=0.125)", 1, 1, 4, 32, "eager", "fp32", "nchw"),
        ("tsn_resnet18(width=0.125)", 1, 1, 4, 32, "eager", "fp32", "nchw"),
        ("tsm_resnet34(width=0.125)", 1, 1, 4, 32, "eager", "fp32", "nchw"),
        ("tsn_resnet34(width=0.125)", 1, 1, 4, 32, "eager", "fp32", "nchw"),
    ]
    assert len(cases) == len(set(cases)) == 4 * 4
    for case in cases:
        assert case.floor() in cases
        floor = case.floor()
        assert floor.to_dict() == {**case.to_dict(), "model": str(floor.network)}


def test_layouts_are_of_modules_alone_and_floors_come_once() -> None:
    cases, _ = plan(
        tiny(models=["tsn_resnet18"], engines="torch,eager", layouts="nchw,channels_last")
    )
    assert [(c.engine, c.layout) for c in cases] == [
        ("torch", None), ("eager", "nchw"), ("eager", "channels_last"),
    ]  # fmt: skip


def test_the_reference_runs_the_plain_way_beside_all_others() -> None:
    cases, reference = plan(
        tiny(engines="torch", precisions="bf16", batch_sizes="1,2", reference="tsm_resnet18")
    )
    assert str(reference) == "tsm_resnet18(width=0.125)"
    plain = [case for case in cases if case.engine == "plain"]
    assert [(c.precision, c.layout, c.batch_size) for c in plain] == [
        ("fp32", "nchw", 1), ("fp32", "nchw", 2),
    ]  # fmt: skip


def test_floor_and_reference_keep_options_of_a_backbone_of_ones_own(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = {"width": 1.0, "groups": 2}
    monkeypatch.setattr(BACKBONES["resnet18"].network, "options", usual)
    given = {"width": 0.5, "groups": 1}
    cases, reference = plan(tiny(model_options=given, reference="tsm_resnet18"))
    assert str(cases[1].network) == "tsn_resnet18(groups=1,width=0.5)"
    assert str(reference) == "tsm_resnet18(groups=1,width=0.5)"
    cases, reference = plan(tiny(model_options=usual, reference=str(model_path)))
    assert str(cases[1].network) == "tsn_resnet18"
    assert str(reference) == str(model_path)


def test_a_benched_network_has_the_spec_of_its_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BACKBONES["resnet18"].network, "spec", {"mean": (0.1, 0.2, 0.3)})
    _, spec = Network("tsm_resnet18", (("width", 0.125),)).build(4, 32)
    assert spec.mean == (0.1, 0.2, 0.3)


def test_sizes_of_a_model_file_are_its_own(model_path: Path) -> None:
    cases, _ = plan(ModelBenchOptions(models=[str(model_path)], threads="1"))
    assert [(str(c.network), c.num_segments, c.crop_size) for c in cases] == [
        (str(model_path), 4, 32),
        ("tsn_res2net50(width=0.125,num_classes=3)", 4, 32),
    ]
    assert {c.network.num_classes for c in cases} == {3}
    cases, _ = plan(ModelBenchOptions(models=[str(model_path)], num_segments="8,16", crop_size=64))
    assert [(c.num_segments, c.crop_size) for c in cases[::2]] == [(8, 64), (16, 64)]


def test_floor_and_reference_of_a_model_file_have_its_classes(model_path: Path) -> None:
    cases, _ = plan(
        tiny(models=[str(model_path), "tsm_resnet50"], reference="tsn_resnet50", num_classes=5)
    )
    assert {(c.network.name, c.network.num_classes) for c in cases} == {
        ("tea_resnet50", 3), ("tsn_res2net50", 3), ("tsn_resnet50", 3),
        ("tsm_resnet50", 5), ("tsn_resnet50", 5),
    }  # fmt: skip
    options = tiny(models=[str(model_path)], model_options={}, seconds=0.01)
    own, floor = bench_models(options)["cases"]
    assert own["gmacs"] == pytest.approx(
        complexity("tea_resnet50", 3, 4, 32, width=0.125).macs / 1e9, rel=1e-3
    )
    assert floor["gmacs"] == pytest.approx(
        complexity("tsn_res2net50", 3, 4, 32, width=0.125).macs / 1e9, rel=1e-3
    )


def test_it_goes_on_until_the_reference_is_known_too(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, Any]] = []

    def narrow(pairs: list[tuple[Any, Any]], *_: object) -> Callable[[object], bool]:
        seen.extend(pairs)
        return lambda rounds: True

    monkeypatch.setattr("gtdnet.bench.cases.narrow", narrow)
    bench_models(tiny(reference="tsm_resnet18"))
    assert [(str(a)[:3], str(b)[:3]) for a, b in ((p.network, q.network) for p, q in seen)] == [
        ("gtd", "tsn"), ("tsm", "gtd"), ("tsm", "tsn"),
    ]  # fmt: skip


def test_options_go_to_the_models_that_know_them() -> None:
    cases, _ = plan(
        tiny(
            models=["gtdnet_resnet18", "tsn_resnet18"],
            model_options={"reduction": 2, "width": 1.0},
        )
    )
    assert [str(c.network) for c in cases] == [
        "gtdnet_resnet18(reduction=2,width=1.0)",
        "tsn_resnet18",
        "tsn_resnet18(width=1.0)",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": []}, "no model given"),
        ({"models": ["resnet50"]}, "unknown model 'resnet50'"),
        ({"models": ["no.safetensors"]}, "no.safetensors: no such model file"),
        (
            {"model_options": {"depth": 3}},
            "none of the models gtdnet_resnet18 has an option 'depth'",
        ),
        ({"engines": "torch,tensorrt"}, "--engines: unknown 'tensorrt'; choose of auto, torch"),
        ({"engines": ","}, "--engines is empty"),
        ({"precisions": "fp8"}, "--precisions: unknown 'fp8'"),
        (
            {"layouts": "nhwc"},
            "--layouts: unknown 'nhwc' (did you mean nchw?); choose of nchw, channels_last",
        ),
        ({"batch_sizes": "0"}, "--batch_sizes: expected whole numbers such as 1,8, got '0'"),
        ({"threads": "two"}, "--threads: expected whole numbers such as 1,8, got 'two'"),
        ({"threads": "100000"}, "--threads 100000: this machine has "),
        ({"num_segments": "8.5"}, "--num_segments: expected whole numbers"),
        ({"crop_size": 31}, "crop_size must be at least 32, got 31"),
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"profile": -1}, "profile must be at least 0, got -1"),
        ({"seconds": 0}, "seconds must be positive, got 0"),
        ({"seconds": float("inf")}, "seconds must be positive, got inf"),
        ({"tolerance": 1.0}, "tolerance must be from 0"),
        ({"reference": "tsm"}, "unknown model 'tsm'"),
        ({"clock": "sun"}, "unknown clock 'sun'"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"output": "results.json"}, "--output results.json: the results are YAML"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        bench_models(tiny(**options))
    assert message in str(error.value)


def test_an_output_that_exists_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("mine")
    with pytest.raises(InputError, match="exists already; give another --output, or --overwrite"):
        bench_models(tiny(output=str(tmp_path / "mine.yaml")))
    assert (tmp_path / "mine.yaml").read_text() == "mine"


@pytest.mark.parametrize("name", ["folder.yaml", "mine.txt/speed.yaml", "mine.txt/a/speed.yaml"])
def test_an_output_that_cannot_be_written_is_refused_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    reason = "is a folder" if name == "folder.yaml" else "mine.txt is a file, not a folder"
    for overwrite in (False, True):
        with pytest.raises(InputError, match=reason):
            bench_models(tiny(output=str(tmp_path / name), overwrite=overwrite))


def test_trying_an_output_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_output(str(tmp_path / "new" / "speed.yaml"), overwrite=False)
    assert list(tmp_path.rglob("*")) == [tmp_path / "new"]

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(InputError, match=r"cannot be written \(Permission denied\); give another"):
        check_output(str(tmp_path / "speed.yaml"), overwrite=False)


# ---------------------------------------------------------------------------------- real runs


def test_a_bench_of_models(tmp_path: Path, six_rounds: None) -> None:
    output = tmp_path / "results" / "speed.yaml"
    result = bench_models(
        tiny(
            engines="torch",
            batch_sizes="2",
            reference="tsm_resnet18",
            profile=2,
            output=str(output),
        )
    )
    assert yaml.safe_load(output.read_text(encoding="utf-8")) == json.loads(json.dumps(result))
    assert [p.name for p in output.parent.iterdir()] == ["speed.yaml"]
    assert result["bench"] == "models"
    assert (result["clock"], result["rounds"]) == ("cpu", 6)
    assert result["left_out"] == []
    assert result["command"] == (
        "gtdnet bench gtdnet_resnet18 --model_options.width 0.125 --num_segments 4 --crop_size 32 "
        "--batch_sizes 2 --engines torch --precisions fp32 --reference tsm_resnet18 --seconds 0.3 "
        f"--output {output} --device cpu --threads 1 --memory false --profile 2"
    )
    cases = {(c["model"].partition("(")[0], c["engine"]): c for c in result["cases"]}
    assert set(cases) == {
        ("gtdnet_resnet18", "torch"), ("tsn_resnet18", "torch"), ("tsm_resnet18", "plain"),
    }  # fmt: skip
    macs = complexity("gtdnet_resnet18", 174, 4, 32, width=0.125).macs
    for (model, engine), case in cases.items():
        assert case["calls"] >= result["rounds"]
        assert 0 < case["latency_ms"]["median"] <= case["latency_ms"]["p95"]
        assert case["clips_per_second"] == pytest.approx(
            2000 / case["latency_ms"]["median"], rel=1e-2
        )
        assert case["memory"]["activations_mib"] >= 0
        assert len(case["operators"]) == 2
        assert case["operators"][0]["ms"] >= case["operators"][1]["ms"]
        floor = case["vs_floor"]
        if engine == "plain":  # no plain network runs that way here
            assert floor is None
            assert case["vs_reference"]["ratio"] == 1
        elif model == "tsn_resnet18":
            assert floor["ratio"] == floor["low"] == floor["high"] == 1
        else:
            assert floor["clock"] == "cpu"
            assert floor["low"] <= floor["ratio"] <= floor["high"]
            assert case["gmacs"] == pytest.approx(macs / 1e9, rel=1e-3)
            assert case["gflops"] == pytest.approx(2 * 2 * macs / case["cpu_ms"] / 1e6, rel=1e-2)
    told = text(result)
    assert told.startswith(
        "The same for all: fp32, batch 2, 1 thread, 4 frames, 32x32 pixels. ms, p95 and clips/s "
        "are wall\ntime, / floor and x reference CPU time.\n\nmodel "
    )
    line = told.replace("\n", " ")
    assert "x reference: how many times as fast as tsm_resnet18(width=0.125), plain" in line
    assert "GFLOP/s: 2 x MACs per CPU-second." in line
    assert "Operators of tsm_resnet18(width=0.125), plain, fp32, nchw, batch 2, per call:" in told


def test_too_few_rounds_are_said() -> None:
    result = bench_models(tiny(seconds=1e-6))
    assert result["rounds"] == 1
    assert result["cases"][0]["vs_floor"]["low"] is None
    assert "Only 1 round: too few for an interval" in text(result)


def test_engines_that_cannot_be_used_are_listed_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unavailable(engine: str, device: torch.device) -> str | None:
        return "it is on holiday" if engine == "onnx" else None

    def build_engine(model: nn.Module, spec: ClipSpec, engine: str, **options: Any) -> None:
        raise (InputError("not today") if engine == "openvino" else RuntimeError("broken\nreally"))

    monkeypatch.setattr(engines, "unavailable", unavailable)
    monkeypatch.setattr(engines, "build_engine", build_engine)
    result = bench_models(
        tiny(engines="eager,onnx,openvino,torch,eager-graph", precisions="fp32,fp16", seconds=0.1)
    )
    assert {(c["engine"], c["precision"]) for c in result["cases"]} == {("eager", "fp32")}
    reasons = {
        (c["engine"], c["precision"]): c["reason"]
        for c in result["left_out"]
        if c["model"].startswith("gtdnet")
    }
    assert len(result["left_out"]) == 2 * len(reasons)
    assert reasons == {
        ("onnx", "fp32"): "it is on holiday",
        ("onnx", "fp16"): "it is on holiday",
        ("openvino", "fp32"): "not today",
        ("openvino", "fp16"): "not today",
        ("torch", "fp32"): "failed: RuntimeError: broken really",
        ("torch", "fp16"): "failed: RuntimeError: broken really",
        ("eager-graph", "fp32"): "eager-graph needs a CUDA device, for it replays CUDA graphs",
        ("eager-graph", "fp16"): "eager-graph needs a CUDA device, for it replays CUDA graphs",
        ("eager", "fp16"): "precision 'fp16' needs a GPU; use --precision bf16 or fp32 on a CPU",
    }
    told = text(result)
    assert "- onnx fp32, onnx fp16: it is on holiday" in told
    assert "- openvino fp32, openvino fp16: not today" in told
    with pytest.raises(InputError, match="nothing can be timed here: it is on holiday"):
        bench_models(tiny(engines="onnx"))
    with pytest.raises(RuntimeError, match="nothing can be timed here: failed: RuntimeError: bro"):
        bench_models(tiny(engines="torch"))


def test_auto_is_named_as_what_it_turned_out_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        name, precision, device = "openvino", "bf16", torch.device("cpu")

        def __call__(self, clips: Tensor) -> Tensor:
            assert clips.shape == (1, 4, 3, 32, 32)
            assert clips.dtype == torch.uint8
            return torch.zeros(1, 174)

    monkeypatch.setattr(engines, "unavailable", lambda engine, device: None)
    monkeypatch.setattr(engines, "build_engine", lambda *_, **__: Fake())
    result = bench_models(tiny(engines="auto,openvino", precisions="auto,bf16", seconds=0.05))
    assert [(c["model"][:3], c["engine"], c["precision"]) for c in result["cases"]] == [
        ("gtd", "openvino", "bf16"), ("tsn", "openvino", "bf16"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("engine", "packages"),
    [
        ("torch", []),
        ("onnx", ["onnx", "onnxruntime", "onnxscript"]),
        ("openvino", ["openvino"]),
    ],
)
def test_memory_is_what_the_model_takes(engine: str, packages: list[str]) -> None:
    """Of a network of 0.2 million weights; importing an exporter alone takes more than this."""
    for package in packages:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    (case, *_), _ = plan(tiny(models=["tsn_resnet18"], engines=engine))
    found = case.resident_mib()
    assert found is not None
    assert 50 < found["process_start_mib"] < 2000
    assert 0 < found["process_peak_mib"] - found["process_start_mib"] < 50


def test_no_memory_of_what_is_compiled() -> None:
    (case, *_), _ = plan(tiny(engines="compile"))
    assert case.resident_mib() is None


def test_why_there_is_no_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def memory(case: ModelCase) -> dict[str, int] | None:
        if case.network.name.startswith("gtd"):
            raise RuntimeError("Killed\nby someone")
        if case.precision == "bf16":
            return None
        return {"process_start_mib": 100, "process_peak_mib": 125}

    monkeypatch.setattr(ModelCase, "resident_mib", memory)
    result = bench_models(tiny(precisions="fp32,bf16", memory=True, seconds=0.01))
    failed, taken, _, none = (case["memory"] for case in result["cases"])
    assert failed["process_failed"] == "Killed by someone"
    assert taken["process_peak_mib"] == 125
    assert failed["process_peak_mib"] is none["process_peak_mib"] is None
    assert all(case["memory_vs_floor"] is None for case in result["cases"][::2])
    told = text(result)
    line = "eager fp32 nchw of gtdnet_resnet18(width=0.125), eager bf16 nchw of"
    assert f"Memory not measured:\n- {line}" in told
    assert "MiB / floor" in told


# ------------------------------------------------------------------------------------ modules


@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
@pytest.mark.parametrize("engine", ["eager", "plain"])
def test_modules_compute_what_the_engine_torch_computes(engine: str, layout: str) -> None:
    settings: dict[str, Any] = {"batch_size": 2, "threads": 1, "device": torch.device("cpu")}
    answers = []
    for name in ("torch", engine):
        torch.manual_seed(1)
        model = create_model("gtdnet_resnet18", 5, 4, width=0.125).eval()
        nn.init.normal_(model.classifier.weight)
        spec = ClipSpec(tuple("abcde"), num_segments=4, short_side=32, crop_size=32)
        ready = engines.make_call(
            model, spec, engine=name, precision="fp32", layout=layout, **settings
        )
        assert ready[1:] == (name, "fp32", None)
        answers.append(ready.call())
    torch.testing.assert_close(answers[0], answers[1], rtol=1e-3, atol=1e-3)
    assert answers[0].std() > 0.01


def test_plain_is_without_the_fast_path() -> None:
    seen: list[bool] = []

    class Model(nn.Module):
        def forward(self, clips: Tensor) -> Tensor:
            from gtdnet.nn import fast

            seen.append(fast._ENABLED.get())
            return clips.mean(dim=(1, 3, 4))

    spec = ClipSpec(tuple("abc"), num_segments=4, short_side=32, crop_size=32)
    for engine in ("plain", "eager"):
        call = engines.make_call(
            Model(), spec, engine=engine, precision="fp32", layout="nchw", batch_size=1, threads=1,
            device=torch.device("cpu"),
        ).call  # fmt: skip
        call()
    assert seen == [False, True]
    with fast_path(False):
        call()
    assert seen[-1] is False


def test_int8_is_not_for_modules() -> None:
    with pytest.raises(InputError, match="engine eager has no int8"):
        plan(tiny(precisions="int8"))[0][0].make(torch.device("cpu"), profiled=False)
