"""The ACTION module against a plain float64 recomputation of its formulas, and what follows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gtdnet.models import create_model
from gtdnet.nn import Action, temporal_convs, temporal_shift


def make_module(channels: int = 6, num_segments: int = 3, reduction: int = 2) -> Action:
    """Random weights, norm statistics as of a trained network, in eval mode, in float64."""
    generator = torch.Generator().manual_seed(0)
    module = Action(channels, num_segments, reduction=reduction).double().eval()
    for key, value in module.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.is_floating_point():
            value.normal_(std=0.7, generator=generator)
    return module


def make_clips(clips: int = 2, num_segments: int = 3, channels: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(
        clips * num_segments, channels, 4, 3, generator=generator, dtype=torch.float64
    )


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def expected(module: Action, clip: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """One clip [T, C, H, W] by loops over the formulas: the output, and the three gates."""
    w = {key: value.numpy() for key, value in module.state_dict().items()}
    frames, channels, height, width = clip.shape
    reduced = w["channel.squeeze.weight"].shape[0]

    def at(maps: np.ndarray, *index: int) -> float:  # zero beyond every edge
        inside = all(0 <= i < n for i, n in zip(index, maps.shape, strict=True))
        return float(maps[index]) if inside else 0.0

    x = np.zeros_like(clip)
    for t, c, i, j in np.ndindex(*clip.shape):
        x[t, c, i, j] = sum(
            w["shift.weight"][c, 0, k] * at(clip, t + k - 1, c, i, j) for k in range(3)
        )

    mean = x.mean(axis=1)
    spatio_temporal = np.zeros((frames, 1, height, width))
    for t, i, j in np.ndindex(frames, height, width):
        total = sum(
            w["spatio_temporal.conv.weight"][0, 0, a, b, c]
            * at(mean, t + a - 1, i + b - 1, j + c - 1)
            for a, b, c in np.ndindex(3, 3, 3)
        )
        spatio_temporal[t, 0, i, j] = sigmoid(total)

    pooled = x.mean(axis=(2, 3))  # [T, C]
    squeezed = pooled @ w["channel.squeeze.weight"][:, :, 0, 0].T  # [T, D]
    channel = np.zeros((frames, channels, 1, 1))
    for t in range(frames):
        hidden = [
            max(0.0, sum(
                w["channel.conv.weight"][d, e, k] * at(squeezed, t + k - 1, e)
                for e in range(reduced) for k in range(3)
            ))
            for d in range(reduced)
        ]  # fmt: skip
        for c in range(channels):
            channel[t, c] = sigmoid(float(w["channel.expand.weight"][c, :, 0, 0] @ hidden))

    features = np.einsum("dc,tcij->tdij", w["motion.squeeze.weight"][:, :, 0, 0], x)
    for d in range(reduced):
        scale = w["motion.bn.weight"][d] / math.sqrt(w["motion.bn.running_var"][d] + 1e-5)
        features[:, d] = (features[:, d] - w["motion.bn.running_mean"][d]) * scale
        features[:, d] += w["motion.bn.bias"][d]
    motion = np.full((frames, channels, 1, 1), 0.5)  # that of the last frame
    for t in range(frames - 1):
        difference = np.zeros(reduced)
        for d, i, j in np.ndindex(reduced, height, width):
            following = sum(
                w["motion.conv.weight"][d, 0, a, b] * at(features, t + 1, d, i + a - 1, j + b - 1)
                for a, b in np.ndindex(3, 3)
            )
            difference[d] += (following - features[t, d, i, j]) / (height * width)
        for c in range(channels):
            motion[t, c] = sigmoid(float(w["motion.expand.weight"][c, :, 0, 0] @ difference))

    gates = [spatio_temporal, channel, motion]
    return np.sum([x * gate + x for gate in gates], axis=0), gates


@pytest.mark.parametrize(
    ("channels", "num_segments", "reduction"), [(6, 3, 2), (5, 4, 16), (8, 2, 3), (4, 1, 2)]
)
def test_module_equals_the_formulas(channels: int, num_segments: int, reduction: int) -> None:
    module = make_module(channels, num_segments, reduction)
    x = make_clips(2, num_segments, channels)
    clips = [expected(module, clip.numpy()) for clip in x.split(num_segments)]
    wanted = np.concatenate([output for output, _ in clips])
    for gates in zip(*(gates for _, gates in clips), strict=True):
        if num_segments > 1:
            assert np.concatenate(gates).std() > 0.02  # else the comparison would say little
    np.testing.assert_allclose(module(x).detach().numpy(), wanted, rtol=0, atol=1e-12)
    single = module.float()(x.float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.detach().numpy(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_gradients_of_input_and_weights(training: bool) -> None:
    module = make_module(4, 2, 2).train(training)
    names = [name for name, _ in module.named_parameters()]
    values = [p.detach().requires_grad_() for p in module.parameters()]
    x = make_clips(2, 2, 4).requires_grad_()

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *values))


def test_starts_as_the_temporal_shift_under_three_gates() -> None:
    torch.manual_seed(0)
    module = Action(32, 4)
    x = torch.randn(8, 32, 5, 5)
    for path in (module.spatio_temporal.conv, module.channel.expand, module.motion.expand):
        nn.init.zeros_(path.weight)  # every gate is 1/2
    torch.testing.assert_close(module(x), 4.5 * temporal_shift(x, 4, 8))


def test_every_path_enhances_between_one_and_two_times() -> None:
    module, x = make_module(), make_clips()
    shifted = module.shift(x)
    factor = module(x) / shifted
    assert (factor > 3).all()
    assert (factor < 6).all()
    assert module.spatio_temporal(shifted).shape == (6, 1, 4, 3)
    assert module.channel(shifted).shape == module.motion(shifted).shape == (6, 6, 1, 1)


def test_motion_of_a_still_clip_under_a_kernel_that_changes_nothing() -> None:
    module = make_module().motion
    nn.init.dirac_(module.conv.weight, groups=3)
    still = make_clips()[:1].repeat(3, 1, 1, 1)
    torch.testing.assert_close(module(still), torch.full((3, 6, 1, 1), 0.5).double())


def test_clips_of_a_batch_do_not_see_each_other() -> None:
    module, x = make_module(), make_clips(clips=3)
    alone = torch.cat([module(clip) for clip in x.split(3)])
    torch.testing.assert_close(module(x), alone, rtol=0, atol=1e-12)


def test_input_is_not_changed_and_memory_format_does_not_matter() -> None:
    module, x = make_module(), make_clips()
    kept = x.clone()
    plain = module(x)
    assert torch.equal(x, kept)
    channels_last = module(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(channels_last, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("channels", "reduced"), [(64, 4), (2048, 128), (24, 1), (8, 1)])
def test_names_and_shapes_of_the_tensors(channels: int, reduced: int) -> None:
    shapes = {key: tuple(value.shape) for key, value in Action(channels, 8).state_dict().items()}
    norms = ("weight", "bias", "running_mean", "running_var")
    assert shapes == {
        "shift.weight": (channels, 1, 3),
        "spatio_temporal.conv.weight": (1, 1, 3, 3, 3),
        "channel.squeeze.weight": (reduced, channels, 1, 1),
        "channel.conv.weight": (reduced, reduced, 3),
        "channel.expand.weight": (channels, reduced, 1, 1),
        "motion.squeeze.weight": (reduced, channels, 1, 1),
        **{f"motion.bn.{name}": (reduced,) for name in norms},
        "motion.bn.num_batches_tracked": (),
        "motion.conv.weight": (reduced, 1, 3, 3),
        "motion.expand.weight": (channels, reduced, 1, 1),
    }


@pytest.mark.parametrize("frames", [7, 9, 1])
def test_wrong_number_of_frames_names_both_numbers(frames: int) -> None:
    with pytest.raises(ValueError, match=rf"num_segments=8\b.* got {frames}$"):
        Action(4, 8)(torch.zeros(frames, 4, 2, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 0}, "channels must be at least 1, got 0"),
        ({"num_segments": 0}, "num_segments must be .* at least 1, got 0"),
        ({"reduction": 0}, "reduction must be at least 1, got 0"),
        ({"fold_div": 1}, "fold_div must be at least 2.* got 1"),
    ],
)
def test_bad_arguments(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Action(**{"channels": 8, "num_segments": 4, **arguments})


def test_network_has_the_published_size() -> None:
    with torch.device("meta"):
        model = create_model("action_resnet50", 174)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == 28.08
    convs = temporal_convs(model.backbone)
    assert len(convs) == 16
    assert all(name.endswith(".conv1") and isinstance(c.temporal, Action) for name, c in convs)
