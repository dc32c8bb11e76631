"""Causal models: no frame sees a later one, on every backbone, whole clips and frame by frame."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.models import (
    VideoClassifier,
    create_model,
    list_models,
    load_model,
    model_options,
    save_model,
)
from gtdnet.models.stream import FrameStep, restarted
from gtdnet.nn import AGGREGATIONS, set_num_segments

SIZE = 32
TinyModel = Callable[..., VideoClassifier]
CAUSAL = [n for n in list_models() if "causal" in model_options(n)]
SHALLOW = [  # one of each kind of network
    f"{method}_{backbone}"
    for method in ("gtdnet", "tsm")
    for backbone in ("resnet18", "res2net50", "efficientnet_lite0", "convnext_tiny", "vit_small14")
]
each_kind = pytest.mark.parametrize("name", SHALLOW)


@pytest.fixture
def causal(tiny_model: TinyModel) -> TinyModel:
    def make(name: str, **options: Any) -> VideoClassifier:
        # In double precision: what moves little in networks this narrow still stands out.
        options = {"causal": True, "fold_div": 4, **options}
        return tiny_model(name, shallow=True, **options).double()

    return make


def size_of(name: str) -> int:
    return 28 if "vit" in name else SIZE


def frames_like(name: str, streams: int, frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = size_of(name)
    shape = (streams, frames, 3, size, size)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def whole(model: VideoClassifier, clips: Tensor) -> Tensor:
    """Logits of every frame, [N, F, K], of clips of any length."""
    longer = copy.deepcopy(model)
    set_num_segments(longer, clips.shape[1])
    with torch.inference_mode():
        return longer.forward_frames(clips)


def stream(step: FrameStep, clips: Tensor) -> Tensor:
    state, logits = step.start(len(clips)), []
    with torch.inference_mode():
        for frames in clips.unbind(1):
            out, *rest = step(frames, *state)
            state = tuple(rest)
            logits.append(out)
    return torch.stack(logits, 1)


def test_it_is_an_option_of_tsm_and_gtdnet_on_every_backbone() -> None:
    assert {n for n in list_models() if n.startswith(("tsm_", "gtdnet_"))} == set(CAUSAL)
    assert set(SHALLOW) <= set(CAUSAL)


@each_kind
def test_no_frame_sees_a_later_one(name: str, causal: TinyModel) -> None:
    model, clips = causal(name), frames_like(name, 1, 4)
    before = whole(model, clips)
    for last in range(1, 4):
        changed = clips.clone()
        changed[:, last:] = frames_like(name, 1, 4 - last, seed=1)
        after = whole(model, changed)
        torch.testing.assert_close(after[:, :last], before[:, :last], rtol=0, atol=1e-12)
        assert (after[:, last:] - before[:, last:]).abs().amax(dim=2).min() > 1e-8
    changed = clips.clone()
    changed[:, 0] = frames_like(name, 1, 1, seed=2)[:, 0]
    assert (whole(model, changed) - before)[:, 1].abs().max() > 1e-9  # but earlier ones


@each_kind
def test_frame_by_frame_it_is_the_model_on_the_whole_video(name: str, causal: TinyModel) -> None:
    model, clips = causal(name), frames_like(name, 2, 9)
    step = FrameStep(model, size_of(name))
    logits = stream(step, clips)
    torch.testing.assert_close(logits, whole(model, clips), rtol=0, atol=1e-10)
    assert logits.std(dim=1).max() > 1e-7
    # On a clip of T frames, the model's answer is their mean.
    with torch.inference_mode():
        clip = model(clips[:, :4])
    torch.testing.assert_close(logits[:, :4].mean(1), clip, rtol=0, atol=1e-10)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize(
    "variant", [{}, {"order": 3}, {"gate": False}, {"attention": False}, {"fold_div": 0}]
)
def test_so_it_is_with_each_aggregation_and_variant(
    aggregation: str, variant: dict[str, Any], causal: TinyModel
) -> None:
    model = causal("gtdnet_resnet18", aggregation=aggregation, **variant)
    clips = frames_like("gtdnet_resnet18", 1, 7)
    logits = whole(model, clips)
    torch.testing.assert_close(stream(FrameStep(model, SIZE), clips), logits, rtol=0, atol=1e-10)
    changed = clips.clone()
    changed[:, 5:] += 1
    assert torch.equal(whole(model, changed)[:, :5], logits[:, :5])


def test_a_stream_forgets_all_but_the_last_frames(causal: TinyModel) -> None:
    """Two networks' pasts end after as many frames as the blocks can hand on."""
    model = causal("gtdnet_resnet18")
    reach = 4 * (4 - 1) + 4  # four blocks, each looks 3 frames back and its shift 1
    clips = frames_like("", 2, 2 + reach)
    clips[1, 2:] = clips[0, 2:]
    logits = stream(FrameStep(model, SIZE), clips)
    assert (logits[0, 2] - logits[1, 2]).abs().max() > 1e-5
    torch.testing.assert_close(logits[0, -1], logits[1, -1], rtol=0, atol=1e-10)


