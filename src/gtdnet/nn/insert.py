"""Putting a temporal module before the layer that opens each residual branch.

The layer itself becomes a :class:`gtdnet.nn.layers.TemporalLayer`: its weights keep their keys, the
module's are new ones beside them (``conv1.weight``, ``conv1.temporal.*``), so a 2D checkpoint loads
without any renaming, before or after.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from torch import nn

from gtdnet.errors import InputError
from gtdnet.nn.branches import open_branches
from gtdnet.nn.frames import check_num_segments
from gtdnet.nn.layers import (
    KINDS,
    TemporalConv2d,
    TemporalLayer,
    channels_of,
    check_divides,
    divide,
    give,
    takes_tokens,
)
from gtdnet.text import first_of


def insert_temporal(
    backbone: nn.Module,
    build: Callable[[int], nn.Module],
    sites: str | Sequence[str] | Callable[[str, Any], bool] | None = None,
    *,
    init: str = "default",
) -> list[str]:
    """Put ``build(channels)`` before the layer that opens each residual branch, in place.

    Args:
        backbone: the network; changed in place.
        build: gets the channels of the features, returns a module on [N*T, C, H, W]. Before linear
            maps and behind norms it gets tokens, [N*T, L, C] or [N*T, H, W, C], if it has an
            attribute ``channels_last`` (then set to True); else a view of them as maps.
        sites: None: the branches are found by what the network computes
            (:mod:`gtdnet.nn.branches`). Or glob patterns over module names ("layer4.*.conv1"), or a
            predicate (name, layer) -> bool. Both speak of convolutions; where they match none, of
            linear maps, and where they match none of these, of norms (LayerNorm, RMSNorm), behind
            which the module then stands.
        init: "identity" makes the changed network compute what it computed before, whatever its
            weights: modules start as a multiplication by what they call their ``identity_gain``,
            and the layer's weights are divided by it. A temporal shift stays one: a network
            trained with it expects it.

    Returns:
        The names of the layers that got a module, in network order.

    Raises:
        ValueError: nothing matches, a pattern matches nothing, a site already has a module, or
            ``init`` is "identity" and a module or layer has no such start.
    """
    if init not in ("default", "identity"):
        raise InputError(f"unknown init {init!r}: choose 'default' or 'identity'")
    names = find_sites(backbone, sites)
    layers = [_checked(backbone, name) for name in names]
    # All are built before the first is put in: a build that fails leaves the network as it was.
    modules = [build(channels_of(layer)) for layer in layers]
    gains = [start_at_identity(m) if init == "identity" else 1.0 for m in modules]
    for layer, module, gain in zip(layers, modules, gains, strict=True):
        check_divides(layer, gain)
        like = next(iter(layer.parameters()), None)
        if like is not None:
            module.to(like.device, like.dtype)
        module.train(layer.training)
    for layer, module, gain in zip(layers, modules, gains, strict=True):
        divide(layer, gain)
        give(layer, module)
    return names


def _checked(backbone: nn.Module, name: str) -> nn.Module:
    layer = backbone.get_submodule(name)
    if not isinstance(layer, KINDS):
        kinds = ", ".join(kind.__name__ for kind in KINDS)
        raise InputError(f"site {name!r} is a {type(layer).__name__}; it must be one of {kinds}")
    if isinstance(layer, TemporalLayer):
        raise InputError(f"site {name!r} already has a temporal module")
    if not takes_tokens(layer):
        raise InputError(
            f"site {name!r} is a {type(layer).__name__}, a norm of maps, not of tokens; take the "
            f"layer behind it"
        )
    return layer


def temporal_layers(model: nn.Module) -> list[tuple[str, TemporalLayer]]:
    """All layers that got a temporal module, with their names, in network order."""
    return [(n, m) for n, m in model.named_modules() if isinstance(m, TemporalLayer)]


def temporal_convs(model: nn.Module) -> list[tuple[str, TemporalConv2d]]:
    """The plain convolutions among :func:`temporal_layers`."""
    return [(n, m) for n, m in model.named_modules() if isinstance(m, TemporalConv2d)]


def set_num_segments(model: nn.Module, num_segments: int) -> None:
    """Tell every module of the network that holds a ``num_segments`` the new number of frames.

    Weights whose shape depends on T are not touched: see
    :func:`gtdnet.weights.fit.resize_segments`.
    """
    check_num_segments(num_segments)
    for module in model.modules():
        if hasattr(module, "num_segments"):
            module.num_segments = num_segments  # type: ignore[assignment]


def start_at_identity(temporal: nn.Module) -> float:
    """Make a temporal module multiply its input by a number, and return that number.

    A module states the number as ``identity_gain``, and makes it true in ``start_at_identity()``
    unless it always is; a Sequential's is the product of its modules'.

    Raises:
        ValueError: a module states none.
    """
    if type(temporal) is nn.Sequential:
        return math.prod(map(start_at_identity, temporal))
    gain = getattr(temporal, "identity_gain", None)
    if gain is None:
        raise InputError(
            f"{type(temporal).__name__} has no start at identity (it states no identity_gain); "
            f"insert it with init='default'"
        )
    if start := getattr(temporal, "start_at_identity", None):
        start()
    return float(gain)


def find_sites(
    backbone: nn.Module, sites: str | Sequence[str] | Callable[[str, Any], bool] | None
) -> list[str]:
    """The layers that ``sites`` means, as :func:`insert_temporal` has it, in network order."""
    layers = [(n, m) for n, m in backbone.named_modules() if isinstance(m, KINDS)]
    if sites is None:
        return open_branches(backbone)
    if callable(sites):
        matches = [sites]
    else:
        patterns = [sites] if isinstance(sites, str) else list(sites)
        matches = [partial(_is_named, pattern) for pattern in patterns]
    found: set[str] = set()
    for matching in matches:
        of_kinds = (
            {n for n, m in layers if isinstance(m, kind) and matching(n, m)} for kind in KINDS
        )
        matched = next(filter(None, of_kinds), set())
        if not matched and isinstance(matching, partial):
            kinds = ", ".join(kind.__name__ for kind in KINDS)
            raise InputError(
                f"site pattern {matching.args[0]!r} matches no layer of "
                f"{type(backbone).__name__} that can have a temporal module ({kinds}); it has "
                f"{first_of((n for n, _ in layers), 4)}"
            )
        found |= matched
    if not found:
        raise InputError(f"sites matches no layer of {type(backbone).__name__}")
    return [n for n, _ in layers if n in found]


def _is_named(pattern: str, name: str, layer: nn.Module) -> bool:
    return fnmatchcase(name, pattern)
