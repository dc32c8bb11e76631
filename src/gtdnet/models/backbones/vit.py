"""Vision transformers without their classifier, under DINOv2's state-dict keys.

Dosovitskiy et al.: "An Image is Worth 16x16 Words", ICLR 2021; the form and the weights are those
of Oquab et al.: "DINOv2: Learning Robust Visual Features without Supervision", 2023 (patches of
14x14, layer scale), the registers those of Darcet, Oquab, Mairal, Bojanowski: "Vision Transformers
Need Registers", ICLR 2024.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gtdnet.errors import InputError, check_positive
from gtdnet.models.backbones.base import Backbone, Block, register_backbone


class Size(NamedTuple):
    """Transformer blocks, and heads of 64 channels."""

    depth: int
    heads: int


SIZES: Mapping[str, Size] = MappingProxyType({"small": Size(12, 6), "base": Size(12, 12)})
"""By name; 384 and 768 channels."""

PATCH, SIDE = 14, 37  # pixels of a patch's side; patches of a side in training (518 pixels)
HEAD = 64  # channels of a head
EPS = 1e-6  # of every layer norm
LAYER_SCALE = 1e-5  # what every branch is multiplied by at first


class PatchEmbed(nn.Module):
    """Patches as tokens: [N, 3, H, W] -> maps [N, C, H/14, W/14]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, PATCH, stride=PATCH)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class Attention(nn.Module):
    """Multi-head self-attention: tokens [N, L, C] -> [N, L, C]."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, HEAD)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v)  # [N, heads, L, HEAD]
        return self.proj(out.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """To four times the channels and back: tokens [N, L, C] -> [N, L, C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A learned factor for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), LAYER_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class TransformerBlock(nn.Module):
    """Two residual branches, attention and MLP: tokens [N, L, C] -> [N, L, C]."""

    branches: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType(
        {"attn": ("attn.qkv", "attn.proj"), "mlp": ("mlp.fc1", "mlp.fc2")}
    )

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=EPS)
        self.attn = Attention(channels, heads)
        self.ls1 = LayerScale(channels)
        self.norm2 = nn.LayerNorm(channels, eps=EPS)
        self.mlp = Mlp(channels)
        self.ls2 = LayerScale(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class VisionTransformer(Backbone):
    """Small or base: [N, 3, H, W] -> the class token, normalised, [N, num_features].

    H and W need not be those of training: the learned positions are interpolated as DINOv2's own
    code does (bicubic; with registers antialiased; without them not, and by the factor of 0.1
    patches more than there are). What is left over of a side by 14 falls off at both its ends.

    Its stages are four equal parts of its blocks. A block has two residual branches; with every
    second of them (``every``) temporal modules stand before attention alone.

    Args:
        size: one of ``sizes``.
        registers: tokens that belong to no patch, beside the class token.
        width: multiplies the number of heads; 1 is the published network.

    Attributes:
        sizes: those there are.
    """

    options: ClassVar[Mapping[str, Any]] = MappingProxyType({"width": 1.0})
    sizes: ClassVar[Mapping[str, Size]] = SIZES

    def __init__(self, size: str, registers: int = 0, width: float = 1.0) -> None:
        super().__init__()
        check_positive(width=width)
        depth, published = self.sizes[size]
        heads = max(1, round(published * width))
        channels = self.num_features = heads * HEAD
        self.patch_embed = PatchEmbed(channels)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, channels))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + SIDE**2, channels))
        if registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, registers, channels))
        self.registers = registers
        self.blocks = nn.Sequential(*(TransformerBlock(channels, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(channels, eps=EPS)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        for own in self._parameters.values():
            nn.init.trunc_normal_(own, std=0.02)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(_whole_patches(x))
        positions = self.positions(*x.shape[2:])
        tokens = x.flatten(2).transpose(1, 2)  # [N, L, C]
        first = self.cls_token + positions[:, :1]
        if self.registers:  # they have no place
            first = torch.cat([first, self.register_tokens], 1)
        tokens = torch.cat([first.expand(x.shape[0], -1, -1), tokens + positions[:, 1:]], 1)
        return self.norm(self.blocks(tokens)[:, 0])

    def positions(self, rows: int, columns: int) -> Tensor:
        """Embeddings of the class token and of rows x columns patches: [1, 1 + rows*columns, C]."""
        rows, columns = int(rows), int(columns)
        if rows == columns == SIDE:
            return self.pos_embed
        grid = self.pos_embed[0, 1:].float().T.unflatten(1, (SIDE, SIDE))  # [C, SIDE, SIDE]
        down, along = (_cubic(n, self.registers > 0, grid.device) for n in (rows, columns))
        patches = (down @ grid @ along.T).flatten(1).T.to(self.pos_embed.dtype)
        return torch.cat([self.pos_embed[:, :1], patches[None]], 1)

    def residual_blocks(self) -> list[Block]:
        per_stage = len(self.blocks) / len(self.stages)
        return [
            Block(
                f"blocks.{number}.{name}",
                self.stages[int(int(number) / per_stage)],
                tuple(f"blocks.{number}.{layer}" for layer in layers),
            )
            for number, _ in self.blocks.named_children()
            for name, layers in TransformerBlock.branches.items()
        ]

    def own_keys(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """From the names of timm and of transformers to those of DINOv2's own files.

        The token that stands for hidden patches in their training is left out.
        """
        tensors = {key.removeprefix("dinov2."): value for key, value in tensors.items()}
        if "embeddings.cls_token" in tensors:
            tensors = _of_transformers(tensors)
        own = {_TIMM.get(k, k): v for k, v in tensors.items() if k != "mask_token"}
        if "pos_embed" in own and own["pos_embed"].shape[1] == SIDE**2:
            # timm's with registers: the class token's position is part of the token.
            own["pos_embed"] = F.pad(own["pos_embed"], (0, 0, 1, 0))
        return own


def _whole_patches(x: Tensor) -> Tensor:
    """The middle of [N, 3, H, W] whose sides are multiples of a patch's."""
    height, width = int(x.shape[2]), int(x.shape[3])
    if min(height, width) < PATCH:
        raise InputError(
            f"frames of {height}x{width} pixels are smaller than a patch of {PATCH}x{PATCH}; take "
            f"a larger crop_size"
        )
    top, left = height % PATCH // 2, width % PATCH // 2
    return x[:, :, top : top + height // PATCH * PATCH, left : left + width // PATCH * PATCH]


def _cubic(size: int, antialias: bool, device: torch.device) -> Tensor:
    """How SIDE places become ``size`` by cubic convolution (Keys, 1981): [size, SIDE].

    PyTorch's bicubic interpolation along one axis. OpenVINO's is another where it is antialiased;
    sums and products are the same everywhere.
    """
    a, step = (-0.5, SIDE / size) if antialias else (-0.75, SIDE / (size + 0.1))
    wide = max(step, 1.0) if antialias else 1.0
    places = torch.arange(-3, SIDE + 3, dtype=torch.float32, device=device)
    centres = (torch.arange(size, dtype=torch.float32, device=device) + 0.5) * step - 0.5
    t = ((places - centres[:, None]) / wide).abs()
    near, far = ((a + 2) * t - (a + 3)) * t * t + 1, a * (((t - 5) * t + 8) * t - 4)
    weights = near * (t <= 1) + far * ((t > 1) & (t < 2))
    if antialias:  # what lies outside does not count
        weights = weights[:, 3:-3]
        return weights / weights.sum(1, keepdim=True)
    first, last = weights[:, :4].sum(1, keepdim=True), weights[:, -4:].sum(1, keepdim=True)
    return torch.cat([first, weights[:, 4:-4], last], 1)  # outside is as at the border


_TIMM = {"reg_token": "register_tokens"}  # what has another name there
_TRANSFORMERS = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.", ""),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"^layernorm\.", "norm."),
)
_QUERY = re.compile(r"(blocks\.\d+)\.attention\.attention\.query\.(\w+)")


def _of_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """From the names that Hugging Face's transformers have; query, key and value become one."""
    for pattern, ours in _TRANSFORMERS:
        tensors = {re.sub(pattern, ours, key): value for key, value in tensors.items()}
    own = dict(tensors)
    for key in tensors:
        if found := _QUERY.fullmatch(key):
            parts = [key.replace(".query.", f".{name}.") for name in ("query", "key", "value")]
            if all(part in own for part in parts):
                own[f"{found[1]}.attn.qkv.{found[2]}"] = torch.cat([own.pop(p) for p in parts])
    return own


for _size in SIZES:
    register_backbone(f"vit_{_size}14", VisionTransformer, _size)
    register_backbone(f"vit_{_size}14_reg4", VisionTransformer, _size, 4)
