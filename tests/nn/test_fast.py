"""The fast path: what the plain form gives, forward and backward, and where it steps aside."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gtdnet.models.build import create_model
from gtdnet.nn import (
    GlobalTemporalDifference,
    TemporalConv2d,
    TemporalShift,
    fast_path,
    insert_temporal,
    temporal_convs,
    temporal_shift,
)
from gtdnet.nn.fast import fast_forward, shift_scaled

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class Block(nn.Module):
    def __init__(self, channels: int, kernel: int, stride: int, bias: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, kernel, stride, kernel // 2, bias=bias)
        self.conv2 = nn.Conv2d(6, 6, 1)


def make_conv(
    kind: str, t: int, *, channels: int = 16, kernel: int = 1, stride: int = 1, bias: bool = False
) -> TemporalConv2d:
    """A convolution in float64 behind a shift, a block, or both."""

    causal = "causal" in kind

    def build(channels: int) -> nn.Module:
        shift = TemporalShift(t, fold_div=4, causal=causal)
        gtd = GlobalTemporalDifference(channels, t, causal=causal)
        parts = {name: part for name, part in (("shift", shift), ("gtd", gtd)) if name in kind}
        return shift if "gtd" not in kind else nn.Sequential(OrderedDict(parts))

    torch.manual_seed(0)
    network = nn.Sequential(Block(channels, kernel, stride, bias)).double()
    insert_temporal(network, build, "0.conv1")
    return temporal_convs(network)[0][1]


def frames(n: int, t: int, format: str = "contiguous", channels: int = 16) -> Tensor:
    x = torch.randn(n * t, channels, 5, 4, dtype=torch.float64)
    return x.to(memory_format=FORMATS[format])


KINDS = ["shift", "gtd", "shift and gtd"]
KINDS += [f"causal {kind}" for kind in KINDS]
CONVS = [(1, 1, False), (1, 1, True), (3, 1, False), (3, 2, True), (1, 2, False)]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("kernel", "stride", "bias"), CONVS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "t"), [(1, 1), (2, 1), (1, 4), (3, 2)])
def test_forward_is_the_plain_form(
    kind: str, kernel: int, stride: int, bias: bool, n: int, t: int, format: str
) -> None:
    conv = make_conv(kind, t, kernel=kernel, stride=stride, bias=bias)
    x = frames(n, t, format)
    with fast_path(False):
        expected = conv(x)
    fast = fast_forward(conv, conv.temporal, x)
    assert fast is not None
    torch.testing.assert_close(fast, expected)
    with torch.inference_mode():
        fast = conv(x)
    torch.testing.assert_close(fast, expected)
    assert fast.is_contiguous(memory_format=FORMATS[format])


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("kernel", "stride", "bias"), CONVS)
@pytest.mark.parametrize("kind", KINDS)
def test_backward_is_the_plain_form(
    kind: str, kernel: int, stride: int, bias: bool, format: str
) -> None:
    conv = make_conv(kind, 3, kernel=kernel, stride=stride, bias=bias)
    x = frames(2, 3, format).requires_grad_()

    def gradients(fast: bool) -> list[Tensor]:
        with fast_path(fast):
            y = conv(x)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        return list(torch.autograd.grad((y * weights).sum(), [x, *conv.parameters()]))

    for fast, plain in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(fast, plain)


@pytest.mark.parametrize("kind", KINDS)
def test_backward_of_single_frames(kind: str) -> None:
    conv = make_conv(kind, 1)
    x = frames(3, 1).requires_grad_()
    fast = torch.autograd.grad(conv(x).square().sum(), x)
    with fast_path(False):
        plain = torch.autograd.grad(conv(x).square().sum(), x)
    torch.testing.assert_close(fast, plain)


def test_a_stream_gets_the_plain_form() -> None:
    """What it remembers is no part of the fast one."""
    conv = make_conv("causal shift and gtd", 1)
    x = frames(2, 1)
    assert fast_forward(conv, conv.temporal, x) is not None
    conv.temporal.get_submodule("gtd.past").recall()  # type: ignore[operator]
    assert fast_forward(conv, conv.temporal, x) is None


def test_frozen_inputs_and_weights() -> None:
    conv = make_conv("shift and gtd", 2)
    conv.weight.requires_grad_(False)
    x = frames(2, 2)
    conv(x).sum().backward()
    assert conv.weight.grad is None
    fast = [p.grad for p in conv.parameters() if p.grad is not None]
    conv.zero_grad()
    with fast_path(False):
        conv(x).sum().backward()
    plain = [p.grad for p in conv.parameters() if p.grad is not None]
    assert len(fast) == len(plain) == 16
    for a, b in zip(fast, plain, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("wanted", ["x", "weight", "gate", "x and weight", "x and gate"])
def test_gradients_of_some_alone(wanted: str, kernel: int) -> None:
    """The passes of convolution and pooling share work, whichever of them are asked for."""
    conv = make_conv("shift and gtd", 2, kernel=kernel)
    x = frames(2, 2).requires_grad_()
    gate = conv.get_parameter("temporal.gtd.expand.weight")
    sources = {"x": x, "weight": conv.weight, "gate": gate}
    inputs = [sources[word] for word in wanted.split(" and ")]

    def gradients(fast: bool) -> list[Tensor]:
        with fast_path(fast):
            y = conv(x)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        loss = (y * weights).sum()
        first = torch.autograd.grad(loss, inputs, retain_graph=True)
        return [*first, *torch.autograd.grad(loss, inputs)]  # the graph is there for a second time

    for fast, plain in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(fast, plain)


def test_checkpointed_and_accumulated_gradients() -> None:
    conv = make_conv("shift and gtd", 2)
    x = frames(2, 2).requires_grad_()
    conv(x).square().sum().backward()
    wanted = [x.grad, *(p.grad for p in conv.parameters())]
    twice = [2 * g for g in wanted if g is not None]
    torch.utils.checkpoint.checkpoint(conv, x, use_reentrant=False).square().sum().backward()
    for got, expected in zip([x.grad, *(p.grad for p in conv.parameters())], twice, strict=True):
        torch.testing.assert_close(got, expected)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 3), t=st.integers(1, 5), fold=st.integers(0, 4), seed=st.integers(0, 99))
def test_one_pass_is_shift_then_gain(n: int, t: int, fold: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n * t, 9, 2, 3, generator=generator)
    gain = 1 + torch.rand(n * t, 9, generator=generator)
    shifted = x if fold == 0 else temporal_shift(x[:, : 2 * fold], t, 2)
    shifted = torch.cat([shifted, x[:, 2 * fold :]], 1) if fold else x
    assert torch.equal(shift_scaled(x, None, t, fold), shifted)
    scaled = shift_scaled(x, gain, t, fold)
    assert torch.equal(scaled, shifted * gain[..., None, None])


def test_nothing_but_the_input_is_kept_for_the_backward_pass() -> None:
    conv = make_conv("shift and gtd", 4, kernel=3)
    x = frames(2, 4).requires_grad_()

    def kept(fast: bool) -> int:
        """Numbers kept that are not the input's or a weight's."""
        own = {t.data_ptr() for t in (x, *conv.parameters())}
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            if tensor.data_ptr() not in own:
                sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept), fast_path(fast):
            conv(x)
        return sum(sizes.values())

    assert kept(False) > 2 * x.numel()
    assert kept(True) < x.numel()  # vectors per frame: the test's frames are of 5 x 4 pixels


def test_autocast_gives_the_plain_forms_type_and_nearly_its_values() -> None:
    model = create_model("gtdnet_resnet50", 5, num_segments=4, width=0.25).eval()
    clip = torch.randn(2, 4, 3, 32, 32)
    with torch.inference_mode():
        exact = model(clip)
        with torch.autocast("cpu", torch.bfloat16):
            fast = model(clip)
            with fast_path(False):
                plain = model(clip)
    assert fast.dtype == plain.dtype == torch.bfloat16
    spread = exact.std()
    assert (fast.float() - exact).abs().max() < 2 * (
        plain.float() - exact
    ).abs().max() + spread / 50


@pytest.mark.parametrize("name", ["gtdnet_resnet18", "gtdnet_resnet50", "tsm_resnet50"])
@pytest.mark.parametrize("format", FORMATS)
def test_networks_agree(name: str, format: str) -> None:
    model = create_model(name, 5, num_segments=4, width=0.25).double().eval()
    clip = torch.randn(2, 4, 3, 32, 32, dtype=torch.float64)
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.to(memory_format=FORMATS[format])
    with torch.inference_mode():
        fast = model(clip)
        with fast_path(False):
            plain = model(clip)
    torch.testing.assert_close(fast, plain)


def test_hooks_get_the_plain_form() -> None:
    conv = make_conv("shift and gtd", 2)
    x = frames(1, 2)
    assert fast_forward(conv, conv.temporal, x) is not None
    shift, gtd = conv.temporal.children()
    seen: list[nn.Module] = []
    for module in (conv.temporal, shift, gtd):
        seen.clear()
        handle = module.register_forward_hook(lambda m, args, output: seen.append(m))
        assert fast_forward(conv, conv.temporal, x) is None
        conv(x)
        assert seen == [module]
        handle.remove()
    for register in (gtd.register_full_backward_hook, gtd.register_full_backward_pre_hook):
        handle = register(lambda *_: None)
        assert fast_forward(conv, conv.temporal, x) is None
        handle.remove()
    assert fast_forward(conv, conv.temporal, x) is not None


class Detached(nn.Linear):
    """A map whose input is cut off from the backward pass."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.detach())


