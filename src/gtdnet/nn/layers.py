"""Layers with a temporal module: convolutions, linear maps and norms of any subclass.

An existing layer becomes one by changing its class (:func:`gtdnet.nn.insert_temporal`): its forward
runs as before, its weights keep their keys, the module's are new ones beside them. What the module
is given depends on the layer: before a convolution maps, [N*T, C, H, W]; before a linear map or
behind a layer norm tokens, [N*T, L, C] or [N*T, H, W, C]. Modules that know tokens say so by an
attribute ``channels_last``; all others get a view of the tokens as maps, of which a frame's tokens
are one column ([N*T, C, L, 1]).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from gtdnet.errors import InputError
from gtdnet.nn.fast import fast_features, fast_forward
from gtdnet.nn.frames import as_maps, as_tokens


class TemporalLayer(nn.Module):
    """A layer with a temporal module in front of it, or, with a norm, behind it."""

    temporal: nn.Module
    plain: type[nn.Module]
    """What the layer was."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Made anew from what it was: the classes of subclasses have no name to be found by."""
        return _remade, (self.plain,), self.__getstate__()


class _BeforeMaps(TemporalLayer):
    """[N*T, C, H, W] -> what the convolution makes of them."""

    def forward(self, input: Tensor) -> Tensor:
        seen = fast_features(self.temporal, input)
        return super().forward(self.temporal(input) if seen is None else seen)


