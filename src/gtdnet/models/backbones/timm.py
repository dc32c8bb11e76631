"""Any network of timm (PyTorch Image Models): ``timm/NAME``, with or without a tag of its weights.

timm makes the network and says how big its pictures are and how they are normalised; where its
residual branches open is found by following the tensors (:mod:`gtdnet.nn.branches`). timm is
imported where such a network is asked for, and never needed for others. Its own downloads are not
used, as they may unpickle: weights come as safetensors from the hub, or from a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gtdnet.data.spec import INTERPOLATIONS
from gtdnet.errors import InputError, suggestion
from gtdnet.models.backbones.base import Backbone, Block, Family, register_family
from gtdnet.nn.branches import find_blocks
from gtdnet.nn.insert import find_sites
from gtdnet.text import first_line, first_of

PREFIX = "timm/"
USUAL_SIZE = 224
"""Side of the pictures of a network that takes one size alone, if that of its weights is larger
than 256 (DINOv2's are of 518): learned positions are interpolated to it."""


class TimmNetwork(Backbone):
    """A network of timm without its classifier: [N, 3, H, W] -> [N, C], or maps [N, C, h, w].

    Maps where nothing but their mean comes before the classifier; else what its own head gives (the
    class token, the mean over tokens, maps pooled and normalised). Subclasses are made by
    :func:`network_of`, one for each name.

    Args:
        sites: pattern of the layers where temporal modules go, with commas between several; "":
            those found by what the network computes.
        drop_path: probability with which a branch is left out in training, of the last block (of
            earlier ones less), frame by frame.
        image_size: side of the pictures; only of networks that take one size alone.

    Attributes:
        timm_name: its name in timm.
        feature_size: channels of its output.
        has_maps: whether the output is maps.
        ends: the last module of each stage that timm tells of (``feature_info``), in their order.
    """

    timm_name: ClassVar[str]
    feature_size: ClassVar[int]
    has_maps: ClassVar[bool]
    ends: ClassVar[Mapping[int, str]]

    def __init__(self, sites: str = "", drop_path: float = 0.0, image_size: int = 0) -> None:
        super().__init__()
        if not 0 <= drop_path < 1:
            raise InputError(f"drop_path must be in [0, 1), got {drop_path}")
        self.network = _build(self.timm_name, drop_path, image_size)
        self.num_features = self.feature_size
        self.image_size, self.sites = image_size, sites

    def forward(self, x: Tensor) -> Tensor:
        height, width = int(x.shape[2]), int(x.shape[3])
        if self.image_size and not height == width == self.image_size:
            raise InputError(
                f"{PREFIX}{self.timm_name} takes frames of {self.image_size}x{self.image_size} "
                f"pixels, got {height}x{width}; give crop_size {self.image_size}, or "
                f"--model_options.image_size {height}"
            )
        return self.network.forward_features(x) if self.has_maps else self.network(x)  # type: ignore[operator]

    def residual_blocks(self) -> list[Block]:
        if self.sites:
            patterns = [pattern.strip() for pattern in self.sites.split(",")]
            found = {name: name.rpartition(".")[0] for name in find_sites(self.network, patterns)}
        else:
            found = _openings(type(self))
        places = {name: at for at, (name, _) in enumerate(self.network.named_modules())}
        order = sorted(found, key=lambda site: places[site])
        return [
            Block(f"network.{found[site]}", self._stage(places, site), (f"network.{site}",))
            for site in order
        ]

    def _stage(self, places: Mapping[str, int], site: str) -> int:
        """The first whose end comes after the layer, or is around it."""
        for stage, end in self.ends.items():
            if site.startswith(f"{end}.") or places[site] <= places[end]:
                return max(stage, self.stages[0])
        return self.stages[-1]

    def modules_up_to(self, stage: int) -> Iterator[str]:
        if not self.ends:
            raise InputError(
                f"frozen_stages={stage}: timm does not say what the stages of {self.timm_name} "
                f"are; give 0"
            )
        ends = [end for number, end in self.ends.items() if number <= stage]
        if not ends:  # the stem alone
            yield from super().modules_up_to(stage)
            return
        end, inside = f"network.{ends[-1]}", False
        for name, _ in self.named_modules():
            if name == end or name.startswith(f"{end}."):
                inside = True
            elif inside:
                return
            yield name

    @classmethod
    def published(cls, source: str | Path) -> str | Path:
        if str(source) not in ("imagenet", "timm"):
            return source
        cfg = _cfg(cls.timm_name)
        name, tag = f"{PREFIX}{cls.timm_name}", str(cfg.get("tag") or "untagged")
        if str(source) == "imagenet" and not re.search(r"in(1|12|21|22)k|imagenet", tag):
            raise InputError(
                f"{source}: timm's weights of {name} are called {tag}, not ImageNet's; "
                f"--pretrained timm takes them as they are"
            )
        repository, file = cfg.get("hf_hub_id"), cfg.get("hf_hub_filename")
        if repository and (file is None or str(file).endswith(".safetensors")):
            return f"hf://{repository}" + (f"/{file}" if file else "")
        place = f"hf://{repository}/{file}" if repository else cfg.get("url")
        if place:
            raise InputError(
                f"{source}: timm has the weights of {name} ({tag}) only as a pickled file, which "
                f"is not loaded by name; get {place} yourself and give its path"
            )
        raise InputError(f"{source}: timm has no weights of {name}; give a file of your own")

    def own_keys(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """From timm's own names, by timm's own way of fitting them (positions to the size).

        Raises:
            ValueError: they do not fit.
        """
        if any(key.startswith("network.") for key in tensors):  # of a model file
            return dict(tensors)
        classifiers = _cfg(self.timm_name).get("classifier") or ()
        classifiers = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
        heads = tuple(f"{name}." for name in classifiers)
        plain = {key: value for key, value in tensors.items() if not key.startswith(heads)}
        if not plain:  # timm would download its own in their place
            raise InputError(f"the weights do not fit timm's {self.timm_name}: there are none")
        fitted = _build(self.timm_name, 0.0, self.image_size, plain)
        return {f"network.{key}": value for key, value in fitted.state_dict().items()}


@cache
def network_of(name: str) -> type[TimmNetwork]:
    """The class of one of timm's networks.

    Raises:
        ValueError: timm is not installed or has no such network, or it does not make one vector or
            map of each frame.
    """
    timm = _timm()
    architecture, _, tag = name.partition(".")
    known = timm.list_models()
    if architecture not in known:  # nothing else: timm takes paths and hubs of others' code too
        raise InputError(
            f"timm {timm.__version__} has no network {architecture!r}"
            f"{suggestion(architecture, known)}; gtdnet models 'tsn_timm/*resnet*' lists some"
        )
    try:
        cfg = _cfg(name)
    except RuntimeError as error:
        tags = [n.partition(".")[2] for n in timm.list_pretrained(f"{architecture}.*")]
        raise InputError(
            f"timm has no weights {tag!r} of {architecture}; it has {first_of(tags, 6)}"
        ) from error
    size = int(cfg["input_size"][1])
    if is_fixed := bool(cfg.get("fixed_input_size")):
        size = size if size <= 256 else USUAL_SIZE
    network = _on_meta(name, size if is_fixed else 0)
    frames = torch.empty(2, 3, size, size, device="meta")
    try:
        with torch.no_grad():
            features = network(frames)
            maps = network.forward_features(frames) if _ends_in_a_mean(network) else features  # type: ignore[operator]
    except Exception as error:  # whatever a network raises that is not made for frames
        raise InputError(
            f"timm's {name} does not run on frames [N, 3, {size}, {size}] alone "
            f"({first_line(error)}), so it cannot be a backbone"
        ) from error
    if not (isinstance(features, Tensor) and features.ndim == 2 and len(features) == 2):
        raise InputError(f"timm's {name} does not make one vector of each frame")
    interpolation = str(cfg.get("interpolation"))
    ends = _stage_ends(network)
    options: dict[str, Any] = {"sites": "", "drop_path": 0.0}
    return type(
        "TimmNetwork",
        (TimmNetwork,),
        {
            "timm_name": name,
            "feature_size": features.shape[1],
            "has_maps": maps.ndim == 4 and maps.shape[1] == features.shape[1],
            "ends": MappingProxyType(ends),
            "stages": tuple(stage for stage in ends if stage > 1) or (2,),
            "options": MappingProxyType({**options, "image_size": size} if is_fixed else options),
            "packages": MappingProxyType({"timm": timm.__version__}),
            "spec": MappingProxyType(
                {
                    "mean": tuple(cfg["mean"]),
                    "std": tuple(cfg["std"]),
                    "interpolation": (
                        interpolation if interpolation in INTERPOLATIONS else "bicubic"
                    ),
                }
            ),
            "__module__": __name__,
        },
    )


def names_of(pattern: str) -> list[str]:
    """The names of timm's networks that match a pattern; ValueError without timm."""
    if "." in pattern:  # weights are named as well
        return [name for name in _timm().list_pretrained() if fnmatchcase(name, pattern)]
    return [name for name in _timm().list_models() if fnmatchcase(name, pattern)]


def _timm() -> Any:
    """The package; InputError if it is not there, or does not work."""
    try:
        import timm  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        if error.name not in ("timm", "torchvision"):
            raise
        raise InputError(
            f"networks timm/NAME are made by a package that is not installed ({error.name}); pip "
            f"install 'gtdnet[timm]'"
        ) from error
    except Exception as error:  # torchvision of another build of PyTorch: RuntimeError, OSError
        raise InputError(
            f"timm cannot be imported ({first_line(error)}); it needs torch and torchvision of one "
            f"build: install both anew, in one pip install torch torchvision"
        ) from error
    return timm


def _cfg(name: str) -> dict[str, Any]:
    """What timm says of a network's weights and pictures; RuntimeError for an unknown tag."""
    found = _timm().get_pretrained_cfg(name)
    usual = {
        "input_size": (3, 224, 224),
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }
    return usual if found is None else found.to_dict()


def _build(
    name: str, drop_path: float, image_size: int, weights: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """The network without its classifier, with weights of timm's names if there are any."""
    options: dict[str, Any] = {"num_classes": 0}
    if drop_path:
        options["drop_path_rate"] = drop_path
    if image_size:
        options["img_size"] = image_size
    if weights is not None:
        options["pretrained"] = True
        options["pretrained_cfg_overlay"] = {
            "state_dict": dict(weights), "num_classes": 0, "label_offset": 0,
            "custom_load": False,
        }  # fmt: skip
    try:
        return _timm().create_model(name, **options)
    except TypeError as error:
        raise InputError(
            f"timm's {name} does not take all options ({first_line(error)})"
        ) from error
    except (RuntimeError, AssertionError, ValueError, KeyError) as error:
        if weights is None:
            raise InputError(f"timm cannot make {name}: {_in_short(error)}") from error
        raise InputError(f"the weights do not fit timm's {name}: {_in_short(error)}") from error


def _in_short(error: Exception) -> str:
    """The first of the lines that PyTorch lists misfits in."""
    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    found = next((line for line in lines[1:] if line), lines[0] if lines else type(error).__name__)
    return found if len(found) <= 200 else f"{found[:200]}..."


def _on_meta(name: str, image_size: int) -> nn.Module:
    """The network on shapes alone, in eval mode."""
    try:
        with torch.device("meta"):
            return _build(name, 0.0, image_size).eval()
    except (InputError, NotImplementedError):  # it computes something of its weights
        with torch.device("cpu"):
            return _build(name, 0.0, image_size).eval().to("meta")


def _ends_in_a_mean(network: nn.Module) -> bool:
    """Whether its features are maps [N, C, h, w], and their mean is all that comes after them."""
    modules = list(network.modules())
    pools = [at for at, m in enumerate(modules) if getattr(m, "pool_type", None) is not None]
    if len(pools) != 1 or not hasattr(network, "forward_features"):
        return False
    pool: Any = modules[pools[0]]
    if pool.pool_type != "avg" or not isinstance(pool.pool, nn.AdaptiveAvgPool2d):
        return False
    return not any(list(m.parameters(recurse=False)) for m in modules[pools[0] :])


def _stage_ends(network: nn.Module) -> dict[int, str]:
    """By stage the last of its modules, as far as timm tells.

    Stage s has maps of 1/2^s of the picture's side, so that the first of four is 2 as in the
    papers; blocks that all have maps of one size are four equal parts.
    """
    info: Any = getattr(network, "feature_info", None) or ()
    try:
        found = [(str(part["module"]), int(part["reduction"])) for part in info]
    except (KeyError, TypeError):
        return {}
    names = dict(network.named_modules())
    if any(name not in names for name, _ in found):
        return {}
    sizes = [size for _, size in found]
    if len(found) >= 4 and len(set(sizes)) == 1:
        return {2 + 4 * at // len(found): name for at, (name, _) in enumerate(found)}
    if sorted(set(sizes)) != list(dict.fromkeys(sizes)) or any(n & (n - 1) for n in sizes):
        return {}
    return {size.bit_length() - 1: name for name, size in found}


@cache
def _openings(network: type[TimmNetwork]) -> Mapping[str, str]:
    """The layers that open residual branches, and their blocks; InputError if they are unclear."""
    made = _on_meta(network.timm_name, network.options.get("image_size", 0))
    try:
        return find_blocks(made)
    except InputError as error:
        said = str(error).replace("sites='", "--model_options.sites '")
        said = said.replace("sites=", "--model_options.sites")
        raise InputError(f"{PREFIX}{network.timm_name}: {said}") from error


register_family(
    Family(PREFIX, "any network of timm, by its name there (pip install 'gtdnet[timm]')",
           network_of, names_of)
)  # fmt: skip
