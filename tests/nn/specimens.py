"""Small networks with the structure of known families, for finding their residual branches.

Names of blocks and layers are the families' own; the code is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

C = 8


class Add(nn.Module):
    """x + f(x), with a projection where one is given, and an activation behind the sum."""

    def __init__(self, branch: nn.Module, down: nn.Module | None = None, act: bool = False) -> None:
        super().__init__()
        self.branch = branch
        self.downsample = down
        self.act = nn.ReLU(inplace=True) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.act(self.branch(x) + shortcut)


class ConvNorm(nn.Sequential):
    """torchvision's Conv2dNormActivation."""

    def __init__(
        self, c: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        conv = nn.Conv2d(c, out, kernel, stride, kernel // 2, groups=groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(out), *[nn.Hardswish(inplace=True)] * act)


class SqueezeExcite(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(c, 4, 1), nn.Conv2d(4, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))).sigmoid()


class DropPath(nn.Module):
    """Stochastic depth."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * torch.bernoulli(torch.full((len(x), *[1] * (x.ndim - 1)), 0.5))


class LayerScale(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full(shape, 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Permute(nn.Module):
    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.axes)


class Head(nn.Module):
    """A stem, blocks, the mean of maps or tokens, a classifier."""

    def __init__(self, *blocks: nn.Module, channels: int = C) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, C, 4, 4)
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


# ----------------------------------------------------------------------------------- convolutions


def bottleneck(out: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        ConvNorm(C, 4), ConvNorm(4, 4, 3, stride, groups=2), ConvNorm(4, out, act=False)
    )


def resnet() -> nn.Module:
    down = nn.Sequential(nn.AvgPool2d(2), ConvNorm(C, 16, act=False))  # ResNet-D's
    return Head(Add(bottleneck(C), act=True), Add(bottleneck(16, 2), down, act=True), channels=16)


def regnet() -> nn.Module:
    a, b, c = ConvNorm(C, C), ConvNorm(C, C, 3, 1, 4), ConvNorm(C, C, act=False)
    return Head(Add(nn.Sequential(a, b, SqueezeExcite(C), c), ConvNorm(C, C, act=False), act=True))


def mobilenet() -> nn.Module:
    """V2 and V3, EfficientNet: no shortcut where the stride is 2."""
    wide = [ConvNorm(C, 16), ConvNorm(16, 16, 5, groups=16), ConvNorm(16, C, act=False)]
    down = [ConvNorm(C, 16), ConvNorm(16, 16, 3, 2, 16), ConvNorm(16, C, act=False)]
    excited = [ConvNorm(C, C, 3, groups=C), SqueezeExcite(C), ConvNorm(C, C, act=False)]
    return Head(
        nn.Sequential(*down),
        Add(nn.Sequential(*wide, DropPath())),
        Add(nn.Sequential(*excited, nn.Dropout())),
    )


class PreActivation(nn.Module):
    """ResNet v2, whose projection takes the activated features."""

    def __init__(self, projects: bool) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(C), nn.BatchNorm2d(C)
        self.conv1, self.conv2 = nn.Conv2d(C, C, 3, padding=1), nn.Conv2d(C, C, 3, padding=1)
        self.shortcut = nn.Conv2d(C, C, 1) if projects else None

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(active)
        return self.conv2(F.relu(self.bn2(self.conv1(active)))) + shortcut


class Padded(nn.Module):
    """The shortcut of CIFAR's ResNets: every second pixel, and channels of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(C, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        out = self.conv2(F.relu(self.conv1(x)))
        out += shortcut
        return F.relu_(out)


class Res2(nn.Module):
    """Groups of channels that see each other: sums inside a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv3 = nn.Conv2d(C, C, 1), nn.Conv2d(C, C, 1)
        self.convs = nn.ModuleList(nn.Conv2d(2, 2, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        parts = self.conv1(x).chunk(4, 1)
        out = [self.convs[0](parts[0])]
        for conv, part in zip(list(self.convs)[1:], parts[1:], strict=False):
            out.append(conv(out[-1] + part))
        return x + self.conv3(torch.cat([*out, parts[3]], 1))


def convnext() -> nn.Module:
    """torchvision's block: all of it in one Sequential; a layer scale for maps."""
    block = nn.Sequential(
        nn.Conv2d(C, C, 7, padding=3, groups=C),
        Permute(0, 2, 3, 1),
        nn.LayerNorm(C),
        nn.Linear(C, 16),
        nn.GELU(),
        nn.Linear(16, C),
        Permute(0, 3, 1, 2),
        LayerScale(C, 1, 1),
        DropPath(),
    )
    return Head(Add(block))


# ---------------------------------------------------------------------------------------- tokens


class Attention(nn.Module):
    """timm's: one map for query, key and value. [N, L, C] -> [N, L, C]."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(C, 3 * C), nn.Linear(C, C)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, 2, C // 2)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).flatten(2))


class ThreeMaps(nn.Module):
    """transformers': a map each."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(C, C) for _ in range(3))
        self.dense = nn.Linear(C, C)

    def forward(self, x: Tensor) -> Tensor:
        q, k = self.query(x), self.key(x)
        return self.dense((q @ k.mT / C**0.5).softmax(-1) @ self.value(x))


class Fused(nn.Module):
    """torchvision's: PyTorch's own module."""

    def __init__(self) -> None:
        super().__init__()
        self.mha = nn.MultiheadAttention(C, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.mha(x, x, x, need_weights=False)[0]


class Windows(nn.Module):
    """Attention in shifted windows of 4x4, [N, H, W, C] -> [N, H, W, C].

    timm's calls its map, torchvision's uses the map's weights in a function.
    """

    def __init__(self, calls: bool, shift: int = 2) -> None:
        super().__init__()
        self.attention = Attention()
        self.calls, self.shift = calls, shift

    def forward(self, x: Tensor) -> Tensor:
        n, h, w, _ = x.shape
        x = torch.roll(F.pad(x, (0, 0, 0, -w % 4, 0, -h % 4)), (-self.shift,) * 2, (1, 2))
        rows, columns = x.shape[1] // 4, x.shape[2] // 4
        x = x.view(n, rows, 4, columns, 4, C).transpose(2, 3).reshape(-1, 16, C)
        own = self.attention
        if self.calls:
            x = own(x)
        else:
            qkv = F.linear(x, own.qkv.weight, own.qkv.bias).unsqueeze(1)  # one head
            q, k, v = qkv.chunk(3, -1)
            mixed = F.scaled_dot_product_attention(q, k, v)
            x = F.linear(mixed.squeeze(1), own.proj.weight, own.proj.bias)
        x = x.view(n, rows, columns, 4, 4, C).transpose(2, 3).reshape(n, rows * 4, columns * 4, C)
        return torch.roll(x, (self.shift,) * 2, (1, 2))[:, :h, :w]


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(C, 16), nn.GELU(), nn.Linear(16, C))


class SwiGlu(nn.Module):
    """DINOv2's largest: two halves of one map, one gating the other."""

    def __init__(self) -> None:
        super().__init__()
        self.w12, self.w3 = nn.Linear(C, 16), nn.Linear(8, C)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.w12(x).chunk(2, -1)
        return self.w3(F.silu(a) * b)


class TokenBlock(nn.Module):
    """A transformer's block, norms first, with layer scale."""

    def __init__(self, attention: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.norm1, self.attn, self.ls1 = nn.LayerNorm(C), attention, LayerScale(C)
        self.norm2, self.mlp, self.ls2 = nn.LayerNorm(C), second, LayerScale(C)
        self.drop_path = DropPath()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x))))
        return x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))


