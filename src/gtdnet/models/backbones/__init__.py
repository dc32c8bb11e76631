"""2D networks, one file each: a new one is a file and a line here."""

from gtdnet.models.backbones import res2net, resnet  # noqa: F401  (they register themselves)
from gtdnet.models.backbones.base import BACKBONES, Backbone, BackboneKind, Block, register_backbone

__all__ = ["BACKBONES", "Backbone", "BackboneKind", "Block", "register_backbone"]
