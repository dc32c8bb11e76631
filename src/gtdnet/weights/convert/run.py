"""Official checkpoints of other projects made into model files of this package.

Nothing but a file's keys and shapes says what it holds. A source is a table of renamings, so that
every tensor is accounted for: what is missing, left over or of another shape is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from gtdnet.data.labels import list_labels, read_labels
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.files import atomic_path, sha256
from gtdnet.measure.provenance import provenance
from gtdnet.models.backbones.resnet import DEPTHS, BasicBlock, Bottleneck
from gtdnet.models.build import create_model, frames_per_segment, list_models
from gtdnet.models.model_file import METADATA_KEY, load_model, save_model
from gtdnet.text import counted, first_of
from gtdnet.weights.tensors import load_all, read_tensors

Renaming = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Source:
    """A kind of checkpoint file.

    Attributes:
        name: of the project.
        method: what the network is in this package.
        mark: regular expression that some key matches in such a file and in no other. Its group, if
            it has one, names a residual block with a temporal module.
        rename: (regular expression, replacement), one after the other, from its keys to ours.
        drop: regular expression of the keys that the network does not use.
        num_segments: T where the file does not tell.
        spec: how its test protocol differs from ClipSpec's defaults.
    """

    name: str
    method: str
    mark: str
    rename: Renaming
    drop: str = r"(?!)"
    num_segments: int = 8
    spec: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Unsupported:
    """What is recognised, but has no equal here: ``mark`` as of a source, and what it is."""

    mark: str
    what: str
    why: str = "which cannot be converted"


# Where dropout was 0, TSN's code leaves the classifier where the 2D network has it.
_TSN: Renaming = (
    (r"^(?:new_fc|base_model\.fc)\.", "classifier."),
    (r"^base_model\.", "backbone."),
)
_TSM: Renaming = (*_TSN, (r"\.conv1\.net\.", ".conv1."))
_ACTION: Renaming = (
    *_TSM,
    (r"\.action_shift\.", ".temporal.shift."),
    (r"\.action_p1_conv1\.", ".temporal.spatio_temporal.conv."),
    (r"\.action_p2_(squeeze|expand)\.", r".temporal.channel.\1."),
    (r"\.action_p2_conv1\.", ".temporal.channel.conv."),
    (r"\.action_p3_(squeeze|expand)\.", r".temporal.motion.\1."),
    (r"\.action_p3_(bn|conv)1\.", r".temporal.motion.\1."),
)
_TEA: Renaming = (
    *_TSN,
    (r"\.me\.", ".temporal.excitation."),
    (r"\.shifts\.(\d)\.conv\.", r".temporal.aggregation.\1."),
)
_TDN: Renaming = (
    *_TSN,
    (r"\.(layer\d)_bak\.", r".\1."),
    (r"\.mse\.", ".conv2.temporal.difference."),
    (r"\.shift\.conv\.", ".conv2.temporal.shift."),
    (r"\.conv1_5\.0\.", ".temporal.conv."),
    (r"\.conv1_5\.1\.", ".temporal.bn."),
    (r"\.resnext_layer1\.", ".temporal.layer1."),
)
_TAM: Renaming = (
    (r"\.tam\.G\.0\.", ".conv2.temporal.adaptive.spread."),
    (r"\.tam\.G\.1\.", ".conv2.temporal.adaptive.norm."),
    (r"\.tam\.G\.3\.", ".conv2.temporal.adaptive.collect."),
    (r"\.tam\.L\.0\.", ".conv2.temporal.local.squeeze."),
    (r"\.tam\.L\.1\.", ".conv2.temporal.local.norm."),
    (r"\.tam\.L\.3\.", ".conv2.temporal.local.expand."),
)
_TANET: Renaming = (*_TSN, (r"(layer\d\.\d+)\.net\.", r"\1."), *_TAM)
_MMACTION: Renaming = (
    (r"^cls_head\.fc_cls\.", "classifier."),
    (r"\.block\.", "."),
    *_TAM,
    (r"\.conv1\.conv\.net\.", ".conv1."),
    (r"\.conv(\d)\.bn\.", r".bn\1."),
    (r"\.conv(\d)\.conv\.", r".conv\1."),
    (r"\.downsample\.conv\.", ".downsample.0."),
    (r"\.downsample\.bn\.", ".downsample.1."),
)
_IMAGE: Renaming = ((r"^fc\.", "classifier."), (r"^(conv1|bn1|layer\d)\.", r"backbone.\1."))

_OPENCV = {"antialias": False}

KINDS: tuple[Source | Unsupported, ...] = (  # the first whose mark a key matches
    Unsupported(r"\.(?:nl|non_local_block)\.", "a network with non-local blocks"),
    Unsupported(r"(?:^|\.)inception_\w+\.", "a BN-Inception network"),
    Unsupported(r"(?:^|\.)features\.\d|layer\d\.\d+\.conv\.\d", "a MobileNet or a DenseNet"),
    Source(
        "temporal-adaptive-module",
        "tanet",
        r"^base_model\.(layer\d\.\d+)\.tam\.G\.0\.weight$",
        _TANET,
    ),
    Unsupported(r"layer\d\.\d+\.net\.", "a network that shifts the shortcuts too (place 'block')"),
    Unsupported(r"layer\d\.net\.", "a network that pools over time"),
    Unsupported(r"(?:^|\.)conv1\.\d\.weight$", "a ResNet with a deep stem (as resnet50d)"),
    Unsupported(r"\.(?:se|eca)\.", "a ResNet with channel attention"),
    Source("tea-action-recognition", "tea", r"(layer\d\.\d+)\.me\.conv1\.weight$", _TEA),
    Unsupported(r"layer1\.0\.convs\.0\.", "a Res2Net without temporal modules"),
    Source("ACTION-Net", "action", r"(layer\d\.\d+)\.conv1\.action_shift\.weight$", _ACTION),
    Source("TDN", "tdn", r"\.layer1_bak\.", _TDN, drop=r"^base_model\.conv1_temp1?\."),
    Source(
        "mmaction2",
        "tanet",
        r"^backbone\.(layer\d\.\d+)\.tam\.G\.0\.weight$",
        _MMACTION,
        spec=_OPENCV,
    ),
    Source(
        "mmaction2",
        "tsm",
        r"^backbone\.(layer\d\.\d+)\.conv1\.conv\.net\.weight$",
        _MMACTION,
        spec=_OPENCV,
    ),
    Source("mmaction2", "tsn", r"^cls_head\.fc_cls\.(?:weight|bias)$", _MMACTION, spec=_OPENCV),
    Unsupported(
        r"^(?:model\.)?backbone\.conv1\.weight$",
        "a network of this package",
        "which needs no conversion: the model file is its run's model.safetensors",
    ),
    Source("temporal-shift-module", "tsm", r"^base_model\.(layer\d\.\d+)\.conv1\.net\.", _TSM),
    Source("temporal-shift-module", "tsn", r"^base_model\.layer\d\.\d+\.conv1\.weight$", _TSN),
    Source("torchvision or timm", "tsn", r"^layer\d\.\d+\.conv1\.weight$", _IMAGE, num_segments=1),
)


@dataclass(frozen=True)
class Recognised:
    """What a checkpoint holds.

    Attributes:
        source: its kind.
        depth: of the ResNet.
        every: 2 where every second block alone has a temporal module, else 1.
        num_classes: K.
        num_segments: T, where a shape tells it.
        tensors: under this package's keys.
        called: the file's key for each of ``tensors``.
        dropped: the file's keys that the network does not use.
        folded: the file's keys of the convolution biases that went into the batch norms.
        normalisation: mean and std of the RGB values in [0, 1], where the file tells them.
    """

    source: Source
    depth: int
    every: int
    num_classes: int
    num_segments: int | None
    tensors: Mapping[str, Tensor]
    called: Mapping[str, str]
    dropped: tuple[str, ...]
    folded: tuple[str, ...]
    normalisation: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class ConvertOptions:
    """Make an official checkpoint of another project a model file

    Args:
        checkpoint: the file: TSN and TSM (mit-han-lab), TDN, TEA, ACTION-Net, TANet, mmaction2's
            TSN, TSM and TANet, ResNets of torchvision and timm.
        to: the model file to write (*.safetensors).
        num_segments: frames (or groups of frames) per clip; default: what the file tells, else 8,
            or 1 for an image classifier.
        classes: names of the classes: a text file with one a line, or a built-in list:
            something-v1, something-v2, kinetics400, ucf101, hmdb51, jester; default: class 0,
            class 1, ...
        fold_div: of TSM, whose files do not tell it: 1/fold_div of the channels moves in each
            direction; default: 8.
        sampling: segment or dense; default: segment.
        frame_interval: frames between two of dense sampling; default: 64 / num_segments.
        short_side: the shorter side in pixels before the crop; default: 256.
        crop_size: side in pixels of the square the model sees; default: 224.
        interpolation: bilinear or bicubic; default: bilinear.
        antialias: low-pass filter when shrinking; default: as the project's own test does.
        overwrite: replace the file that is there.
    """

    checkpoint: str
    to: str
    num_segments: int | None = None
    classes: str | None = None
    fold_div: int | None = None
    sampling: str | None = None
    frame_interval: int | None = None
    short_side: int | None = None
    crop_size: int | None = None
    interpolation: str | None = None
    antialias: bool | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Conversion:
    """What was written, and what a user should know about it.

    Attributes:
        path: the model file.
        model: its name.
        source: the project that the checkpoint comes from.
        notes: what the file did not tell, and what became of keys without a counterpart.
    """

    path: str
    model: str
    source: str
    depth: int
    num_classes: int
    num_segments: int
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "notes": list(self.notes)}


def convert(options: ConvertOptions) -> Conversion:
    """Write the model file; it computes exactly what the official code computes.

    Raises:
        ValueError: a checkpoint that needs unpickling, is not recognised, or does not account for
            every tensor of the network; options that do not fit it; a file that is there.
    """
    path = Path(options.to)
    if path.suffix != ".safetensors":
        raise InputError(f"a model file must end in .safetensors, got {path}")
    if path.exists() and Path(options.checkpoint).exists() and path.samefile(options.checkpoint):
        raise InputError(f"{path}: is the checkpoint itself; write the model to another file")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file in it")
    if path.exists() and not options.overwrite:
        raise InputError(f"{path}: exists; choose another name or add --overwrite")
    found = recognise(_read(options.checkpoint), options.checkpoint)
    method = found.source.method
    name = f"{method}_resnet{found.depth}"
    if name not in list_models():
        names = (n for n in list_models() if n.startswith(f"{method}_resnet"))
        depths = ", ".join(n.rpartition("resnet")[2] for n in names)
        raise InputError(
            f"{options.checkpoint}: holds a {name}, which this package does not have; "
            f"its {method} models have depth {depths}"
        )
    num_segments = _num_segments(found, options)
    spec = _spec(found, options, name, num_segments)
    model_options: dict[str, Any] = {"every": found.every}
    if method == "tsm":
        model_options["fold_div"] = 8 if options.fold_div is None else options.fold_div
    elif options.fold_div is not None:
        raise InputError(
            f"{options.checkpoint}: holds a {name}, whose file has all there is to know about its "
            f"shift; leave out --fold_div, which is for TSM"
        )
    model = create_model(name, found.num_classes, num_segments, **model_options)
    called = _called(model.state_dict(), found.called)
    load_all(model, found.tensors, options.checkpoint, called=called, most=10)
    _check_finite(found, options.checkpoint)
    with atomic_path(path) as temporary:
        save_model(temporary, model, spec, provenance=_provenance(found, options))
        load_model(temporary)  # what cannot be read again never gets its name
    return Conversion(
        str(path),
        name,
        found.source.name,
        found.depth,
        found.num_classes,
        num_segments,
        tuple(_notes(found, options, spec)),
    )


def _read(checkpoint: str) -> dict[str, Tensor]:
    tensors = read_tensors(checkpoint)
    if Path(checkpoint).suffix == ".safetensors":
        with safe_open(checkpoint, framework="pt") as file:
            if METADATA_KEY in (file.metadata() or {}):
                raise InputError(
                    f"{checkpoint}: is a model file of gtdnet already; use it as it is"
                )
    return tensors


def _called(wanted: Iterable[str], called: Mapping[str, str]) -> dict[str, str]:
    """What the file calls, or would call, each key: a missing one as its like in other places."""

    def like(key: str) -> str:
        # Where every second block alone has a module, odd blocks differ from even ones.
        return re.sub(r"layer\d\.(\d+)\.", lambda place: f"layer.{int(place[1]) % 2}.", key)

    everything = dict(called)
    layers = {key.rpartition(".")[0]: name.rpartition(".")[0] for key, name in called.items()}
    likes = {like(key): name for key, name in called.items()}
    for key in (key for key in wanted if key not in called):
        layer, _, leaf = key.rpartition(".")
        place = re.search(r"layer(\d)\.(\d+)\.", key)
        if layer in layers:
            everything[key] = f"{layers[layer]}.{leaf}"
        elif place and like(key) in likes:
            everything[key] = re.sub(
                r"layer\d(\w*)\.\d+\.", rf"layer{place[1]}\1.{place[2]}.", likes[like(key)]
            )
        else:
            everything[key] = f"{key} as named here"
    return everything


def _check_finite(found: Recognised, label: str) -> None:
    bad = [found.called[k] for k, v in found.tensors.items() if not torch.isfinite(v).all()]
    if bad:
        raise InputError(
            f"{label}: {first_of(bad)} {'has' if len(bad) == 1 else 'have'} values that are not "
            f"finite (NaN or infinite), so it gives no answers; take another checkpoint"
        )


def recognise(tensors: Mapping[str, Tensor], label: str) -> Recognised:
    """Find out from keys and shapes what a checkpoint holds, and rename it to this package's keys.

    Args:
        tensors: the file's state dict, with or without DataParallel's "module." before every key.
        label: what messages call it.

    Raises:
        ValueError: no known format, or a network that this package does not have.
    """
    prefix = ""
    while tensors and all(key.startswith(f"{prefix}module.") for key in tensors):
        prefix += "module."
    given = {key.removeprefix(prefix): value for key, value in tensors.items()}
    normalisation = _take_normalisation(given, label)
    source = _source(given, label)
    dropped = [key for key in given if re.search(source.drop, key)]
    renamed: dict[str, Tensor] = {}
    called: dict[str, str] = {}
    for key in (k for k in given if k not in dropped):
        new = key
        for pattern, replacement in source.rename:
            new = re.sub(pattern, replacement, new)
        if new in called:
            raise InputError(
                f"{label}: {called[new]} and {prefix}{key} both stand for {new}, so it holds two "
                f"networks in one and cannot be converted"
            )
        renamed[new], called[new] = given[key], prefix + key
    _check_stem(renamed, label)
    blocks = _blocks(renamed)
    if not any(blocks.values()):
        raise _unknown(given, label)
    depth = _depth(renamed, blocks, label)
    folded = _fold_biases(renamed) if source.method == "tdn" else []
    classifier = [v for k, v in renamed.items() if k.startswith("classifier.") and v.ndim]
    if not classifier:
        raise InputError(
            f"{label}: holds a ResNet-{depth} without a classifier, so it is no model yet; "
            f"train one from it with gtdnet train --pretrained"
        )
    num_classes = len(classifier[0])  # of the weight or the bias: the accounting compares them
    if num_classes == 0:
        raise InputError(f"{label}: its classifier has no classes, so it is no model")
    kernels = [v for k, v in renamed.items() if k.endswith(".temporal.adaptive.spread.weight")]
    return Recognised(
        source,
        depth,
        _every(source, given, renamed, blocks, label),
        num_classes=num_classes,
        num_segments=kernels[0].shape[-1] if kernels else None,
        tensors=renamed,
        called=called,
        dropped=tuple(prefix + key for key in dropped),
        folded=tuple(called[key] for key in folded),
        normalisation=normalisation,
    )


def _take_normalisation(
    tensors: dict[str, Tensor], label: str
) -> dict[str, tuple[float, float, float]]:
    """Take mmaction2's mean and std of the pixels in [0, 255] out; ClipSpec's, if they are there.

    Raises:
        ValueError: one without the other, or not a number for each of R, G and B.
    """
    keys = {name: f"data_preprocessor.{name}" for name in ("mean", "std")}
    there = [key for key in keys.values() if key in tensors]
    if len(there) == 1:
        raise InputError(
            f"{label}: has {there[0]} but not the other of mean and std; both or none must be there"
        )
    found = {}
    for name, key in keys.items() if there else ():
        value = tensors.pop(key)
        numbers = [number / 255 for number in value.flatten().tolist()]
        if tuple(value.shape) not in ((3,), (3, 1, 1), (1, 3, 1, 1)):
            raise InputError(
                f"{label}: {key} has shape {list(value.shape)}; expected three numbers, [3, 1, 1]"
            )
        if not all(map(math.isfinite, numbers)) or (name == "std" and min(numbers) <= 0):
            raise InputError(f"{label}: {key} is {value.flatten().tolist()}, which no pixels have")
        found[name] = tuple(numbers)
    return found


def _source(tensors: Mapping[str, Tensor], label: str) -> Source:
    for kind in KINDS:
        if any(re.search(kind.mark, key) for key in tensors):
            if isinstance(kind, Source):
                return kind
            raise InputError(f"{label}: holds {kind.what}, {kind.why}")
    raise _unknown(tensors, label)


def _unknown(tensors: Mapping[str, Tensor], label: str) -> InputError:
    names = ", ".join(dict.fromkeys(kind.name for kind in KINDS if isinstance(kind, Source)))
    keys = f"its keys are {', '.join([*tensors][:3])}, ..." if tensors else "it holds no tensors"
    return InputError(f"{label}: no network of a known kind ({keys}); known are ResNets of {names}")


def _check_stem(tensors: Mapping[str, Tensor], label: str) -> None:
    """Say in words what the likeliest misfits are."""
    stem = tensors.get("backbone.conv1.weight")
    first = tensors.get("backbone.layer1.0.conv2.weight")
    what = None
    if stem is not None and stem.ndim == 5:
        what = "a 3D network"
    elif stem is not None and stem.ndim == 4 and stem.shape[1] != 3:
        what = f"a network for input of {stem.shape[1]} channels (optical flow or differences)"
    elif first is not None and first.ndim == 4 and first.shape[0] != first.shape[1]:
        what = "a ResNeXt (its 3x3 convolutions are grouped)"
    elif first is not None and first.ndim == 4 and first.shape[0] != 64:
        what = "a wide ResNet"
    if what:
        raise InputError(f"{label}: holds {what}, which cannot be converted")


def _blocks(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Residual blocks of each stage."""
    blocks = {f"layer{i}": 0 for i in range(1, 5)}
    for key in tensors:
        if place := re.match(r"backbone\.(layer[1-4])\.(\d+)\.", key):
            blocks[place[1]] = max(blocks[place[1]], int(place[2]) + 1)
    return blocks