class _BeforeTokens(TemporalLayer):
    """[N*T, ..., C] -> [N*T, ..., C']."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(on_tokens(self.temporal, input))


class _BehindTokens(TemporalLayer):
    """[N*T, ..., C] -> [N*T, ..., C]."""

    def forward(self, input: Tensor) -> Tensor:
        return on_tokens(self.temporal, super().forward(input))


class TemporalConv2d(_BeforeMaps, nn.Conv2d):
    """A 2D convolution that first lets its frames see each other.

    [N*T, C, H, W] -> [N*T, C', H', W']. It is ``super().forward(self.temporal(input))``, which
    :mod:`gtdnet.nn.fast` computes with fewer passes over the features where it can.
    """

    plain = nn.Conv2d

    def forward(self, input: Tensor) -> Tensor:
        output = fast_forward(self, self.temporal, input)
        return nn.Conv2d.forward(self, self.temporal(input)) if output is None else output


_MIXINS: dict[type[nn.Module], type[TemporalLayer]] = {
    nn.Conv2d: _BeforeMaps,
    nn.Linear: _BeforeTokens,
    nn.LayerNorm: _BehindTokens,
    nn.RMSNorm: _BehindTokens,
}
KINDS = tuple(_MIXINS)
"""The layers that can have a temporal module, with their subclasses."""


@cache
def temporal_class(plain: type[nn.Module]) -> type[TemporalLayer]:
    """The class of a layer of class ``plain`` with a temporal module."""
    if plain is nn.Conv2d:
        return TemporalConv2d
    mixin = next(mixin for kind, mixin in _MIXINS.items() if issubclass(plain, kind))
    return type(f"Temporal{plain.__name__}", (mixin, plain), {"plain": plain})


def _remade(plain: type[nn.Module]) -> TemporalLayer:
    made = temporal_class(plain)
    return made.__new__(made)


def channels_of(layer: Any) -> int:
    """C of the features that a temporal module of this layer is given."""
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels
    return layer.in_features if isinstance(layer, nn.Linear) else layer.normalized_shape[-1]


def takes_tokens(layer: nn.Module) -> bool:
    """False of a norm whose own forward has the channels elsewhere than on the last axis."""
    if not is_norm(layer) or type(layer) in KINDS:
        return True
    like = next(iter(layer.parameters()), torch.empty(0))
    x = torch.zeros(_example_shape(layer), device=like.device, dtype=like.dtype)
    try:
        with torch.no_grad():
            return layer(x).shape == x.shape
    except Exception:  # whatever a foreign layer raises
        return False


def give(layer: nn.Module, temporal: nn.Module) -> None:
    """Make a layer one with a temporal module, in place."""
    layer.__class__ = temporal_class(type(layer))
    parts = list(parts_of(temporal))
    if isinstance(layer, (_BeforeTokens, _BehindTokens)) and all(map(_knows_tokens, parts)):
        for part in parts:
            part.channels_last = True  # type: ignore[assignment]
    layer.temporal = temporal


def _knows_tokens(module: nn.Module) -> bool:
    return hasattr(module, "channels_last")


def parts_of(temporal: nn.Module) -> Iterator[nn.Module]:
    """The modules of a Sequential, also of one in another; or the module itself."""
    if type(temporal) is not nn.Sequential:
        yield temporal
        return
    for part in temporal:
        yield from parts_of(part)


def on_tokens(temporal: nn.Module, x: Tensor) -> Tensor:
    """A temporal module on tokens: [N*T, L, C] or [N*T, H, W, C] or [N*T, C] -> the same shape.

    Raises:
        ValueError: other axes, or a module with convolutions over H and W on tokens without them.
    """
    if all(getattr(part, "channels_last", False) for part in parts_of(temporal)):
        seen = fast_features(temporal, x, channels_last=True)
        return temporal(x) if seen is None else seen
    if x.ndim != 4:
        for part in parts_of(temporal):
            if getattr(part, "needs_maps", False):
                raise InputError(
                    f"{type(part).__name__} looks at neighbours along H and W, which tokens of "
                    f"shape {list(x.shape)} do not have; put it before a convolution, or take "
                    f"TemporalShift or GlobalTemporalDifference"
                )
    return as_tokens(temporal(as_maps(x)), x.ndim)


# ------------------------------------------------------------------------------------------ gains


def divide(layer: Any, gain: float) -> None:
    """Make a layer compute of ``gain`` times its input what it computed of it, in place.

    A norm, whose module stands behind it, is made to give the ``gain``-th part.
    """
    with torch.no_grad():
        for weight in _scaling(layer):
            weight.div_(gain)


def check_divides(layer: Any, gain: float) -> None:
    """Raise ValueError unless :func:`divide` does with this layer what it says."""
    if gain == 1:
        return
    what = f"a {type(layer).__name__} with a module of gain {gain:g}"
    remedy = "insert it with init='default'"
    if not _scaling(layer):
        raise InputError(f"{what} has no weights to take the gain back; {remedy}")
    if type(layer) in KINDS or layer.weight.is_meta:
        return
    x = torch.randn(_example_shape(layer), generator=torch.Generator().manual_seed(0))
    x = x.to(layer.weight)
    divided = copy.deepcopy(layer).eval()
    with torch.no_grad():
        wanted = divided(x)
        divide(divided, gain)
        found = divided(x) * gain if is_norm(layer) else divided(x * gain)
    if not torch.allclose(found, wanted, rtol=1e-2, atol=1e-2 * float(wanted.abs().max())):
        raise InputError(f"{what} does not scale with its weights; {remedy}")


def is_norm(layer: nn.Module) -> bool:
    """Whether a temporal module stands behind this layer, not in front of it."""
    return not isinstance(layer, (nn.Conv2d, nn.Linear))


def _scaling(layer: Any) -> list[Tensor]:
    names = ("weight", "bias") if is_norm(layer) else ("weight",)
    found = [getattr(layer, name, None) for name in names]
    return [weight for weight in found if weight is not None]


def _example_shape(layer: Any) -> tuple[int, ...]:
    if not isinstance(layer, nn.Conv2d):
        return 2, 3, channels_of(layer)
    sides = zip(layer.kernel_size, layer.dilation, layer.stride, strict=True)
    return 2, layer.in_channels, *((k - 1) * d + 1 + s for k, d, s in sides)
