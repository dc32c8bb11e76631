"""2D networks, one file each: a new one is a file and a line here."""

from gtdnet.models.backbones import resnet  # noqa: F401  (they register themselves)

# isort: split
from gtdnet.models.backbones import convnext, efficientnet_lite, res2net, timm, vit  # noqa: F401
from gtdnet.models.backbones.base import (
    BACKBONES,
    FAMILIES,
    Backbone,
    BackboneKind,
    Block,
    Family,
    register_backbone,
    register_family,
)

__all__ = [
    "BACKBONES",
    "FAMILIES",
    "Backbone",
    "BackboneKind",
    "Block",
    "Family",
    "register_backbone",
    "register_family",
]
