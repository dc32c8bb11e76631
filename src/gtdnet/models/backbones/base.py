"""What a backbone says of itself, and the table of all there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
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
        packages: versions, by name, of other packages whose code the network is.
    """

    num_features: int
    options: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    stages: ClassVar[tuple[int, ...]] = (2, 3, 4, 5)
    spec: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    packages: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def residual_blocks(self) -> list[Block]:
        """Its residual blocks in their order."""
        raise NotImplementedError

    def modules_up_to(self, stage: int) -> Iterator[str]:
        """Names of the modules that come before those of the next stage, the stem's among them.

        They are all that stand before them in the order of their registration.
        """
        blocks = self.residual_blocks()
        inside = {block.name.rpartition(".")[0] for block in blocks if block.stage <= stage}
        later = next((block.name for block in blocks if block.stage > stage), None)
        if later and (group := later.rpartition(".")[0]) and group not in inside:
            later = group  # its first block may have no shortcut, and so not be among the blocks
        for name, _ in self.named_modules():
            if name == later:
                return
            yield name

    @classmethod
    def published(cls, source: str | Path) -> str | Path:
        """Where the weights lie that ``source`` means for this network, if it knows better.

        Raises:
            ValueError: it knows that there are none.
        """
        return source

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


@dataclass(frozen=True)
class Family:
    """Backbones of another package, each made known when it is asked for by name.

    Attributes:
        prefix: begins their names ("timm/").
        title: what they are, for lists.
        network: the rest of a name -> the backbone's class, the same one every time; ValueError
            where there is none.
        names: a pattern -> the names that match it, without the prefix.
    """

    prefix: str
    title: str
    network: Callable[[str], type[Backbone]]
    names: Callable[[str], list[str]]

    def kind(self, name: str) -> BackboneKind:
        """The backbone of a name that begins with the prefix; ValueError if there is none."""
        return BackboneKind(name, self.network(name.removeprefix(self.prefix)), (), name)


FAMILIES: dict[str, Family] = {}
"""By prefix, in the order of registration."""


def register_family(family: Family) -> None:
    """Make a family known: models METHOD_PREFIXNAME come to be, for methods that live anywhere.

    Raises:
        ValueError: another family has that prefix.
    """
    if FAMILIES.setdefault(family.prefix, family) is not family:
        raise InputError(f"there is a family of backbones {family.prefix!r} already")
