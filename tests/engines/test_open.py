"""Engines: every one gives PyTorch's logits, and says plainly where it cannot be used."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from gtdnet.data.spec import ClipSpec
from gtdnet.data.transforms import normalise
from gtdnet.engines import base, build_engine, choose, compile, example_clips, unavailable
from gtdnet.engines import open as engine
from gtdnet.errors import InputError
from gtdnet.infer import Recognizer
from gtdnet.models import ModelFile, VideoClassifier
from gtdnet.models.methods import METHODS

TinyModel = Callable[..., VideoClassifier]
CPU = torch.device("cpu")

BACKBONES = ("efficientnet_lite0", "convnext_tiny", "vit_small14", "vit_small14_reg4")
each_method = pytest.mark.parametrize(
    "name",
    [
        *(f"{name}_resnet{50 if name == 'tea' else 18}" for name in METHODS),
        *(f"gtdnet_{backbone}" for backbone in BACKBONES),
    ],
)
needs_onnx = pytest.mark.skipif(
    unavailable("onnx", CPU) is not None, reason="the extra 'export' is not installed"
)
needs_openvino = pytest.mark.skipif(
    unavailable("openvino", CPU) is not None, reason="the extra 'export' is not installed"
)


def spec_of(model: VideoClassifier) -> ClipSpec:
    return ClipSpec(
        tuple("abcde"),
        num_segments=model.num_segments,
        short_side=64,
        crop_size=64,
        frames_per_segment=model.frames_per_segment,
        mean=(0.4, 0.5, 0.6),
        std=(0.3, 0.25, 0.2),
    )


def logits_of(model: VideoClassifier, clips: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(normalise(clips, spec_of(model)))


def assert_same(found: Tensor, wanted: Tensor, tolerance: float = 1e-4) -> None:
    assert found.dtype == torch.float32
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max()) <= tolerance * float(wanted.std())


# ----------------------------------------------------------------------------------- every method


@each_method
@pytest.mark.parametrize(
    "engine",
    [pytest.param("onnx", marks=needs_onnx), pytest.param("openvino", marks=needs_openvino)],
)
def test_logits_are_pytorchs(name: str, engine: str, tiny_model: TinyModel) -> None:
    model = tiny_model(name, shallow=True, stages=[5])
    clips = example_clips(spec_of(model), 4)
    wanted = logits_of(model, clips)
    built = build_engine(model, spec_of(model), engine, precision="fp32")
    assert (built.name, built.precision, built.device) == (engine, "fp32", CPU)
    assert_same(built(clips[:1]), wanted[:1])  # neither is the number of the graph's example
    assert_same(built(clips[1:]), wanted[1:])


@each_method
def test_one_graph_for_torch_compile(name: str, tiny_model: TinyModel) -> None:
    model = tiny_model(name, shallow=True, stages=[5])
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    with torch.no_grad():
        for n in (3, 2):
            clips = normalise(example_clips(spec_of(model), n), spec_of(model))
            torch._dynamo.mark_dynamic(clips, 0)  # fails where N is made a constant
            assert_same(compiled(clips), model(clips))
    assert len(graphs) == 1


@needs_openvino
@pytest.mark.parametrize("backbone", BACKBONES[:3])
def test_a_shift_without_a_gate_on_every_backbone(backbone: str, tiny_model: TinyModel) -> None:
    model = tiny_model(f"tsm_{backbone}", shallow=True, stages=[5])
    clips = example_clips(spec_of(model), 3)
    built = build_engine(model, spec_of(model), "openvino", precision="fp32")
    assert_same(built(clips), logits_of(model, clips))


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("engine", ["torch", pytest.param("openvino", marks=needs_openvino)])
def test_bf16_on_every_backbone(backbone: str, engine: str, tiny_model: TinyModel) -> None:
    model = tiny_model(f"gtdnet_{backbone}", shallow=True, stages=[5])
    clips = example_clips(spec_of(model), 3)
    built = build_engine(model, spec_of(model), engine, precision="bf16")
    assert_same(built(clips), logits_of(model, clips), 0.25)


@needs_openvino
@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "convnext_tiny", "vit_small14_reg4"])
def test_int8_on_every_kind_of_backbone(backbone: str, tiny_model: TinyModel) -> None:
    model = tiny_model(f"gtdnet_{backbone}", shallow=True, stages=[5])
    clips = example_clips(spec_of(model), 3)
    source = base.Source(model, spec_of(model), calibration=clips)
    built = base.ENGINES["openvino"].build(source, base.Choice("openvino", CPU, "int8"))
    assert_same(built(clips), logits_of(model, clips), 1.0)


# --------------------------------------------------------------------------------- single engines


@needs_openvino
def test_openvinos_convolutions_pad_by_themselves(tiny_model: TinyModel) -> None:
    """A pass over the features for what is odd in TensorFlow's padding took a twelfth of Lite0."""
    from gtdnet.engines.openvino import to_openvino

    model = tiny_model("tsn_efficientnet_lite0")
    operations = to_openvino(model, spec_of(model)).get_ordered_ops()
    convs = [o.get_attributes() for o in operations if o.get_type_name().endswith("Convolution")]
    uneven = [conv for conv in convs if list(conv["pads_begin"]) != list(conv["pads_end"])]
    assert (len(convs), len(uneven)) == (49, 5)
    assert "Pad" not in {operation.get_type_name() for operation in operations}