class WithoutGradient(nn.Linear):
    @torch.no_grad()
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("child", ["reduce", "difference", "expand"])
@pytest.mark.parametrize("kind", [Detached, WithoutGradient])
def test_a_gate_that_is_cut_off_leaves_the_features_gradient(
    kind: type[nn.Linear], child: str, kernel: int
) -> None:
    conv = make_conv("shift and gtd", 2, kernel=kernel)
    conv.get_submodule(f"temporal.gtd.{child}").__class__ = kind
    x = frames(2, 2).requires_grad_()
    found = []
    for fast in (True, False):
        with fast_path(fast):
            y = conv(x)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        inputs = [x, *conv.parameters()]
        found.append(torch.autograd.grad((y * weights).sum(), inputs, allow_unused=True))
    for fast, plain in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain)


def test_what_is_looked_on_or_changed_on_an_instance_gets_the_plain_form() -> None:
    x = frames(1, 2)
    conv = make_conv("shift and gtd", 2)
    gtd = conv.get_submodule("temporal.gtd")
    handle = conv.get_submodule("temporal.gtd.reduce").register_forward_hook(lambda *_: None)
    assert fast_forward(conv, conv.temporal, x) is None
    handle.remove()
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert fast_forward(conv, conv.temporal, x) is None
    handle.remove()
    assert fast_forward(conv, conv.temporal, x) is not None
    for name in ("forward", "gate"):
        setattr(gtd, name, getattr(gtd, name))
        assert fast_forward(conv, conv.temporal, x) is None
        delattr(gtd, name)
    assert fast_forward(conv, conv.temporal, x) is not None


