"""``gtdnet convert``: every tensor of a checkpoint accounted for, then written as a model file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from gtdnet.data.labels import list_labels, read_labels
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.files import atomic_path, sha256
from gtdnet.measure.provenance import provenance
from gtdnet.models.build import create_model, list_models, model_name, parts_of, spec_values
from gtdnet.models.model_file import METADATA_KEY, load_model, save_model
from gtdnet.text import counted, first_of
from gtdnet.weights.convert.options import ConvertOptions
from gtdnet.weights.convert.recognition import Recognised, recognise
from gtdnet.weights.fit import load_all
from gtdnet.weights.read import read_safetensors, read_tensors


@dataclass(frozen=True)
class Conversion:
    """What was written, and what a user should know about it.

    Attributes:
        path, model: the model file, and the name of its model.
        source: the project that the checkpoint comes from.
        notes: what the file did not tell, and what became of keys without a counterpart.
    """

    path: str
    model: str
    source: str
    depth: int
    num_classes: int
    num_segments: int
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def convert(options: ConvertOptions) -> Conversion:
    """Write the model file; it computes exactly what the official code computes.

    Raises:
        ValueError: a checkpoint that needs unpickling, is not recognised, or does not account for
            every tensor of the network; options that do not fit it; a file that is there.
    """
    path, checkpoint = Path(options.to), options.checkpoint
    _check_target(path, options)
    tensors, source = read_tensors(checkpoint), Path(checkpoint)
    if source.suffix == ".safetensors" and METADATA_KEY in read_safetensors(source)[0]:
        raise InputError(f"{checkpoint}: is a model file of gtdnet already; use it as it is")
    found = recognise(tensors, checkpoint)
    name = _model_name(found, checkpoint)
    num_segments = _num_segments(found, options)
    spec = _spec(found, options, name, num_segments)
    untold = _untold(found, options, name)
    model = create_model(name, found.num_classes, num_segments, every=found.every, **untold)
    called = _called(model.state_dict(), found.called)
    load_all(model, found.tensors, checkpoint, called=called, most=10)
    _check_finite(found, checkpoint)
    origin = provenance(
        converted_from=found.source.name,
        checkpoint=source.name,
        sha256=sha256(source),
        dropped=list(found.dropped),
        folded=list(found.folded),
    )
    with atomic_path(path) as temporary:
        save_model(temporary, model, spec, provenance=origin)
        load_model(temporary)  # what cannot be read again never gets its name
    notes = list(_notes(found, options, spec))
    return Conversion(
        str(path), name, found.source.name, found.depth, found.num_classes, num_segments, notes
    )


def _check_target(path: Path, options: ConvertOptions) -> None:
    if path.suffix != ".safetensors":
        raise InputError(f"a model file must end in .safetensors, got {path}")
    if path.exists() and Path(options.checkpoint).exists() and path.samefile(options.checkpoint):
        raise InputError(f"{path}: is the checkpoint itself; write the model to another file")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file in it")
    if path.exists() and not options.overwrite:
        raise InputError(f"{path}: exists; choose another name or add --overwrite")


# ------------------------------------------------------------------------------------- the model


def _model_name(found: Recognised, label: str) -> str:
    """This package's model of the method and the backbone that were found."""
    method, family = found.source.method, found.source.backbone
    try:
        return model_name(method, f"{family}{found.depth}")
    except InputError as error:
        parts = [parts_of(name) for name in list_models()]
        backbones = [part.backbone.name for part in parts if part.method.name == method]
        depths = [name.removeprefix(family) for name in backbones if name.startswith(family)]
        raise InputError(
            f"{label}: holds a {method}_resnet{found.depth}, which this package does not have; "
            f"its {method} models have depth {', '.join(depths)}"
        ) from error


def _num_segments(found: Recognised, options: ConvertOptions) -> int:
    wanted, told = options.num_segments, found.num_segments
    if wanted is not None and told is not None and wanted != told:
        raise InputError(
            f"{options.checkpoint}: its weights over time are for {counted(told, 'frame')}, so "
            f"num_segments cannot be {wanted}; convert it as it is, and evaluate with "
            f"--num_segments {wanted}"
        )
    return told or (found.source.num_segments if wanted is None else wanted)


def _untold(found: Recognised, options: ConvertOptions, name: str) -> dict[str, Any]:
    """The options of the model that the file does not tell."""
    untold = dict(found.source.untold)
    if options.fold_div is not None:
        if "fold_div" not in untold:
            raise InputError(
                f"{options.checkpoint}: holds a {name}, whose file has all there is to know about "
                f"its shift; leave out --fold_div, which is for TSM"
            )
        untold["fold_div"] = options.fold_div
    return untold


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
        frame_interval=max(1, found.source.dense_frames // max(1, num_segments)),
        **{**spec_values(name), **found.source.spec, **found.normalisation},
    )
    # The options that are named as the spec's fields; None leaves a field as it is.
    return spec.with_options(**{f.name: getattr(options, f.name, None) for f in fields(ClipSpec)})


# --------------------------------------------------------------------------------- the accounting


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


def _notes(found: Recognised, options: ConvertOptions, spec: ClipSpec) -> Iterator[str]:
    if found.source.num_segments == 1:
        yield "an image classifier: it gives the mean over the frames of a clip"
    if found.num_segments is None and options.num_segments is None:
        yield (
            f"the file does not tell the number of frames: num_segments {spec.num_segments} is "
            f"taken; --num_segments for another"
        )
    if "fold_div" in found.source.untold and options.fold_div is None:
        taken = found.source.untold["fold_div"]
        yield f"the file does not tell the share of shifted channels: fold_div {taken} is taken"
    if found.every == 2:
        yield "every second block has a temporal module"
    if found.dropped:
        yield (
            f"{counted(len(found.dropped), 'key')} left out, for the network uses none of that: "
            f"{first_of(found.dropped, 4)}"
        )
    if found.folded:
        yield (
            f"{counted(len(found.folded), 'bias', 'biases')} of convolutions went into the batch "
            f"norms behind them (exact)"
        )
    if found.normalisation:
        told = (
            f"{name} {' '.join(f'{number:.4g}' for number in numbers)}"
            for name, numbers in found.normalisation.items()
        )
        yield f"the file tells how pixels are normalised, in [0, 1]: {', '.join(told)}"
    if not any(key.endswith("num_batches_tracked") for key in found.tensors):
        yield "the batch norms' counters (num_batches_tracked) are not in the file: 0"
    if options.classes is None:
        yield _name_classes(found.num_classes)
    if found.num_classes == 400 and options.sampling is None:
        yield (
            "the file does not tell the sampling: segment is taken; for one of the checkpoints "
            "trained on dense clips of Kinetics add --sampling dense-tsm, as its project tests them"
        )
    yield f"clips: {spec.describe()}"


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
