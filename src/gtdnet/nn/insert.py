"""Putting a temporal module before the convolution that opens each residual branch.

The convolution itself becomes a :class:`TemporalConv2d`: its weights keep their keys, the module's
are new ones beside them (``conv1.weight``, ``conv1.temporal.*``), so a 2D checkpoint loads without
any renaming, before or after.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from gtdnet.errors import InputError
from gtdnet.nn.fast import fast_forward
from gtdnet.nn.frames import check_num_segments
from gtdnet.text import first_of


class TemporalConv2d(nn.Conv2d):
    """A 2D convolution that first lets its frames see each other.

    [N*T, C, H, W] -> [N*T, C', H', W']; made from an existing convolution by
    :func:`insert_temporal`. It is ``super().forward(self.temporal(input))``, which
    :mod:`gtdnet.nn.fast` computes with fewer passes over the features where it can.
    """

    temporal: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        output = fast_forward(self, self.temporal, input)
        return super().forward(self.temporal(input)) if output is None else output


def insert_temporal(
    backbone: nn.Module,
    build: Callable[[int], nn.Module],
    sites: str | Sequence[str] | Callable[[str, nn.Conv2d], bool] | None = None,
    *,
    init: str = "default",
) -> list[str]:
    """Put ``build(channels)`` before the convolution that opens each residual branch, in place.

    Works on any 2D residual network whose blocks name their convolutions conv1, conv2, ... (this
    package's, torchvision's, timm's); other layouts say where by ``sites``.

    Args:
        backbone: the network; changed in place.
        build: gets the convolution's input channels, returns a module on [N*T, C, H, W].
        sites: None: the ``conv1`` of every module that also has a ``conv2`` (the root, whose conv1
            is the stem, excepted). Or glob patterns over module names ("layer4.*.conv1"), or a
            predicate (name, convolution) -> bool.
        init: "identity" makes the changed network compute what it computed before, whatever its
            weights: modules start as a multiplication by what they call their ``identity_gain``,
            and the convolution is divided by it. A temporal shift stays one: a network trained
            with it expects it.

    Returns:
        The names of the convolutions that got a module, in network order.

    Raises:
        ValueError: nothing matches, a pattern matches nothing, a site already has a module, or
            ``init`` is "identity" and a module has no such start.
    """
    if init not in ("default", "identity"):
        raise InputError(f"unknown init {init!r}: choose 'default' or 'identity'")
    names = _find_sites(backbone, sites)
    convs: list[nn.Conv2d] = []
    for name in names:
        conv = backbone.get_submodule(name)
        if not isinstance(conv, nn.Conv2d):
            raise InputError(f"site {name!r} is a {type(conv).__name__}, not a Conv2d")
        if isinstance(conv, TemporalConv2d):
            raise InputError(f"site {name!r} already has a temporal module")
        if type(conv) is not nn.Conv2d:
            raise InputError(
                f"site {name!r} is a {type(conv).__name__}, which has a forward of its own; "
                f"replace it by a plain Conv2d first"
            )
        convs.append(conv)
    # All are built before the first is put in: a build that fails leaves the network as it was.
    modules = [
        build(c.in_channels).to(c.weight.device, c.weight.dtype).train(c.training) for c in convs
    ]
    gains = [start_at_identity(m) if init == "identity" else 1.0 for m in modules]
    for conv, module, gain in zip(convs, modules, gains, strict=True):
        conv.__class__ = TemporalConv2d
        conv.temporal = module
        with torch.no_grad():
            conv.weight.div_(gain)
    return names


def temporal_convs(model: nn.Module) -> list[tuple[str, TemporalConv2d]]:
    """All convolutions that got a temporal module, with their names, in network order."""
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


def _find_sites(
    backbone: nn.Module, sites: str | Sequence[str] | Callable[[str, nn.Conv2d], bool] | None
) -> list[str]:
    convs = [(n, m) for n, m in backbone.named_modules() if isinstance(m, nn.Conv2d)]
    if sites is None:
        names = _opening_convs(backbone)
        if not names:
            raise InputError(
                f"{type(backbone).__name__} has no residual block with conv1 and conv2; "
                f"name the convolutions by sites=, e.g. sites='layers.*.conv'"
            )
        return names
    if callable(sites):
        names = [n for n, m in convs if sites(n, m)]
    else:
        patterns = [sites] if isinstance(sites, str) else list(sites)
        for pattern in patterns:
            if not any(fnmatchcase(n, pattern) for n, _ in convs):
                raise InputError(
                    f"site pattern {pattern!r} matches no convolution of "
                    f"{type(backbone).__name__}; it has {first_of((n for n, _ in convs), 4)}"
                )
        names = [n for n, _ in convs if any(fnmatchcase(n, p) for p in patterns)]
    if not names:
        raise InputError(f"sites matches no convolution of {type(backbone).__name__}")
    return names


def _opening_convs(backbone: nn.Module) -> list[str]:
    names = []
    for name, block in backbone.named_modules():
        children = dict(block.named_children())
        if not name or "conv1" not in children or "conv2" not in children:
            continue
        # timm's RegNets and some others wrap convolution, norm and activation in one child.
        for inner, module in children["conv1"].named_modules():
            if isinstance(module, nn.Conv2d):
                names.append(".".join(p for p in (name, "conv1", inner) if p))
                break
    return names
