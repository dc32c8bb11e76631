"""The temporal adaptive module against a plain float64 recomputation of its formulas, and more."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gtdnet.models import create_model
from gtdnet.nn import TemporalAdaptiveModule, temporal_convs


def make_module(
    channels: int = 6, num_segments: int = 3, alpha: int = 2, beta: int = 4
) -> TemporalAdaptiveModule:
    """Random weights, norm statistics as of a trained network, in eval mode, in float64."""
    generator = torch.Generator().manual_seed(0)
    module = TemporalAdaptiveModule(channels, num_segments, alpha=alpha, beta=beta).double().eval()
    for key, value in module.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.is_floating_point():
            value.normal_(generator=generator)
    return module


def make_clips(clips: int = 2, num_segments: int = 3, channels: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(
        clips * num_segments, channels, 4, 3, generator=generator, dtype=torch.float64
    )
    level = torch.randn(clips * num_segments, channels, 1, 1, generator=generator)
    return noise + level  # frames and channels differ in their means, which is all the gates see


def norm(w: dict[str, np.ndarray], name: str, unit: int, value: float) -> float:
    scale = w[f"{name}.weight"][unit] / math.sqrt(w[f"{name}.running_var"][unit] + 1e-5)
    return (value - w[f"{name}.running_mean"][unit]) * scale + w[f"{name}.bias"][unit]


def expected(
    module: TemporalAdaptiveModule, clip: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One clip [T, C, H, W] by loops over the formulas: Y, the importances V, the kernels Theta."""
    w = {key: value.numpy() for key, value in module.state_dict().items()}
    frames, channels = clip.shape[:2]
    phi = clip.mean(axis=(2, 3)).T  # [C, T]

    importance = np.zeros((channels, frames))
    for t in range(frames):
        hidden = []
        for d, kernel in enumerate(w["local.squeeze.weight"]):  # [C, 3]
            total = sum(
                kernel[c, k] * phi[c, t + k - 1]
                for c in range(channels)
                for k in range(3)
                if 0 <= t + k - 1 < frames
            )
            hidden.append(max(0.0, norm(w, "local.norm", d, total)))
        for c in range(channels):
            total = sum(w["local.expand.weight"][c, d, 0] * h for d, h in enumerate(hidden))
            importance[c, t] = 1 / (1 + math.exp(-total))

    kernels = np.zeros((channels, 3))
    for c in range(channels):
        hidden = [
            max(0.0, norm(w, "adaptive.norm", u, sum(row[t] * phi[c, t] for t in range(frames))))
            for u, row in enumerate(w["adaptive.spread.weight"])
        ]
        scores = [sum(r * h for r, h in zip(row, hidden, strict=True))
                  for row in w["adaptive.collect.weight"]]  # fmt: skip
        total = sum(math.exp(s) for s in scores)
        kernels[c] = [math.exp(s) / total for s in scores]

    y = np.zeros_like(clip)
    for t in range(frames):
        for c in range(channels):
            for k in (-1, 0, 1):
                if 0 <= t + k < frames:
                    y[t, c] += kernels[c, k + 1] * importance[c, t + k] * clip[t + k, c]
    return y, importance, kernels


@pytest.mark.parametrize(
    ("channels", "num_segments", "alpha", "beta"),
    [(6, 3, 2, 4), (8, 4, 1, 2), (3, 2, 3, 4), (5, 1, 2, 2)],
)
def test_module_equals_the_formulas(
    channels: int, num_segments: int, alpha: int, beta: int
) -> None:
    module = make_module(channels, num_segments, alpha, beta)
    x = make_clips(2, num_segments, channels)
    outputs, importances, kernels = zip(
        *(expected(module, clip.numpy()) for clip in x.split(num_segments)), strict=True
    )
    assert np.std(importances) > 0.02  # both do differ, else the comparison would say little
    assert np.std(kernels, axis=(0, 1)).max() > 0.02
    wanted = np.concatenate(outputs)
    np.testing.assert_allclose(module(x).detach().numpy(), wanted, rtol=0, atol=1e-12)
    single = module.float()(x.float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.detach().numpy(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_gradients_of_input_and_weights(training: bool) -> None:
    module = make_module(4, 2).train(training)
    names = [name for name, _ in module.named_parameters()]
    values = [p.detach().requires_grad_() for p in module.parameters()]
    x = make_clips(2, 2, 4).requires_grad_()

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *values))