def test_torch_is_the_model_itself(tiny_model: TinyModel) -> None:
    model = tiny_model("gtdnet_resnet18")
    clips = example_clips(spec_of(model), 3)
    built = build_engine(model, spec_of(model), "torch", precision="fp32")
    assert torch.equal(built(clips), logits_of(model, clips))
    half = build_engine(model, spec_of(model), "torch", precision="bf16")
    assert_same(half(clips), logits_of(model, clips), 0.25)
    assert half.precision == "bf16"


@pytest.mark.skipif(unavailable("compile", CPU) is not None, reason="no C++ compiler here")
def test_compile(tiny_model: TinyModel) -> None:
    model = tiny_model("gtdnet_resnet18", shallow=True, stages=[5])
    clips = example_clips(spec_of(model), 3)
    torch._dynamo.reset()
    counters.clear()
    recognizer = Recognizer(ModelFile(model, spec_of(model)), "cpu", engine="compile")
    assert recognizer.engine.name == "compile"
    wanted = logits_of(model, clips).softmax(dim=1)
    torch.testing.assert_close(recognizer.scores(clips[:, None], 3), wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(recognizer.scores(clips[:2, None]), wanted[:2], rtol=0, atol=1e-5)
    # Weights are frozen: each convolution has its own in oneDNN's order.
    if torch.backends.mkldnn.is_available():
        convs = sum(isinstance(m, nn.Conv2d) for m in model.modules())
        assert counters["inductor"]["mkldnn_conv_weight_pack_matcher_count"] >= convs
    with ThreadPoolExecutor(2) as pool:
        pairs = list(pool.map(recognizer.engine, [clips[:2], clips[1:]] * 3))
    for i, pair in enumerate(pairs):
        assert_same(pair, logits_of(model, clips)[i % 2 :][:2])


@pytest.mark.parametrize(
    "name",
    [
        "torch",
        pytest.param("onnx", marks=needs_onnx),
        pytest.param("openvino", marks=needs_openvino),
    ],
)
def test_called_by_several_threads(name: str, tiny_model: TinyModel) -> None:
    model = tiny_model("gtdnet_resnet18", shallow=True)
    clips = example_clips(spec_of(model), 8)
    built = build_engine(model, spec_of(model), name, device="cpu", precision="fp32")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(built, [*clips[:, None]] * 10))
    assert_same(torch.cat(found), logits_of(model, clips).repeat(10, 1))


@needs_openvino
def test_openvino_in_bf16(tiny_model: TinyModel) -> None:
    model = tiny_model("gtdnet_resnet18")
    clips = example_clips(spec_of(model), 2)
    built = build_engine(model, spec_of(model), "openvino", precision="bf16", threads=1)
    assert built.precision in ("bf16", "fp32")  # as the processor can
    assert_same(built(clips), logits_of(model, clips), 0.25)


@needs_openvino
def test_openvinos_answer_does_not_depend_on_the_batch(tiny_model: TinyModel) -> None:
    model = tiny_model("tsm_resnet18", shallow=True)
    clips = example_clips(spec_of(model), 3)
    built = build_engine(model, spec_of(model), "openvino", precision="fp32")
    one_by_one = torch.cat([built(clip[None]) for clip in clips])
    assert torch.equal(built(clips), one_by_one)


