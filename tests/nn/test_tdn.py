"""TDN's two modules against plain loops over their formulas, and what follows from the formulas."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gtdnet.nn import LongTermDifference, ShortTermDifference

T = 3
Array = np.ndarray


def randomise(module: nn.Module) -> None:
    """Weights large enough to matter, norms as of a trained network."""
    generator = torch.Generator().manual_seed(0)
    for key, value in module.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 2, generator=generator)
        elif value.is_floating_point():
            value.normal_(std=0.5, generator=generator)


def long_term(channels: int = 6, num_segments: int = T, reduction: int = 2) -> LongTermDifference:
    module = LongTermDifference(channels, num_segments, reduction).double().eval()
    randomise(module)
    return module


def short_term(appearance: float = 0.5) -> ShortTermDifference:
    module = ShortTermDifference(
        nn.Conv2d(3, 2, 7, 2, 3, bias=False),
        nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)),
        appearance,
    )
    randomise(module)
    return module.double().eval()


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


# ------------------------------------------------------------------- the formulas, written as loops


def weights_of(module: nn.Module) -> dict[str, Array]:
    return {k: v.detach().double().numpy() for k, v in module.state_dict().items()}


def convolve(x: Array, weight: Array, stride: int = 1, depthwise: bool = False) -> Array:
    """[C, H, W] -> [C', H', W'], as much zero padding as keeps the size at stride 1."""
    (c, h, w), (out, _, k, _) = x.shape, weight.shape
    pad = k // 2
    y = np.zeros((out, (h + 2 * pad - k) // stride + 1, (w + 2 * pad - k) // stride + 1))
    for o, i, j in product(*map(range, y.shape)):
        for n, a, b in product(range(1 if depthwise else c), range(k), range(k)):
            row, column = i * stride + a - pad, j * stride + b - pad
            if 0 <= row < h and 0 <= column < w:
                y[o, i, j] += weight[o, n, a, b] * x[o if depthwise else n, row, column]
    return y


def normalise(x: Array, weights: dict[str, Array], name: str) -> Array:
    y = np.empty_like(x)
    for c in range(len(x)):
        scale = weights[f"{name}.weight"][c] / math.sqrt(weights[f"{name}.running_var"][c] + 1e-5)
        y[c] = (x[c] - weights[f"{name}.running_mean"][c]) * scale + weights[f"{name}.bias"][c]
    return y


def halve(x: Array) -> Array:
    """Means over 2x2, a last odd row or column left out; an axis of one pixel stays as it is."""
    c, h, w = x.shape
    p, q = min(2, h), min(2, w)
    y = np.empty((c, h // p, w // q))
    for n, i, j in product(*map(range, y.shape)):
        y[n, i, j] = x[n, i * p : i * p + p, j * q : j * q + q].mean()
    return y


def upsample(x: Array, height: int, width: int) -> Array:
    c, h, w = x.shape
    y = np.empty((c, height, width))
    for n, i, j in product(*map(range, y.shape)):
        y[n, i, j] = x[n, i * h // height, j * w // width]
    return y


def max_pool(x: Array) -> Array:
    """3x3, stride 2, padding 1."""
    c, h, w = x.shape
    y = np.empty((c, (h - 1) // 2 + 1, (w - 1) // 2 + 1))
    for n, i, j in product(*map(range, y.shape)):
        y[n, i, j] = x[n, max(0, 2 * i - 1) : 2 * i + 2, max(0, 2 * j - 1) : 2 * j + 2].max()
    return y


def loop_gate(d: Array, w: dict[str, Array]) -> Array:
    coarse = normalise(convolve(halve(d), w["conv3_smallscale2.weight"]), w, "bn3_smallscale2")
    fine = normalise(convolve(d, w["conv3_smallscale4.weight"]), w, "bn3_smallscale4")
    scales = (d + upsample(coarse, *d.shape[1:]) + fine) / 3
    expanded = normalise(convolve(scales, w["conv3.weight"]), w, "bn3")
    return 1 / (1 + np.exp(-expanded)) - 0.5


def loop_long_term(module: LongTermDifference, clip: Array) -> Array:
    """[T, C, H, W] -> [T, C, H, W]."""
    w = weights_of(module)
    b = [normalise(convolve(x, w["conv1.weight"]), w, "bn1") for x in clip]
    k = [convolve(frame, w["conv2.weight"], depthwise=True) for frame in b]
    out = np.empty_like(clip)
    for t in range(len(clip)):
        f = k[t + 1] - b[t] if t + 1 < len(clip) else np.zeros_like(b[t])
        g = k[t - 1] - b[t] if t > 0 else np.zeros_like(b[t])
        out[t] = clip[t] + clip[t] * (loop_gate(f, w) + loop_gate(g, w)) / 2
    return out


@pytest.mark.parametrize("size", [(4, 6), (5, 3), (7, 2), (1, 5), (1, 1)])
def test_long_term_is_the_formula(size: tuple[int, int]) -> None:
    module, x = long_term(), noise(2 * T, 6, *size)
    wanted = [loop_long_term(module, clip.numpy()) for clip in x.unflatten(0, (2, T))]
    torch.testing.assert_close(module(x), torch.from_numpy(np.concatenate(wanted)))


@pytest.mark.parametrize("num_segments", [1, 2, 5])
def test_long_term_is_the_formula_at_any_number_of_segments(num_segments: int) -> None:
    module, x = long_term(num_segments=num_segments), noise(num_segments, 6, 3, 4)
    torch.testing.assert_close(module(x), torch.from_numpy(loop_long_term(module, x.numpy())))


@pytest.mark.parametrize("size", [(16, 16), (18, 21), (9, 30)])
def test_short_term_is_the_formula(size: tuple[int, int]) -> None:
    module, segments = short_term(), noise(2, 5, 3, *size)
    h_1, h_2 = module(segments)
    w = weights_of(module)
    for n, i in enumerate(segments.numpy()):
        d = halve(np.concatenate([i[1] - i[0], i[2] - i[1], i[3] - i[2], i[4] - i[3]]))
        stem = normalise(convolve(d, w["conv.weight"], stride=2), w, "bn")
        first = max_pool(np.maximum(stem, 0))
        second = normalise(convolve(first, w["layer1.0.weight"]), w, "layer1.1")
        torch.testing.assert_close(h_1[n], torch.from_numpy(first))
        torch.testing.assert_close(h_2[n], torch.from_numpy(second))


@pytest.mark.parametrize("appearance", [0.0, 0.25, 1.0])
def test_fusion_is_the_formula(appearance: float) -> None:
    x, h = noise(2, 3, 7, 6), noise(2, 3, 3, 4) + 1
    fused = short_term(appearance).fuse(x, h)
    for n in range(2):
        wanted = appearance * x[n].numpy() + (1 - appearance) * upsample(h[n].numpy(), 7, 6)
        torch.testing.assert_close(fused[n], torch.from_numpy(wanted))


# ------------------------------------------------------------------- what follows from the formulas


def test_gate_stays_within_a_half() -> None:
    x = noise(2 * T, 6, 5, 4)
    factor = long_term()(x) / x
    assert factor.min() > 0.5
    assert factor.max() < 1.5
    assert factor.std() > 0.05


def test_a_segment_sees_its_neighbours_in_its_own_clip_only() -> None:
    module, x = long_term(num_segments=5), noise(10, 6, 4, 4)
    changed = x.clone()
    changed[3] += 1
    differs = (module(changed) - module(x)).abs().amax(dim=(1, 2, 3)) > 1e-6
    assert differs.tolist() == [False, False, True, True, True] + [False] * 5
    changed = x.clone()
    changed[4] += 1  # the first clip's last segment
    differs = (module(changed) - module(x)).abs().amax(dim=(1, 2, 3)) > 1e-6
    assert differs.tolist() == [False, False, False, True, True] + [False] * 5


def test_long_term_of_the_reversed_clip_is_the_reversed_one() -> None:
    """The formula treats both directions alike; the code's first release did not."""
    module, x = long_term(), noise(T, 6, 5, 4)
    torch.testing.assert_close(module(x.flip(0)), module(x).flip(0))


def test_short_term_sees_differences_alone() -> None:
    module, segments = short_term(), noise(2, 5, 3, 16, 16)
    for got, wanted in zip(
        module(segments + noise(2, 1, 3, 16, 16)), module(segments), strict=True
    ):
        torch.testing.assert_close(got, wanted)
    for got, wanted in zip(module(segments.flip(1)), module(segments), strict=True):
        assert (got - wanted).abs().max() > 1e-3


def test_segments_do_not_mix() -> None:
    module, segments = short_term(), noise(2, 5, 3, 16, 16)
    changed = segments.clone()
    changed[1] = changed[1].flip(0)
    for got, wanted in zip(module(changed), module(segments), strict=True):
        assert torch.equal(got[0], wanted[0])
        assert (got[1] - wanted[1]).abs().max() > 1e-3


def test_short_term_starts_from_the_networks_first_weights() -> None:
    conv1, layer1 = nn.Conv2d(3, 2, 7, 2, 3, bias=False), nn.Conv2d(2, 4, 1)
    kept = layer1.weight.detach().clone()
    module = ShortTermDifference(conv1, layer1, 0.5)
    assert module.conv.weight.shape == (2, 12, 7, 7)
    for channel in range(12):
        torch.testing.assert_close(module.conv.weight[:, channel], conv1.weight.mean(1))
    nn.init.zeros_(layer1.weight)
    assert torch.equal(module.state_dict()["layer1.weight"], kept)


def test_long_term_starts_as_its_authors() -> None:
    """normal(0, sqrt(2 / (k^2 C_out))) in each convolution, whatever its number of inputs."""
    torch.manual_seed(0)
    module = LongTermDifference(1024, T, reduction=8)
    convolutions = {k: m for k, m in module.named_children() if isinstance(m, nn.Conv2d)}
    assert len(convolutions) == 5
    for key, layer in convolutions.items():
        wanted = math.sqrt(2 / (layer.kernel_size[0] ** 2 * layer.out_channels))
        weight = layer.weight.detach() / wanted
        n = weight.numel()  # five standard deviations of each figure
        assert abs(float(weight.mean())) < 5 / math.sqrt(n), key
        assert abs(float(weight.std()) - 1) < 5 / math.sqrt(2 * n), key
        assert abs(float((weight**4).mean()) - 3) < 5 * math.sqrt(96 / n), key  # normal: 3


def assert_gradients_everywhere(module: nn.Module, x: Tensor, loss: Tensor) -> None:
    loss.backward()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None, key
        assert (parameter.grad != 0).all(), key
    assert x.grad is not None
    assert x.grad.flatten(2).any(dim=2).all()


def test_gradients_reach_every_parameter() -> None:
    module, x = long_term(), noise(2 * T, 6, 5, 4).requires_grad_()
    assert_gradients_everywhere(module, x, module(x).square().sum())


def test_gradients_reach_every_parameter_of_the_short_term() -> None:
    module, x = short_term(), noise(2, 5, 3, 48, 48).requires_grad_()
    h_1, h_2 = module(x)
    assert_gradients_everywhere(module, x, h_1.square().sum() + h_2.square().sum())


def test_few_channels_leave_one() -> None:
    assert LongTermDifference(8, T).conv1.weight.shape == (1, 8, 1, 1)
    assert LongTermDifference(128, T).conv1.weight.shape == (8, 128, 1, 1)


# ---------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 8), "channels must be at least 1, got 0"),
        ((8, 0), "num_segments must be a whole number of at least 1, got 0"),
        ((8, 8, 0), "reduction must be at least 1, got 0"),
    ],
)
def test_bad_arguments(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LongTermDifference(*arguments)


@pytest.mark.parametrize("appearance", [-0.1, 1.1, math.nan])
def test_bad_appearance(appearance: float) -> None:
    with pytest.raises(ValueError, match=f"appearance must be from 0 to 1, got {appearance}"):
        short_term(appearance)


def test_bad_inputs() -> None:
    with pytest.raises(ValueError, match="expected a multiple of num_segments=3 frames"):
        long_term()(noise(4, 6, 2, 2))
    for shape in ((10, 3, 16, 16), (2, 4, 3, 16, 16), (2, 5, 1, 16, 16)):
        with pytest.raises(
            ValueError, match=r"expected segments of 5 frames as \[N\*T, 5, 3, H, W"
        ):
            short_term()(noise(*shape))
