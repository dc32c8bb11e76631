"""Named models: a method on a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from gtdnet.errors import InputError, check_at_least, suggestion
from gtdnet.models.backbones import BACKBONES, FAMILIES, Backbone, BackboneKind
from gtdnet.models.classifier import VideoClassifier
from gtdnet.models.methods import METHODS, Method, check_stages
from gtdnet.weights.fit import BackboneWeights
from gtdnet.weights.published import find_weights

COMMON_OPTIONS: Mapping[str, Any] = {"dropout": 0.5, "stages": None, "every": 1}
"""Options of every model, beside its backbone's and its method's; stages depend on both."""


class Parts(NamedTuple):
    """What a named model is made of."""

    method: Method
    backbone: BackboneKind


def model_name(method: str, backbone: str) -> str:
    """The name of the model that a method makes on a backbone.

    Raises:
        ValueError: there is no such method or backbone, or the one cannot live on the other.
    """
    for name, parts in _models().items():
        if (parts.method.name, parts.backbone.name) == (method, backbone):
            return name
    name = f"{method}_{backbone}"
    if _of_family(name) is None:
        raise InputError(f"there is no model of method {method!r} on backbone {backbone!r}")
    return name


def list_models() -> list[str]:
    """Names that :func:`create_model` knows, by method and backbone.

    Those on networks of other packages are not among them: :func:`find_models`.
    """
    return list(_models())


def find_models(pattern: str) -> list[str]:
    """Names that match a pattern ("*_resnet50"); of other packages ("gtdnet_timm/*resnet*").

    Raises:
        ValueError: the pattern is of networks of a package that is not installed.
    """
    names = [name for name in _models() if fnmatchcase(name, pattern)]
    for family in FAMILIES.values():
        head, found, tail = pattern.partition(family.prefix)
        if found:
            methods = [m for m in METHODS.values() if fnmatchcase(f"{m.name}_", head)]
            for network in family.names(tail):
                kind = f"{family.prefix}{network}"
                names += [f"{m.name}_{kind}" for m in methods if _lives_anywhere(m)]
    return names


def _lives_anywhere(method: Method) -> bool:
    return method.lives_on is Backbone


def _of_family(name: str) -> Parts | None:
    """What a model on a network of another package is made of; None of no such name.

    Raises:
        ValueError: the package is not installed or has no such network, or the method cannot live
            there.
    """
    for family in FAMILIES.values():
        for method in METHODS.values():
            place = name.removeprefix(f"{method.name}_")
            if place == name or not place.startswith(family.prefix):
                continue
            if not _lives_anywhere(method):
                own = [n for n, parts in _models().items() if parts.method is method]
                there = [f"{m.name}_{place}" for m in METHODS.values() if _lives_anywhere(m)]
                raise _lives_elsewhere(name, method, own, there)
            return Parts(method, family.kind(place))
    return None


def _lives_elsewhere(name: str, method: Method, own: list[str], there: list[str]) -> InputError:
    """The complaint about a model of a method that was made for another kind of network."""
    place = name.removeprefix(f"{method.name}_")
    return InputError(
        f"there is no {name}: {method.name} was made for another kind of network; its models are "
        f"{', '.join(own)}, those on {place} are {', '.join(there)}"
    )


def parts_of(name: str) -> Parts:
    """Method and backbone of a named model.

    Raises:
        ValueError: no model of that name.
    """
    models = _models()
    if name not in models:
        if found := _of_family(name):
            return found
        for method in METHODS.values():
            place = name.removeprefix(f"{method.name}_")
            if place != name and place in BACKBONES:
                own = [n for n, parts in models.items() if parts.method is method]
                there = [n for n, parts in models.items() if parts.backbone.name == place]
                raise _lives_elsewhere(name, method, own, there)
        of_others = ", ".join(f"METHOD_{prefix}NAME" for prefix in FAMILIES)
        raise InputError(
            f"unknown model {name!r}{suggestion(name, models)}: choose one of "
            f"{', '.join(models)}, {of_others}; for one of a package of your own, import that "
            f"first (--import PACKAGE)"
        )
    return models[name]


def model_options(name: str) -> dict[str, Any]:
    """The options of a named model with their defaults.

    Raises:
        ValueError: no model of that name.
    """
    method, backbone = parts_of(name)
    stages = backbone.network.stages[method.skipped_stages :]
    return {**backbone.network.options, **COMMON_OPTIONS, "stages": stages, **method.options}


def frames_per_segment(name: str) -> int:
    """Neighbouring frames that make one segment of a named model's input.

    Raises:
        ValueError: no model of that name.
    """
    return parts_of(name).method.frames_per_segment


def spec_values(name: str) -> dict[str, Any]:
    """Values of :class:`gtdnet.ClipSpec` that a named model's input must have.

    Raises:
        ValueError: no model of that name.
    """
    method, backbone = parts_of(name)
    return {**backbone.network.spec, "frames_per_segment": method.frames_per_segment}


def floor(name: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The network that a named model is made of: its name, and those of the options it has.

    Raises:
        ValueError: no model of that name.
    """
    method, backbone = parts_of(name)
    own = {key: value for key, value in options.items() if key in backbone.network.options}
    return model_name(method.floor, backbone.name), own