@needs_openvino
@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs Unix's signals")
def test_signals_reach_a_process_that_had_several_openvino_engines() -> None:
    """As Ctrl-C does: the process must not end by it."""
    code = """
import signal
from torch import nn
from gtdnet.data.spec import ClipSpec
from gtdnet.engines import build_engine

class Model(nn.Module):
    def forward(self, clips):
        return clips.mean(dim=(1, 3, 4))

spec = ClipSpec(tuple("abc"), num_segments=4, short_side=32, crop_size=32)
engines = [build_engine(Model(), spec, "openvino", device="cpu") for _ in range(2)]
while engines:
    engines.pop(0)
signal.signal(signal.SIGUSR1, lambda *_: print("reached"))
signal.raise_signal(signal.SIGUSR1)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "reached\n")


@pytest.mark.skipif(find_spec("nncf") is None, reason="the extra 'export' is not installed")
def test_int8_of_calibration_clips(tiny_model: TinyModel) -> None:
    model = tiny_model("gtdnet_resnet18", shallow=True)
    spec = spec_of(model)
    clips = example_clips(spec, 4)
    built = build_engine(model, spec, "openvino", precision="int8", calibration=clips)
    assert built.precision == "int8"
    difference = (built(clips) - logits_of(model, clips)).abs().max()
    assert 1e-3 < float(difference / logits_of(model, clips).std()) < 1


@needs_openvino
def test_recognizer_with_an_engine(tiny_model: TinyModel) -> None:
    model = tiny_model("gtdnet_resnet18")
    file = ModelFile(model, spec_of(model))
    views = example_clips(spec_of(model), 6).unflatten(0, (3, 2))
    plain, fast = Recognizer(file, "cpu"), Recognizer(file, "cpu", engine="openvino")
    assert (plain.engine.name, fast.engine.name) == ("torch", "openvino")
    assert (fast.precision, fast.device) == ("fp32", CPU)
    torch.testing.assert_close(fast.scores(views, 4), plain.scores(views, 4), rtol=0, atol=1e-5)
    assert fast.model is plain.model


# -------------------------------------------------------------------------------------- the choice


def test_auto_is_openvino_on_a_cpu_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "find_spec", lambda name: object())
    assert choose("auto", "cpu", "fp32").name == "openvino"
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    assert choose("auto", "cpu", "fp32").name == "torch"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """What "auto" finds."""
    cuda = torch.device("cuda:0")
    monkeypatch.setattr(engine, "resolve_device", lambda name: cuda)
    return cuda


def test_compile_without_triton_is_torch_on_the_gpu(
    gpu: torch.device, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compile, "find_spec", lambda name: None)
    choice = choose("compile", "auto", "fp32")
    assert (choice.name, choice.device) == ("torch", gpu)
    assert capsys.readouterr().err == (
        "engine compile needs Triton on a GPU; install a CUDA build of PyTorch for Linux; engine "
        "torch is used in its place\n"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param(
            "onnx",
            "engine onnx computes on the CPU: this ONNX Runtime has no CUDA; add --device cpu, or "
            "put onnxruntime-gpu in the place of onnxruntime\n",
            marks=needs_onnx,
        ),
        pytest.param("openvino", "", marks=needs_openvino),
    ],
)
def test_what_runs_on_the_cpu_beside_a_gpu(
    name: str,
    message: str,
    gpu: torch.device,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if name == "onnx":
        monkeypatch.setattr("onnxruntime.get_available_providers", list)
    choice = choose(name, "auto", "fp32")
    assert (choice.name, choice.device) == (name, CPU)
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("name", "precision", "message"),
    [
        ("tensorrt", "fp32", "unknown engine 'tensorrt': choose one of auto, torch, compile"),
        ("torch", "fp8", "unknown precision 'fp8': choose one of auto, fp32, bf16, fp16, int8"),
        ("torch", "int8", "engine torch computes in fp32 or bf16 or fp16, not in int8; choose"),
        ("torch", "fp16", "precision 'fp16' needs a GPU"),
        ("onnx", "bf16", "engine onnx computes in fp32, not in bf16; choose one of these"),
        ("openvino", "fp16", "engine openvino computes in fp32 or bf16 or int8, not in fp16"),
    ],
)
def test_what_cannot_be(
    name: str, precision: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "find_spec", lambda name: object())
    with pytest.raises(InputError, match=message):
        choose(name, "cpu", precision)


@pytest.mark.parametrize(("name", "package"), [("onnx", "onnx"), ("openvino", "openvino")])
def test_packages_that_are_missing(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch, tiny_model: TinyModel
) -> None:
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    reason = f'engine {name}: {package} is not installed; get it with: pip install "gtdnet'
    with pytest.raises(InputError, match=reason):
        model = tiny_model("gtdnet_resnet18")
        build_engine(model, spec_of(model), name, device="cpu")


@pytest.mark.parametrize("name", ["openvino", "onnx"])
def test_another_device(name: str) -> None:
    reason = unavailable(name, torch.device("mps"))
    assert reason is not None
    assert reason.endswith("add --device cpu")


@needs_openvino
def test_int8_needs_clips(tiny_model: TinyModel) -> None:
    model = tiny_model("gtdnet_resnet18")
    with pytest.raises(InputError, match=r"int8 needs clips .*gtdnet export --precision int8"):
        build_engine(model, spec_of(model), "openvino", device="cpu", precision="int8")


def test_compile_without_a_compiler_is_torch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_model: TinyModel
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    model = tiny_model("tsn_resnet18", shallow=True)
    built = build_engine(model, spec_of(model), "compile", device="cpu", precision="fp32")
    assert built.name == "torch"
    assert capsys.readouterr().err.startswith(
        "engine compile needs a C++ compiler, and there is none; install g++"
    )


@pytest.mark.skipif(find_spec("openvino") is None, reason="the extra 'export' is not installed")
def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    import subprocess

    program = (
        "import sys, gtdnet, gtdnet.infer.predict; from gtdnet.engines import unavailable;"
        "import torch; unavailable('openvino', torch.device('cpu'));"
        "print([n for n in ('onnx', 'onnxruntime', 'onnxscript', 'openvino', 'nncf')"
        " if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
