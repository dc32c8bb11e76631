"""Named models, which are methods on backbones; clip classifiers; model files."""

from gtdnet.models.backbones import Backbone, Block, register_backbone
from gtdnet.models.backbones.resnet import ResNet
from gtdnet.models.build import create_model, list_models, model_options
from gtdnet.models.classifier import VideoClassifier
from gtdnet.models.methods import Method, before_layer, register_method
from gtdnet.models.model_file import ModelFile, load_model, save_model

__all__ = [
    "Backbone",
    "Block",
    "Method",
    "ModelFile",
    "ResNet",
    "VideoClassifier",
    "before_layer",
    "create_model",
    "list_models",
    "load_model",
    "model_options",
    "register_backbone",
    "register_method",
    "save_model",
]