def create_model(
    name: str,
    num_classes: int,
    num_segments: int = 8,
    *,
    pretrained: str | Path | Mapping[str, Tensor] | None = None,
    init: str = "auto",
    **options: Any,
) -> VideoClassifier:
    """Build a named model: normalised clips [N, T*f, 3, H, W] -> logits [N, K].

    f is 1 for all models but those that look at several neighbouring frames of each segment
    (:func:`frames_per_segment`).

    Args:
        name: one of :func:`list_models`.
        num_classes: K.
        num_segments: T.
        pretrained: weights of the backbone to start from: "imagenet", "imagenet-v2", ... (published
            ones, downloaded once), hf://user/name (a model or a timm ResNet on the hub), a state
            dict with torchvision's keys, or the path of a ``.safetensors`` or ``.pth`` file that
            holds one, or a model file of this package (loading never unpickles code). Trained
            temporal modules among them are taken over, whatever ``init`` says, fitted to this T;
            they must be this model's (a network without learned ones, as TSM, leaves them out).
            The classifier stays new.
        init: of temporal modules that come with no weights. "identity" makes a GTDNet start as
            exactly the function of the TSM network with the same 2D weights and fold_div: its
            gates change nothing until they are trained; the peers cannot. "default": PyTorch's
            initial values, or those of the method's paper. "auto": identity for 2D weights where
            the method can, else default.
        options: see :func:`model_options`; of every model: dropout, stages (which of the
            backbone's stages get the temporal module), every (1: all their blocks; 2: every second
            one, as the published ResNet-101s of TSM and ACTION-Net); of most backbones: width
            (channel multiplier).

    Raises:
        ValueError: unknown name or option, an option out of range, or weights that do not fit or
            cannot be downloaded.
    """
    method, kind = parts_of(name)
    chosen = _chosen(name, options)
    if init not in ("auto", "default", "identity"):
        raise InputError(f"unknown init {init!r}: choose 'auto', 'default' or 'identity'")
    if init == "identity" and not method.identity:
        raise InputError(
            f"{name} cannot start at identity; give init auto, for the start of its paper"
        )
    backbone = kind.build(**{key: chosen[key] for key in kind.network.options})
    model = VideoClassifier(
        backbone,
        backbone.num_features,
        num_classes,
        num_segments,
        chosen["dropout"],
        frames_per_segment=method.frames_per_segment,
    )
    stages = check_stages(chosen["stages"], backbone.stages)
    chosen["stages"] = list(stages)  # as JSON gives it back
    check_at_least(1, every=chosen["every"])
    if isinstance(pretrained, (str, Path)):
        pretrained = kind.network.published(pretrained)
        pretrained = find_weights(pretrained, kind.weights, chosen.get("width", 1.0))
    weights = None if pretrained is None else BackboneWeights.read(pretrained)
    if init == "auto":
        init = "identity" if weights and method.identity else "default"
    if weights:
        weights.load_plain(backbone)
    if method.insert is not None:
        of_stages = (
            [b for b in backbone.residual_blocks() if b.stage == stage] for stage in stages
        )
        blocks = [block for those in of_stages for block in those[:: chosen["every"]]]
        arguments = {key: chosen[key] for key in method.options}
        method.insert(backbone, blocks, num_segments, init, **arguments)
    if weights:
        weights.load_temporal(backbone)
    model.name, model.options = name, chosen
    return model


def _models() -> dict[str, Parts]:
    """All models by name: each method on each backbone that it can live on.

    Raises:
        ValueError: two pairs of method and backbone make models of one name.
    """
    models: dict[str, Parts] = {}
    for method in METHODS.values():
        for backbone in BACKBONES.values():
            if issubclass(backbone.network, method.lives_on):
                place = method.also_called.get(backbone.name, backbone.name)
                parts = Parts(method, backbone)
                other = models.setdefault(name := f"{method.name}_{place}", parts)
                if other is not parts:
                    raise InputError(
                        f"two models would be called {name!r}: method {other.method.name!r} on "
                        f"backbone {other.backbone.name!r} and method {method.name!r} on backbone "
                        f"{backbone.name!r}; give one of them another name"
                    )
    return models


_KINDS: dict[type, tuple[tuple[type, ...], str]] = {  # by the default's type: allowed, words
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "text"),
}


def _chosen(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a named model; ValueError for an unknown one, or one of another type."""
    known = model_options(name)
    for key, value in options.items():
        if key not in known:
            raise InputError(
                f"{name} has no option {key!r}{suggestion(key, known)}; its options are "
                f"{', '.join(known)}"
            )
        kinds, words = _KINDS.get(type(known[key]), ((object,), ""))
        is_kind = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
        if words and not is_kind:
            raise InputError(f"{name}: {key} must be {words}, got {value!r}")
    return {**known, **options}
