from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from gtdnet.errors import InputError
from gtdnet.models import create_model
from gtdnet.models.complexity import Complexity, Views, complexity, measure
from gtdnet.nn import TemporalAdaptiveModule, TemporalConv1d, fast_path


def test_a_network_counted_by_hand() -> None:
    # [2, 3, 8, 8] -> conv [2, 4, 8, 8] -> relu in place -> mean [2, 4] -> linear [2, 5]
    class Net(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            return self[1](torch.relu_(self[0](input)).mean(dim=(2, 3)))

    model = Net(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Linear(4, 5))
    given, maps, pooled = (4 * n for n in (2 * 3 * 64, 2 * 4 * 64, 2 * 4))
    assert measure(model.to("meta"), torch.empty(2, 3, 8, 8, device="meta")) == Complexity(
        parameters=4 * 3 * 9 + 4 * 5 + 5,
        macs=2 * 64 * 4 * 3 * 9 + 2 * 4 * 5,
        inference_bytes=given + maps + pooled,
        training_bytes=given + maps + pooled,
    )


def test_convolutions_over_time_are_counted() -> None:
    x = torch.empty(2 * 4, 6, 5, 7, device="meta")
    conv = TemporalConv1d(6, 4).to("meta")
    assert measure(conv, x).macs == 3 * x.numel()
    adaptive = TemporalAdaptiveModule(6, 4, alpha=2, beta=3).to("meta")
    local = 2 * 4 * (6 * 2 * 3 + 2 * 6)  # clips, frames, both convolutions of the local branch
    kernels = 2 * 6 * (4 * 8 + 8 * 3)  # clips, channels, both layers of the global branch
    assert measure(adaptive, x).macs == 3 * x.numel() + local + kernels


def test_the_mode_and_the_weights_stay() -> None:
    model = create_model("tea_resnet50", 3, 2, width=0.125).eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    measure(model.to("meta"), torch.empty(1, 2, 3, 32, 32, device="meta"))
    assert not model.training
    assert set(before) == set(model.state_dict())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("name", "parameters", "gmacs"),
    [  # the papers' tables: M parameters at 400 classes, GMACs at 8 and 16 frames
        ("tsm_resnet50", 24.3, (33, 65)),
        ("teinet_resnet50", 30.4, (33, 66)),
        ("gtdnet_resnet50", None, (33, 66)),
    ],
)
def test_the_papers_figures(
    name: str, parameters: float | None, gmacs: tuple[float, float]
) -> None:
    at_8, at_16 = (complexity(name, 400, frames) for frames in (8, 16))
    assert (round(at_8.macs / 1e9), round(at_16.macs / 1e9)) == gmacs
    assert parameters is None or round(at_8.parameters / 1e6, 1) == parameters


def test_cost_grows_with_frames_and_area_and_not_with_depth_where_it_should_not() -> None:
    small, large = (complexity("tsm_resnet18", 10, 4, size) for size in (64, 128))
    double = complexity("tsm_resnet18", 10, 8, 64)
    assert double.macs == 2 * small.macs
    assert double.training_bytes == pytest.approx(2 * small.training_bytes, rel=0.01)
    assert large.macs / small.macs == pytest.approx(4, rel=0.01)
    # Without gradients nothing of a stage's earlier blocks is left: the peak is the widest block's.
    for method in ("gtdnet", "action", "tdn"):
        peaks = {complexity(f"{method}_resnet{d}", 10, 4, 64).inference_bytes for d in (18, 34)}
        assert len(peaks) == 1, method


@pytest.mark.parametrize("name", ["gtdnet_resnet18", "tsm_resnet50", "action_resnet18"])
def test_memory_is_what_the_allocator_gives(name: str) -> None:
    """The same passes with real tensors, counted by the CPU's allocator."""
    counted = complexity(name, 10, 4, 112, width=0.5)
    model = create_model(name, 10, 4, width=0.5)
    clip = torch.randn(1, 4, 3, 112, 112)
    with fast_path(False):  # which keeps less
        with torch.no_grad():
            peak, _ = _allocated(model.eval(), clip)
        _, kept = _allocated(model.train(), clip)
    # What comes on top is the work space of the convolutions, if the processor's take any.
    assert counted.inference_bytes <= peak + clip.nbytes < 1.25 * counted.inference_bytes
    # The CPU's attention does not keep its matrices; the logits are there and not kept.
    assert counted.training_bytes == pytest.approx(kept + clip.nbytes, rel=0.02)


def _allocated(model: nn.Module, clip: Tensor) -> tuple[int, int]:
    """Most bytes at a time, and bytes that are left at the end while the result is there."""
    model(clip)  # what is allocated once and for all
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        out = model(clip)
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()  # type: ignore[attr-defined]  # missing in the stubs
        peak = max(peak, now)
    del out
    return peak, now


@pytest.mark.parametrize(
    ("text", "views", "per_video"),
    [("8x1x1", (8, 1, 1), 1), ("8x3x2", (8, 3, 2), 6), (" 16x3x10 ", (16, 3, 10), 30)],
)
def test_views_are_read(text: str, views: tuple[int, int, int], per_video: int) -> None:
    assert Views.parse(text) == views
    assert Views.parse(text).per_video == per_video
    assert str(Views.parse(text)) == text.strip()


@pytest.mark.parametrize("text", ["8x3", "8x0x1", "axbxc", "", "8x3x2x1", "-8x3x2", "8 x 3 x 2"])
def test_views_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="views are written frames x crops x clips, as 8x3x2, got"):
        Views.parse(text)


def test_a_view_too_small_for_the_network() -> None:
    with pytest.raises(InputError, match="crop_size must be at least 32, got 31"):
        complexity("tsn_resnet18", crop_size=31)
