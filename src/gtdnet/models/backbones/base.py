"""What a backbone says of itself, and the table of all there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor, nn

from gtdnet.errors import InputError


@dataclass(frozen=True)
class Block:
    """A residual block.

    Attributes:
        name: of its module in the backbone ("layer2.0").
        stage: its stage, by the papers' numbers: the first of four residual stages is 2.
        branch: the layers of its residual branch in their order ("layer2.0.conv1", ...). The first
            opens the branch; temporal modules go before one of them.
    """

    name: str
    stage: int
    branch: tuple[str, ...]


class Backbone(nn.Module):
    """A 2D network without its classifier: [N, 3, H, W] -> features [N, C] or maps [N, C, h, w].

    Attributes:
        num_features: C.
        options: of the constructor, beside the arguments of :func:`register_backbone`, with their
            defaults; users may set them.
        stages: the stages that its blocks are in.
        spec: values of :class:`gtdnet.ClipSpec` that its published weights expect (mean, std).
    """

    num_features: int
    options: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    stages: ClassVar[tuple[int, ...]] = (2, 3, 4, 5)
    spec: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def residual_blocks(self) -> list[Block]:
        """Its residual blocks in their order."""
        raise NotImplementedError

    def own_keys(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Published weights, under whatever names, by this network's own; others stay as they are.

        A classifier's are called fc, classifier or head.
        """
        return dict(tensors)


@dataclass(frozen=True)
class BackboneKind:
    """A backbone with a name, not yet built.

    Attributes:
        name: "resnet50".
        network: its class.
        arguments: what makes this one of the class ("50").
        weights: the network whose published weights it takes; mostly its own name.
    """

    name: str
    network: type[Backbone]
    arguments: tuple[Any, ...]
    weights: str

    def build(self, **options: Any) -> Backbone:
        """The network; options as of its class.

        Raises:
            ValueError: an option out of range.
        """
        return self.network(*self.arguments, **options)


BACKBONES: dict[str, BackboneKind] = {}
"""By name, in the order of registration."""


def register_backbone(
    name: str, network: type[Backbone], *arguments: Any, weights: str | None = None
) -> None:
    """Make a backbone known: models METHOD_NAME come to be, for the methods that can live on it.

    Args:
        name: the last part of the models' names.
        network: its class.
        arguments: of the class, before its options.
        weights: the network whose published weights it takes; default: ``name``.

    Raises:
        ValueError: another backbone has that name, or ``network`` is no :class:`Backbone`.
    """
    if not (isinstance(network, type) and issubclass(network, Backbone)):
        raise InputError(f"backbone {name!r}: {network!r} is no subclass of Backbone")
    kind = BackboneKind(name, network, arguments, weights or name)
    if BACKBONES.setdefault(name, kind) != kind:
        raise InputError(f"there is a backbone {name!r} already; choose another name")