def test_states_are_values(causal: TinyModel) -> None:
    """A state can be gone on from twice, one stream restarted, streams taken apart."""
    model, clips = causal("gtdnet_resnet18"), frames_like("", 3, 6)
    step = FrameStep(model, SIZE)
    state = step.start(3)
    with torch.inference_mode():
        for frames in clips[:, :3].unbind(1):
            state = tuple(step(frames, *state)[1:])
        kept = [t.clone() for t in state]
        first = step(clips[:, 3], *state)[0]
        again = step(clips[:, 3], *state)[0]
        fresh = step(clips[:, 3], *restarted(state, [1]))[0]
        alone = step(clips[2:, 3], *(t[2:] for t in state))[0]
    assert torch.equal(first, again)
    assert all(torch.equal(a, b) for a, b in zip(kept, state, strict=True))
    assert torch.equal(fresh[[0, 2]], first[[0, 2]])
    torch.testing.assert_close(fresh[1], whole(model, clips[1:2, 3:4])[0, 0], rtol=0, atol=1e-10)
    torch.testing.assert_close(alone[0], first[2], rtol=0, atol=1e-10)


def test_a_step_shares_the_weights_and_leaves_the_model_as_it_was(causal: TinyModel) -> None:
    model = causal("gtdnet_resnet18")
    clips = frames_like("", 1, 4)
    before = whole(model, clips)
    step = FrameStep(model, SIZE)
    stream(step, clips)
    assert torch.equal(whole(model, clips), before)
    mine = {p.data_ptr() for p in model.parameters()}
    assert {p.data_ptr() for p in step.parameters()} == mine
    assert model.num_segments == 4


def test_memory_is_finite(causal: TinyModel) -> None:
    model = causal("gtdnet_resnet18")
    step = FrameStep(model, SIZE)
    state = step.start(1)
    shapes = [t.shape for t in state]
    assert len(step.names) == len(shapes)
    # One frame's eighth of the channels for each shift, three vectors for each block, a flag.
    assert [s[1:2] for s in shapes] == [(), *[(1,), (3,)] * 4]
    with torch.inference_mode():
        for frame in frames_like("", 1, 12).unbind(1):
            state = tuple(step(frame, *state)[1:])
            assert [t.shape for t in state] == shapes
            held = sum(t.untyped_storage().nbytes() for t in state)
            assert held <= 2 * sum(t.nbytes for t in step.start(1)) + 64


# ------------------------------------------------------------------------------------ its start


