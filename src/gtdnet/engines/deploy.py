"""Networks in the form that they are run in: norms folded, and for each engine its own modules.

What an engine runs computes what the network computes; only how it does so may differ.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gtdnet.data.spec import ClipSpec
from gtdnet.measure.watch import OperationWatch
from gtdnet.models.classifier import VideoClassifier
from gtdnet.nn import TemporalConv2d, temporal_convs

M = TypeVar("M", bound=nn.Module)
Form = Callable[[TemporalConv2d], nn.Module]
"""Makes of a convolution with its temporal module (a norm behind it folded in) a module that
computes the same, [N*T, C, H, W] -> [N*T, C', H', W'], and that an engine runs faster."""

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_MAPS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def deployable(model: M, form: Form | None = None) -> M:
    """A copy to be run by an engine, on the CPU and in eval mode; equal outputs.

    Batch norms are folded into the convolution or linear map before them (of a
    :class:`VideoClassifier`; another network keeps them), then convolutions with temporal modules
    take the form of the engine, if it has one.
    """
    deployed = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    if isinstance(deployed, VideoClassifier):
        for name, of_norm in _foldable_norms(deployed):
            layer, norm = deployed.get_submodule(name), deployed.get_submodule(of_norm)
            rest = _behind(norm)
            if rest is not None and _scales(layer):
                _fold(layer, norm)
                deployed.set_submodule(of_norm, rest)
    if form is not None:
        for name, conv in temporal_convs(deployed):
            deployed.set_submodule(name, form(conv))
    return deployed


class FromFrames(nn.Module):
    """A network with the normalisation of its frames in front of it.

    clips uint8 [N, T*f, 3, H, W] -> logits float32 [N, K].

    ``model`` maps normalised clips to logits. Its weights are converted to ``dtype``, in place, but
    for those of modules that keep their precision.
    """

    scale: Tensor
    offset: Tensor

    def __init__(
        self, model: nn.Module, spec: ClipSpec, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.model = model.to(dtype)
        for module in model.modules():
            if getattr(module, "keeps_precision", False):
                module.float()
        self.dtype = dtype
        # (value / 255 - mean) / std as one product and one sum.
        mean, std = (torch.tensor(v, dtype=torch.float64) for v in (spec.mean, spec.std))
        self.register_buffer("scale", (1 / (255 * std)).float().view(3, 1, 1))
        self.register_buffer("offset", (-mean / std).float().view(3, 1, 1))

    def forward(self, clips: Tensor) -> Tensor:
        normalised = clips.float() * self.scale + self.offset
        return self.model(normalised.to(self.dtype)).float()


# ------------------------------------------------------------------------------- folding of norms


@dataclass
class _Output:
    """What a convolution or linear map gave at one time, and the norm that took it."""

    tensor: Tensor
    layer: str
    norm: str | None = None


def _foldable_norms(model: VideoClassifier) -> list[tuple[str, str]]:
    """(layer, norm) of each norm that takes nothing but one layer's output, used nowhere else.

    Found by following the tensors of one pass on shapes alone, so names and places do not matter.
    """
    if not any(isinstance(module, _NORMS) for module in model.modules()):
        return []
    shadow = copy.deepcopy(model).to("meta")
    uses: Counter[int] = Counter()  # how often operations take each tensor, by identity
    outputs: dict[int, _Output] = {}  # by identity; kept alive, so that no other tensor gets it
    inputs: dict[
        str, set[str | None]
    ] = {}  # the layers whose outputs each norm takes; None: others

    def gave(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, out: Tensor) -> None:
            # A linear map's last axis is a norm's second one in [N, C] alone.
            if out.ndim == 2 or not isinstance(module, nn.Linear):
                outputs[id(out)] = _Output(out, name)
                uses[id(out)] = 0

        return hook

    def takes(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            output = outputs.get(id(args[0]))
            inputs.setdefault(name, set()).add(output.layer if output else None)
            if output:
                output.norm = name

        return hook

    for name, module in shadow.named_modules():
        if isinstance(module, _MAPS):
            module.register_forward_hook(gave(name))
        elif isinstance(module, _NORMS) and module.running_mean is not None:
            module.register_forward_pre_hook(takes(name))
    frames = model.num_segments * model.frames_per_segment
    with torch.no_grad(), OperationWatch(lambda taken, given: uses.update(map(id, taken))):
        shadow(torch.empty(1, frames, 3, 224, 224, device="meta"))
    pairs = []
    for norm, layers in inputs.items():
        (layer, *others) = layers
        of_layer = [o for o in outputs.values() if o.layer == layer]
        used_alone = all(o.norm == norm and uses[id(o.tensor)] == 1 for o in of_layer)
        if layer is not None and not others and used_alone:
            pairs.append((layer, norm))
    return pairs


def _behind(norm: nn.Module) -> nn.Module | None:
    """What a norm computes after it has normalised; None where that cannot be told.

    Norms of other packages may be one module with the activation behind them (timm's are).
    """
    if type(norm).forward is nn.BatchNorm2d.forward:
        return nn.Identity()
    if not isinstance(norm, nn.BatchNorm2d):
        return None
    rest = nn.Sequential(*norm.children())
    values: Any = norm
    x = 3 * torch.randn(2, values.num_features, 3, 3, generator=_seeded())
    with torch.no_grad():
        plain = nn.functional.batch_norm(
            x, values.running_mean, values.running_var, values.weight, values.bias, eps=values.eps
        )
        return rest if torch.allclose(norm(x), rest(plain), rtol=1e-4, atol=1e-5) else None


def _scales(layer: Any) -> bool:
    """Whether a layer's output is its input times its weights: not if it changes these itself."""
    kind = getattr(layer, "plain", type(layer))
    if kind in _MAPS:
        return True
    other = copy.deepcopy(layer)
    other.__class__ = kind  # without its temporal module
    if isinstance(layer, nn.Linear):
        channels, sides = layer.in_features, []
    else:
        channels = layer.in_channels
        sides = [(k - 1) * d + 2 for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    x = torch.randn(2, channels, *sides, generator=_seeded())
    factors = torch.rand(len(layer.weight), generator=_seeded()) + 0.5
    with torch.no_grad():
        bias = 0 if layer.bias is None else layer.bias.view(-1, *[1] * len(sides))
        wanted = (other(x) - bias) * factors.view(-1, *[1] * len(sides))
        other.weight.mul_(factors.view(-1, *[1] * (layer.weight.ndim - 1)))
        found = other(x) - bias
    return torch.allclose(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _fold(layer: nn.Module, norm: nn.Module) -> None:
    """Make ``norm(layer(x))`` the layer itself, in place; the norm in eval mode."""

    def values(module: nn.Module, name: str, absent: float = 0.0) -> Tensor:
        found = getattr(module, name)
        return torch.tensor(absent, dtype=torch.float64) if found is None else found.double()

    deviation = (values(norm, "running_var") + norm.eps).sqrt()  # type: ignore[operator]
    scale = values(norm, "weight", 1.0) / deviation  # [C']
    weight = values(layer, "weight")
    bias = (values(layer, "bias") - values(norm, "running_mean")) * scale + values(norm, "bias")
    weight = weight * scale.view(-1, *[1] * (weight.ndim - 1))
    for name, value in (("weight", weight), ("bias", bias)):
        setattr(layer, name, nn.Parameter(value.float(), requires_grad=False))
