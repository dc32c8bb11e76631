"""Vision transformers against a computation of their own, under three sets of names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from gtdnet import create_model
from gtdnet.errors import InputError
from gtdnet.models.backbones.vit import VisionTransformer
from gtdnet.models.complexity import measure
from gtdnet.nn import TemporalShift, insert_temporal, temporal_layers
from gtdnet.train.optim import freeze
from gtdnet.weights.fit import BackboneWeights

DEPTH, HEADS, C = 3, 2, 128  # of the network that is recomputed


@pytest.mark.parametrize(
    ("name", "parameters"),
    # DINOv2's own files, without the token for hidden patches: 22.06 and 86.58 million.
    [("small14", 22_056_192), ("base14", 86_579_712), ("small14_reg4", 22_057_728),
     ("base14_reg4", 86_582_784)],
)  # fmt: skip
def test_sizes_of_the_published_networks(name: str, parameters: int) -> None:
    with torch.device("meta"):
        model = create_model(f"tsn_vit_{name}", 1, 1)
    classifier = model.backbone.num_features + 1  # type: ignore[operator]
    assert sum(p.numel() for p in model.parameters()) - classifier == parameters


def test_cost_by_hand() -> None:
    """12 C^2 for every token and C for every pair of them, twice; patches and positions before."""
    with torch.device("meta"):
        model = create_model("tsn_vit_small14", 1000, 1)
        found = measure(model, torch.empty(1, 1, 3, 224, 224))
    tokens, c = 16 * 16 + 1, 384
    per_block = tokens * 12 * c * c + 2 * tokens * tokens * c
    before = 256 * 3 * 14 * 14 * c + c * (16 * 37 * 37 + 16 * 37 * 16)
    assert found.macs == before + 12 * per_block + c * 1000


# ------------------------------------------------------------- a computation of its own, by hand


def dinov2(registers: int = 0) -> dict[str, Tensor]:
    """Weights by the names of DINOv2's files, written down from the papers alone."""
    generator, state = torch.Generator().manual_seed(0), {}

    def value(name: str, *shape: int, around: float = 0.0, by: float = 0.1) -> None:
        state[name] = around + by * torch.randn(shape, generator=generator)

    value("cls_token", 1, 1, C)
    value("pos_embed", 1, 1 + 37 * 37, C, by=1.0)
    if registers:
        value("register_tokens", 1, registers, C, by=1.0)
    value("mask_token", 1, C)
    value("patch_embed.proj.weight", C, 3, 14, 14)
    value("patch_embed.proj.bias", C)
    for i in range(DEPTH):
        for norm in ("norm1", "norm2"):
            value(f"blocks.{i}.{norm}.weight", C, around=1.0)
            value(f"blocks.{i}.{norm}.bias", C)
        for layer, out, channels in (
            *(("attn.qkv", 3 * C, C), ("attn.proj", C, C)),
            *(("mlp.fc1", 4 * C, C), ("mlp.fc2", C, 4 * C)),
        ):
            value(f"blocks.{i}.{layer}.weight", out, channels)
            value(f"blocks.{i}.{layer}.bias", out)
        value(f"blocks.{i}.ls1.gamma", C, around=0.5)
        value(f"blocks.{i}.ls2.gamma", C, around=0.5)
    value("norm.weight", C, around=1.0)
    value("norm.bias", C)
    return state


def positions_by_hand(state: dict[str, Tensor], rows: int, columns: int) -> Tensor:
    """[1 + rows*columns, C]: as the settings that DINOv2's files come with have it."""
    grid = state["pos_embed"][:, 1:].reshape(1, 37, 37, C).permute(0, 3, 1, 2)
    if "register_tokens" in state:
        grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", antialias=True)
    else:
        factor = ((rows + 0.1) / 37, (columns + 0.1) / 37)
        grid = F.interpolate(grid, scale_factor=factor, mode="bicubic", antialias=False)
    return torch.cat([state["pos_embed"][0, :1], grid[0].reshape(C, -1).T])