def test_hooks_on_parameters_run_once() -> None:
    found = []
    for fast in (True, False):
        conv = make_conv("shift and gtd", 2)
        x = torch.linspace(-1, 1, 2 * 16 * 4, dtype=torch.float64).view(2, 16, 2, 2)
        calls: list[Tensor] = []

        def double(grad: Tensor, calls: list[Tensor] = calls) -> Tensor:
            calls.append(grad)
            return 2 * grad

        for parameter in conv.parameters():
            parameter.register_hook(double)
        with fast_path(fast):
            conv(x.requires_grad_()).square().sum().backward()
        assert len(calls) == len(list(conv.parameters()))
        found.append([parameter.grad for parameter in conv.parameters()])
    for fast, plain in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain)


def test_checkpointing_computes_once_more_and_no_oftener() -> None:
    convs = nn.Sequential(*(make_conv("shift and gtd", 2, channels=6) for _ in range(3)))
    calls: list[int] = []

    def network(x: Tensor) -> Tensor:
        calls.append(1)
        return convs(x)

    x = frames(1, 2, channels=6).requires_grad_()
    torch.utils.checkpoint.checkpoint(network, x, use_reentrant=False).sum().backward()
    assert len(calls) == 2


@pytest.mark.parametrize("aggregation", ["avg", "mta", "lstm", "bilstm"])
def test_every_aggregation_gets_its_gradients(aggregation: str) -> None:
    found = []
    for fast in (True, False):
        torch.manual_seed(0)
        network = nn.Sequential(Block(16, 1, 1, False)).double()
        insert_temporal(
            network, lambda c: GlobalTemporalDifference(c, 3, 4, aggregation), "*.conv1"
        )
        conv = temporal_convs(network)[0][1]
        x = torch.linspace(-1, 1, 6 * 16 * 4, dtype=torch.float64).view(6, 16, 2, 2)
        with fast_path(fast):
            conv(x.requires_grad_()).square().sum().backward()
        found.append([x.grad, *(parameter.grad for parameter in conv.parameters())])
    for fast, plain in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain)


