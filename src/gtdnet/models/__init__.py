"""2D ResNets made into clip classifiers, named models, and their files."""

from gtdnet.models.backbones.resnet import ResNet
from gtdnet.models.build import create_model, list_models, model_options
from gtdnet.models.classifier import VideoClassifier
from gtdnet.models.model_file import ModelFile, load_model, save_model

__all__ = [
    "ModelFile",
    "ResNet",
    "VideoClassifier",
    "create_model",
    "list_models",
    "load_model",
    "model_options",
    "save_model",
]