class NormsLast(TokenBlock):
    """Swin V2: norms behind."""

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.norm1(self.attn(x))
        return x + self.norm2(self.mlp(x))


class SideBySide(TokenBlock):
    """Attention and MLP of the same tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attn(self.norm1(x)) + self.mlp(self.norm2(x))


class OneNorm(TokenBlock):
    """Both behind one norm."""

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        return x + self.attn(normed) + self.mlp(normed)


class ResponseNorm(nn.Module):
    """ConvNeXt V2's: adds its input to what it normalised, with weights but no map."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(C)), nn.Parameter(torch.randn(C))

    def forward(self, x: Tensor) -> Tensor:
        norm = x.norm(p=2, dim=(1, 2), keepdim=True)
        share = norm / (norm.mean(-1, keepdim=True) + 1e-6)
        return x + torch.addcmul(self.bias, self.weight, x * share)


class Vit(nn.Module):
    """Patches, a class token, registers, position embeddings that are interpolated."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, C, 8, 8)
        self.cls_token = nn.Parameter(torch.randn(1, 1, C))
        self.register_tokens = nn.Parameter(torch.randn(1, 2, C))
        self.pos_embed = nn.Parameter(torch.randn(1, C, 3, 3))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(C)
        self.head = nn.Linear(C, 5)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.patch_embed(x)
        maps = maps + F.interpolate(self.pos_embed, maps.shape[2:], mode="bicubic")
        first = (self.cls_token, self.register_tokens)
        tokens = [t.expand(x.shape[0], -1, -1) for t in first]
        x = torch.cat([*tokens, maps.flatten(2).transpose(1, 2)], 1)
        return self.head(self.norm(self.blocks(x))[:, 0])


class Swin(Head):
    """Tokens that keep H and W."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x).permute(0, 2, 3, 1)).mean((1, 2)))