def by_hand(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """[N, 3, H, W] -> [N, C], the sums written out."""

    def linear(x: Tensor, name: str) -> Tensor:
        return torch.einsum("nlc,dc->nld", x, state[f"{name}.weight"]) + state[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        deviation = ((centred**2).mean(-1, keepdim=True) + 1e-6).sqrt()
        return centred / deviation * state[f"{name}.weight"] + state[f"{name}.bias"]

    n, _, height, width = x.shape
    rows, columns = height // 14, width // 14
    patches = x.reshape(n, 3, rows, 14, columns, 14).permute(0, 2, 4, 1, 3, 5)
    weight = state["patch_embed.proj.weight"].reshape(C, -1)
    patches = patches.reshape(n, rows * columns, -1) @ weight.T + state["patch_embed.proj.bias"]
    native = rows == columns == 37
    positions = state["pos_embed"][0] if native else positions_by_hand(state, rows, columns)
    x = torch.cat([state["cls_token"].expand(n, 1, C), patches], 1) + positions
    if "register_tokens" in state:
        x = torch.cat([x[:, :1], state["register_tokens"].expand(n, -1, C), x[:, 1:]], 1)
    for i in range(DEPTH):
        block, d = f"blocks.{i}", C // HEADS
        qkv = linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv")
        heads = []
        for head in range(HEADS):
            q, k, v = (qkv[..., j * C + head * d : j * C + (head + 1) * d] for j in range(3))
            scores = torch.exp(torch.einsum("nld,nmd->nlm", q, k) / d**0.5)
            heads.append(scores / scores.sum(-1, keepdim=True) @ v)
        x = x + state[f"{block}.ls1.gamma"] * linear(torch.cat(heads, -1), f"{block}.attn.proj")
        out = linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")
        out = out * (1 + torch.erf(out / 2**0.5)) / 2  # GELU, exact
        x = x + state[f"{block}.ls2.gamma"] * linear(out, f"{block}.mlp.fc2")
    return norm(x, "norm")[:, 0]


def timms(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights as timm's files have them."""
    own = {k: v for k, v in state.items() if k != "mask_token"}
    if "register_tokens" in own:  # positions are the patches' alone
        own["reg_token"] = own.pop("register_tokens")
        own["cls_token"] = own["cls_token"] + own["pos_embed"][:, :1]
        own["pos_embed"] = own["pos_embed"][:, 1:]
    return own


def transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights as files of Hugging Face's transformers have them."""
    own = {}
    for key, value in state.items():
        if ".qkv." in key:
            block, _, kind = key.partition(".attn.qkv.")
            names = ("query", "key", "value")
            parts = zip(names, value.chunk(3), strict=True)
            own |= {f"{block}.attention.attention.{n}.{kind}": part for n, part in parts}
        else:
            own[key] = value
    for pattern, new in (
        (r"^(cls_token|mask_token|register_tokens)", r"embeddings.\1"),
        ("^pos_embed", "embeddings.position_embeddings"),
        (r"^patch_embed\.proj", "embeddings.patch_embeddings.projection"),
        (r"^blocks\.", "encoder.layer."),
        (r"attn\.proj", "attention.output.dense"),
        (r"ls(\d)\.gamma", r"layer_scale\1.lambda1"),
        (r"^norm\.", "layernorm."),
    ):
        own = {re.sub(pattern, new, key): value for key, value in own.items()}
    return own


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VisionTransformer, "sizes", {"small": (DEPTH, HEADS)})


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("names", [dinov2, timms, transformers])
@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("size", [(112, 112), (98, 126)])
def test_output_and_names_by_hand(names: Any, registers: int, size: tuple[int, int]) -> None:
    network = VisionTransformer("small", registers).eval()
    state = dinov2(registers)
    given = state if names is dinov2 else names(state)
    BackboneWeights.read(given).load_plain(network)
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(network(x), by_hand(state, x), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("registers", [0, 4])
def test_positions_are_as_they_are_at_the_size_of_training(registers: int) -> None:
    network = VisionTransformer("small", registers).eval()
    state = dinov2(registers)
    BackboneWeights.read(state).load_plain(network)
    assert torch.equal(network.positions(37, 37), state["pos_embed"])
    x = torch.randn(1, 3, 518, 518, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(network(x), by_hand(state, x), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("size", [(16, 16), (7, 9), (1, 40), (37, 16), (50, 74)])
def test_positions_by_hand(registers: int, size: tuple[int, int]) -> None:
    network = VisionTransformer("small", registers).eval()
    state = dinov2(registers)
    BackboneWeights.read(state).load_plain(network)
    wanted = positions_by_hand(state, *size)
    torch.testing.assert_close(network.positions(*size)[0], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("small")
def test_what_is_left_over_of_a_side_falls_off_at_both_ends() -> None:
    network = VisionTransformer("small").eval()
    x = torch.randn(1, 3, 33, 45, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(network(x), network(x[:, :, 2:30, 1:43]))
    with pytest.raises(InputError, match="13x20 pixels are smaller than a patch of 14x14"):
        network(x[:, :, :13, :20])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("names", [dinov2, timms, transformers])
def test_a_file_is_a_start(names: Any, tmp_path: Path) -> None:
    state = dinov2(4) if names is dinov2 else names(dinov2(4))
    path = tmp_path / "model.safetensors"
    save_file({k: v.contiguous() for k, v in state.items()}, path)
    model = create_model("tsn_vit_small14_reg4", 5, 2, pretrained=path)
    BackboneWeights.read(path).load_plain(model.backbone)
    with pytest.raises(InputError, match=r"1 key unexpected \(register_tokens\)"):
        create_model("tsn_vit_small14", 5, 2, pretrained=path)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("names", "lost", "message"),
    [
        (timms, "blocks.1.ls2.gamma", r"1 key missing \(blocks\.1\.ls2\.gamma\)"),
        (
            transformers,
            "encoder.layer.1.attention.attention.key.bias",
            r"1 key missing \(blocks\.1\.attn\.qkv\.bias\).*unexpected",
        ),
    ],
)
def test_a_missing_layer_is_named(names: Any, lost: str, message: str) -> None:
    state = names(dinov2())
    del state[lost]
    with pytest.raises(InputError, match=message):
        BackboneWeights.read(state).load_plain(VisionTransformer("small"))


def test_modules_open_both_branches_of_every_block() -> None:
    model = create_model("gtdnet_vit_small14", 5, 4, width=0.125)
    names = [name for name, _ in temporal_layers(model.backbone)]
    assert names == [f"blocks.{i}.{name}" for i in range(12) for name in ("attn.qkv", "mlp.fc1")]
    before_attention = create_model("tsm_vit_small14", 5, 4, width=0.125, every=2)
    names = [name for name, _ in temporal_layers(before_attention.backbone)]
    assert names == [f"blocks.{i}.attn.qkv" for i in range(12)]


@pytest.mark.usefixtures("small")
def test_tokens_are_shifted_in_time_before_a_branch() -> None:
    """In the second block's attention alone, by hand: the normalised tokens' first channels."""
    network = create_model("tsm_vit_small14", 5, 2, pretrained=dinov2(), stages=[4]).eval().backbone
    plain = create_model("tsn_vit_small14", 5, 2, pretrained=dinov2()).eval().backbone
    x = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    last = [name for name, _ in temporal_layers(network)]
    assert last == ["blocks.2.attn.qkv", "blocks.2.mlp.fc1"]

    def shifted(module: Any, given: tuple[Tensor]) -> tuple[Tensor]:
        moved, f = given[0].clone(), C // 8
        moved[0, :, :f], moved[1, :, :f] = given[0][1, :, :f], 0
        moved[1, :, f : 2 * f], moved[0, :, f : 2 * f] = given[0][0, :, f : 2 * f], 0
        return (moved,)

    for name in last:
        plain.get_submodule(name).register_forward_pre_hook(shifted)
    with torch.no_grad():
        torch.testing.assert_close(network(x), plain(x), rtol=1e-5, atol=1e-5)


def test_its_branches_are_those_that_its_sums_show() -> None:
    network = VisionTransformer("small", 4, width=0.125)
    found = insert_temporal(network, lambda channels: TemporalShift(4))
    assert found == [block.branch[0] for block in network.residual_blocks()]


def test_frozen_up_to_a_stage() -> None:
    """The stages are four parts of three blocks each; tokens and positions go with the stem."""
    for stage, first in ((1, 0), (2, 3), (4, 9), (5, 12)):
        model = create_model("tsn_vit_small14", 5, 4, width=0.125)
        freeze(model, "none", stage)
        learning = {n for n, p in model.backbone.named_parameters() if p.requires_grad}
        blocks = {int(n.split(".")[1]) for n in learning if n.startswith("blocks.")}
        assert blocks == set(range(first, 12))
        assert not learning & {"cls_token", "pos_embed", "patch_embed.proj.weight"}


def test_both_branches_of_every_block() -> None:
    blocks = VisionTransformer("small", width=0.125).residual_blocks()
    assert [b.branch[0] for b in blocks[:4]] == [
        "blocks.0.attn.qkv",
        "blocks.0.mlp.fc1",
        "blocks.1.attn.qkv",
        "blocks.1.mlp.fc1",
    ]
    assert [b.stage for b in blocks] == [2] * 6 + [3] * 6 + [4] * 6 + [5] * 6