def test_a_second_backward_pass_over_a_kept_graph() -> None:
    conv = make_conv("shift and gtd", 2)
    x = frames(1, 2).requires_grad_()
    y = conv(x).square().sum()
    first = torch.autograd.grad(y, [x, *conv.parameters()], retain_graph=True)
    for once, again in zip(first, torch.autograd.grad(y, [x, *conv.parameters()]), strict=True):
        torch.testing.assert_close(once, again)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_torch_func_gets_the_plain_form() -> None:
    conv = make_conv("shift and gtd", 2)
    clips = torch.stack([frames(1, 2), frames(1, 2)])
    weights: dict[str, Tensor] = dict(conv.named_parameters())

    def loss(weights: dict[str, Tensor], clip: Tensor) -> Tensor:
        return torch.func.functional_call(conv, weights, clip).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, clips)
    for clip, weight in zip(clips, found["weight"], strict=True):
        conv.zero_grad()
        loss(weights, clip).backward()
        torch.testing.assert_close(weight, conv.weight.grad)


def test_other_modules_and_subclasses_get_their_own_forward() -> None:
    class Louder(TemporalShift):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    x = frames(1, 2)
    for temporal in (Louder(2, 4), nn.Sequential(TemporalShift(2, 4), nn.ReLU()), nn.Identity()):
        conv = make_conv("shift", 2)
        conv.temporal = temporal
        assert fast_forward(conv, conv.temporal, x) is None
        expected = torch.nn.functional.conv2d(temporal(x), conv.weight)
        torch.testing.assert_close(conv(x), expected)


def test_compiled_and_exported_networks_have_the_plain_form() -> None:
    conv = make_conv("shift and gtd", 2)
    x = frames(2, 2)
    with torch.no_grad():
        program: Any = torch.export.export(conv, (x,)).module()
        torch.testing.assert_close(program(x), conv(x))
        compiled = torch.compile(conv, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), conv(x))


@pytest.mark.parametrize("fast", [True, False])
def test_frames_that_make_no_clips_are_refused(fast: bool) -> None:
    conv = make_conv("shift and gtd", 4)
    with fast_path(fast), pytest.raises(ValueError, match="multiple of num_segments=4"):
        conv(frames(1, 3))