def _depth(tensors: Mapping[str, Tensor], blocks: Mapping[str, int], label: str) -> int:
    third = any(re.fullmatch(r"backbone\.layer\d\.\d+\.conv3\.weight", key) for key in tensors)
    kind = Bottleneck if third else BasicBlock
    for depth, layout in DEPTHS.items():
        if layout == (kind, tuple(blocks.values())):
            return depth
    counts = ", ".join(map(str, blocks.values()))
    raise InputError(
        f"{label}: its four stages have {counts} {kind.__name__} blocks, which is no ResNet of "
        f"depth {', '.join(map(str, DEPTHS))}"
    )


def _every(
    source: Source,
    given: Mapping[str, Tensor],
    renamed: Mapping[str, Tensor],
    blocks: Mapping[str, int],
    label: str,
) -> int:
    """1 if all blocks have a temporal module, 2 if every second one has."""
    found = [re.search(source.mark, key) for key in given]
    marked = {match[1] for match in found if match and match.re.groups}
    if not marked:
        return 1
    # A module of which the mark alone is missing is left to the accounting too.
    modules = [re.search(r"(layer\d\.\d+)\..*\btemporal\.", key) for key in renamed]
    marked |= {match[1] for match in modules if match}
    plain = [  # a block whose first convolution is missing is left to the accounting
        (stage, i)
        for stage, count in blocks.items()
        for i in range(count)
        if f"{stage}.{i}" not in marked and f"backbone.{stage}.{i}.conv1.weight" in renamed
    ]
    if not plain:
        return 1
    if all(i % 2 for _, i in plain) and not any(int(name.partition(".")[2]) % 2 for name in marked):
        return 2
    lacking = [f"{stage}.{i}" for stage, i in plain]
    raise InputError(
        f"{label}: there is no temporal module in {', '.join(lacking[:3])}"
        f"{', ...' if len(lacking) > 3 else ''}; with modules in neither all blocks nor every "
        f"second one it cannot be converted"
    )