# --------------------------------------------------------------------------------- what is unclear


class SideBranches(nn.Module):
    """Inception-ResNet: several ways side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.up = nn.Conv2d(C, 4, 1), nn.Conv2d(C, 4, 3, padding=1), ConvNorm(8, C)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(torch.cat([self.a(x), self.b(x)], 1))


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(C, C, 1), nn.Conv2d(2 * C, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(torch.cat([x, self.conv1(x)], 1))


Case = tuple[Callable[[], nn.Module], Sequence[str]]

FOUND: dict[str, Case] = {
    "ResNet": (resnet, ["blocks.0.branch.0.0", "blocks.1.branch.0.0"]),
    "RegNet": (regnet, ["blocks.0.branch.0.0"]),
    "MobileNet, EfficientNet": (mobilenet, ["blocks.1.branch.0.0", "blocks.2.branch.0.0"]),
    "ResNet v2": (
        lambda: Head(PreActivation(False), PreActivation(True)),
        ["blocks.0.conv1", "blocks.1.conv1"],
    ),
    "zeros": (lambda: Head(Padded(), channels=16), ["blocks.0.conv1"]),
    "Res2Net": (lambda: Head(Res2(), Res2()), ["blocks.0.conv1", "blocks.1.conv1"]),
    "ConvNeXt": (convnext, ["blocks.0.branch.0"]),
    "ConvNeXt V2": (
        lambda: Swin(Add(nn.Sequential(nn.Linear(C, C), ResponseNorm(), nn.Linear(C, C)))),
        ["blocks.0.branch.0"],
    ),
    "around all": (
        lambda: Head(Add(nn.Sequential(Add(bottleneck(C)), Add(bottleneck(C)), ConvNorm(C, C)))),
        ["blocks.0.branch.0.branch.0.0", "blocks.0.branch.1.branch.0.0"],
    ),
    "ViT of timm, DINOv2": (
        lambda: Vit(TokenBlock(Attention(), mlp()), TokenBlock(Attention(), SwiGlu())),
        ["blocks.0.attn.qkv", "blocks.0.mlp.0", "blocks.1.attn.qkv", "blocks.1.mlp.w12"],
    ),
    "ViT of transformers": (
        lambda: Vit(TokenBlock(ThreeMaps(), mlp())),
        ["blocks.0.norm1", "blocks.0.mlp.0"],
    ),
    "ViT of torchvision": (
        lambda: Vit(TokenBlock(Fused(), mlp())),
        ["blocks.0.norm1", "blocks.0.mlp.0"],
    ),
    "side by side": (
        lambda: Vit(SideBySide(Attention(), mlp())),
        ["blocks.0.attn.qkv", "blocks.0.mlp.0"],
    ),
    "one norm": (
        lambda: Vit(OneNorm(Attention(), mlp())),
        ["blocks.0.attn.qkv", "blocks.0.mlp.0"],
    ),
    "Swin of timm": (
        lambda: Swin(TokenBlock(Windows(True), mlp())),
        ["blocks.0.norm1", "blocks.0.mlp.0"],
    ),
    "Swin of torchvision": (
        lambda: Swin(TokenBlock(Windows(False), mlp())),
        ["blocks.0.norm1", "blocks.0.mlp.0"],
    ),
}
"""Networks and the layers that open their branches."""

REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "Swin V2": (
        lambda: Swin(NormsLast(Windows(True), mlp())),
        r"blocks\.0 adds opens with blocks\.0\.attn\.attention\.qkv, which.*found.*blocks\.0\.mlp",
    ),
    "Inception": (lambda: Head(SideBranches()), r"blocks\.0\.a and blocks\.0\.b.*sites="),
    "DenseNet": (lambda: Head(Dense()), r"Head adds no residual branch.*sites="),
    "a stack": (lambda: Head(ConvNorm(C, C)), r"Head adds no residual branch.*sites="),
    "other input": (lambda: nn.Linear(5, 5), r"Linear does not run on frames.*sites="),
}
"""Networks, and what is said of them."""