def test_still_pictures_are_seen_as_by_the_plain_network() -> None:
    """The first frame stands for those missing: identity start, from 2D weights, is exact."""
    torch.manual_seed(0)
    plain = create_model("tsn_resnet18", 5, 4, width=0.25).double().eval()
    weights = plain.backbone.state_dict()
    still = frames_like("", 2, 1).expand(-1, 4, -1, -1, -1)
    for name in ("tsm_resnet18", "gtdnet_resnet18"):
        model = (
            create_model(name, 5, 4, width=0.25, causal=True, pretrained=weights).double().eval()
        )
        model.classifier.load_state_dict(plain.classifier.state_dict())
        with torch.inference_mode():
            torch.testing.assert_close(
                model.forward_frames(still), plain.forward_frames(still), rtol=0, atol=1e-7
            )


@pytest.mark.parametrize("name", ["resnet18", "vit_small14"])
def test_gtdnet_starts_at_the_function_of_causal_tsm(name: str) -> None:
    torch.manual_seed(0)
    width = 0.25 if "resnet" in name else 0.125
    tsm = create_model(f"tsm_{name}", 5, 4, causal=True, width=width).double().eval()
    weights = tsm.backbone.state_dict()
    gtd = (
        create_model(
            f"gtdnet_{name}", 5, 4, causal=True, pretrained=weights, init="identity", width=width
        )
        .double()
        .eval()
    )
    gtd.classifier.load_state_dict(tsm.classifier.state_dict())
    clips = frames_like(name, 1, 4)
    with torch.inference_mode():
        torch.testing.assert_close(
            gtd.forward_frames(clips), tsm.forward_frames(clips), rtol=0, atol=1e-7
        )


def test_it_travels_in_the_model_file(tmp_path: Path, causal: TinyModel) -> None:
    torch.manual_seed(0)
    model = create_model("gtdnet_resnet18", 5, 4, width=0.125, causal=True).eval()
    model.classifier.weight.data *= 100
    spec = ClipSpec(tuple("abcde"), num_segments=4, short_side=SIZE, crop_size=SIZE)
    path = save_model(tmp_path / "model.safetensors", model, spec)
    loaded, model = load_model(path).model.double(), model.double()
    assert loaded.options["causal"] is True
    clips = frames_like("", 1, 6)
    assert torch.equal(whole(loaded, clips), whole(model, clips))
    wider = load_model(path, num_segments=6).model.double()  # its window is that of the new T
    torch.testing.assert_close(
        stream(FrameStep(wider, SIZE), clips), whole(wider, clips), rtol=0, atol=1e-10
    )


def test_it_trains() -> None:
    torch.manual_seed(0)
    model = create_model("gtdnet_resnet18", 5, 4, width=0.25, causal=True, order=3).train()
    model(frames_like("", 2, 4).float()).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


# -------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tsm_resnet18", {"causal": 1}, "tsm_resnet18: causal must be true or false, got 1"),
        (
            "gtdnet_resnet18",
            {"causal": True, "difference": "local"},
            r"difference='local' looks at the next frame, which a causal block cannot see",
        ),
    ],
)
def test_bad_options(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        create_model(name, 5, width=0.125, **options)


@pytest.mark.parametrize(
    "name", ["gtdnet_resnet18", "tsm_resnet18", "tea_resnet50", "tanet_resnet18", "teinet_resnet18",
             "action_resnet18", "tdn_resnet18"]
)  # fmt: skip
def test_models_that_look_ahead_are_refused(name: str, tiny_model: TinyModel) -> None:
    with pytest.raises(InputError, match=rf"{name} .*cannot be run frame by frame.*causal: true"):
        FrameStep(tiny_model(name, shallow=True), SIZE)


def test_a_network_without_temporal_modules_has_nothing_to_remember(tiny_model: TinyModel) -> None:
    model, clips = tiny_model("tsn_resnet18").double(), frames_like("", 2, 3)
    step = FrameStep(model, SIZE)
    assert step.names == ("started",)
    torch.testing.assert_close(stream(step, clips), whole(model, clips), rtol=0, atol=1e-10)
    assert [t.shape for t in step.start(2)] == [(2,)]