def _fold_biases(tensors: dict[str, Tensor]) -> list[str]:
    """Take the biases of convolutions into the batch norms behind them, in place; their keys."""
    folded = []
    for key in list(tensors):
        norm = re.sub(r"\.conv(\d)\.bias$", r".bn\1.running_mean", key)
        norm = re.sub(r"\.downsample\.0\.bias$", ".downsample.1.running_mean", norm)
        mean = tensors.get(norm)
        if norm != key and mean is not None and mean.shape == tensors[key].shape:
            tensors[norm] = (mean.double() - tensors.pop(key).double()).to(mean.dtype)
            folded.append(key)
    return folded


def _num_segments(found: Recognised, options: ConvertOptions) -> int:
    wanted, told = options.num_segments, found.num_segments
    if wanted is not None and told is not None and wanted != told:
        raise InputError(
            f"{options.checkpoint}: its weights over time are for "
            f"{counted(told, 'frame')}, so num_segments "
            f"cannot be {wanted}; convert it as it is, and evaluate with --num_segments {wanted}"
        )
    return told or (found.source.num_segments if wanted is None else wanted)


def _spec(found: Recognised, options: ConvertOptions, name: str, num_segments: int) -> ClipSpec:
    if options.classes is None:
        names = tuple(f"class {i}" for i in range(found.num_classes))
    else:
        names = read_labels(options.classes)
        if len(names) != found.num_classes:
            raise InputError(
                f"{options.classes}: has {counted(len(names), 'class name')}, but the classifier "
                f"of {options.checkpoint} has {counted(found.num_classes, 'class', 'classes')}; "
                f"give the list it was trained with"
            )
    spec = ClipSpec(
        names,
        num_segments=num_segments,
        # All these projects spread the frames of a dense clip over 64.
        frame_interval=max(1, 64 // max(1, num_segments)),
        frames_per_segment=frames_per_segment(name),
        **{**found.source.spec, **found.normalisation},
    )
    return spec.with_options(
        sampling=options.sampling,
        frame_interval=options.frame_interval,
        short_side=options.short_side,
        crop_size=options.crop_size,
        interpolation=options.interpolation,
        antialias=options.antialias,
    )


def _notes(found: Recognised, options: ConvertOptions, spec: ClipSpec) -> list[str]:
    method, notes = found.source.method, []
    if found.source.num_segments == 1:
        notes.append("an image classifier: it gives the mean over the frames of a clip")
    if found.num_segments is None and options.num_segments is None:
        notes.append(
            f"the file does not tell the number of frames: num_segments {spec.num_segments} is "
            f"taken; --num_segments for another"
        )
    if method == "tsm" and options.fold_div is None:
        notes.append("the file does not tell the share of shifted channels: fold_div 8 is taken")
    if found.every == 2:
        notes.append("every second block has a temporal module")
    if found.dropped:
        notes.append(
            f"{counted(len(found.dropped), 'key')} left out, for the network uses none of that: "
            f"{first_of(found.dropped, 4)}"
        )
    if found.folded:
        notes.append(
            f"{counted(len(found.folded), 'bias', 'biases')} of convolutions went into the batch "
            f"norms behind them (exact)"
        )
    if found.normalisation:
        notes.append(
            "the file tells how pixels are normalised, in [0, 1]: "
            + ", ".join(
                f"{name} {' '.join(f'{number:.4g}' for number in numbers)}"
                for name, numbers in found.normalisation.items()
            )
        )
    if not any(key.endswith("num_batches_tracked") for key in found.tensors):
        notes.append("the batch norms' counters (num_batches_tracked) are not in the file: 0")
    if options.classes is None:
        notes.append(_name_classes(found.num_classes))
    if found.num_classes == 400 and options.sampling is None:
        notes.append(
            "the file does not tell the sampling: segment is taken; for one of the checkpoints "
            "trained on dense clips of Kinetics add --sampling dense"
        )
    notes.append(f"clips: {spec.describe()}")
    return notes


def _name_classes(num_classes: int) -> str:
    fitting = [name for name in list_labels() if len(read_labels(name)) == num_classes]
    names = "class 0" if num_classes == 1 else f"class 0 to class {num_classes - 1}"
    note = f"the classes have no names in the file: {names}"
    if not fitting:
        return f"{note}; name them by --classes FILE, one name a line"
    choices = " or ".join(f"--classes {name}" for name in fitting)
    note = f"{note}; {choices} has {num_classes} names"
    if len(fitting) > 1:
        note += (
            ", in different orders (something-v2: of V2, and of V1 as TSM's tools prepare it; "
            "something-v1: of V1's own labels file, kept by mmaction2)"
        )
    return note


def _provenance(found: Recognised, options: ConvertOptions) -> dict[str, Any]:
    return provenance(
        converted_from=found.source.name,
        checkpoint=Path(options.checkpoint).name,
        sha256=sha256(Path(options.checkpoint)),
        dropped=list(found.dropped),
        folded=list(found.folded),
    )