def test_kernels_are_averages_of_each_channel_and_clip() -> None:
    module, x = make_module(), make_clips()
    phi = x.unflatten(0, (2, 3)).mean(dim=(3, 4)).transpose(1, 2)
    theta = module.adaptive(phi)
    assert theta.shape == (2, 6, 3)
    assert (theta > 0).all()
    torch.testing.assert_close(theta.sum(-1), torch.ones(2, 6).double())
    importance = module.local(phi)
    assert importance.shape == (2, 6, 3)
    assert (importance > 0).all()
    assert (importance < 1).all()


def test_kernel_order_is_previous_present_next() -> None:
    # Scores (0, 0, large): all from the next frame; importances of 1/2.
    module = make_module()
    nn.init.zeros_(module.local.expand.weight)
    nn.init.zeros_(module.adaptive.spread.weight)
    nn.init.ones_(module.adaptive.norm.bias)
    nn.init.zeros_(module.adaptive.norm.running_mean)  # type: ignore[arg-type]
    nn.init.zeros_(module.adaptive.collect.weight)
    nn.init.constant_(module.adaptive.collect.weight[2], 100)
    x = make_clips()
    frame_1, frame_2, frame_3 = x[:3]
    wanted = torch.stack([frame_2 / 2, frame_3 / 2, torch.zeros_like(frame_1)])
    torch.testing.assert_close(module(x)[:3], wanted)


def test_clips_of_a_batch_do_not_see_each_other() -> None:
    module, x = make_module(), make_clips(clips=3)
    alone = torch.cat([module(clip) for clip in x.split(3)])
    torch.testing.assert_close(module(x), alone, rtol=0, atol=1e-12)


def test_order_of_the_frames_matters() -> None:
    module, x = make_module(), make_clips(1)
    assert (module(x.flip(0)).flip(0) - module(x)).abs().max() > 1e-3


def test_input_is_not_changed_and_memory_format_does_not_matter() -> None:
    module, x = make_module(), make_clips()
    kept = x.clone()
    plain = module(x)
    assert torch.equal(x, kept)
    channels_last = module(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(channels_last, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("channels", "num_segments", "reduced"), [(64, 8, 16), (512, 16, 128), (3, 1, 1)]
)
def test_names_and_shapes_of_the_tensors(channels: int, num_segments: int, reduced: int) -> None:
    module = TemporalAdaptiveModule(channels, num_segments)
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    hidden = 2 * num_segments
    norms = ("weight", "bias", "running_mean", "running_var")
    assert shapes == {
        "local.squeeze.weight": (reduced, channels, 3),
        **{f"local.norm.{name}": (reduced,) for name in norms},
        "local.norm.num_batches_tracked": (),
        "local.expand.weight": (channels, reduced, 1),
        "adaptive.spread.weight": (hidden, num_segments),
        **{f"adaptive.norm.{name}": (hidden,) for name in norms},
        "adaptive.norm.num_batches_tracked": (),
        "adaptive.collect.weight": (3, hidden),
    }


@pytest.mark.parametrize("frames", [7, 9, 1])
def test_wrong_number_of_frames_names_both_numbers(frames: int) -> None:
    with pytest.raises(ValueError, match=rf"num_segments=8\b.* got {frames}$"):
        TemporalAdaptiveModule(4, 8)(torch.zeros(frames, 4, 2, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 0}, "channels must be at least 1, got 0"),
        ({"num_segments": 0}, "num_segments must be .* at least 1, got 0"),
        ({"alpha": 0}, "alpha must be at least 1, got 0"),
        ({"beta": 0}, "beta must be at least 1, got 0"),
    ],
)
def test_bad_arguments(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TemporalAdaptiveModule(**{"channels": 8, "num_segments": 4, **arguments})


@pytest.mark.parametrize(("depth", "blocks"), [(18, 8), (50, 16)])
def test_module_is_between_the_first_activation_and_the_second_convolution(
    depth: int, blocks: int
) -> None:
    model = create_model(f"tanet_resnet{depth}", 5, 4, width=0.125).eval()
    convs = temporal_convs(model.backbone)
    assert len(convs) == blocks
    seen: list[Tensor] = []
    for name, conv in convs:
        assert name.endswith(".conv2")
        assert isinstance(conv.temporal, TemporalAdaptiveModule)
        conv.temporal.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(torch.randn(1, 4, 3, 32, 32))
    assert len(seen) == blocks
    assert all((x >= 0).all() for x in seen)


def test_network_has_the_published_size() -> None:
    with torch.device("meta"):
        model = create_model("tanet_resnet50", 400)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == 25.6
