"""What an evaluation compares: whose class names, and the frames in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtdnet.data.dataset import sample_rng
from gtdnet.data.formats import Annotations
from gtdnet.data.spec import ClipSpec, describe_sampling
from gtdnet.errors import InputError, check_choice
from gtdnet.evaluate.measures import ACCURACIES, figures_of
from gtdnet.evaluate.options import FRAME_ORDERS
from gtdnet.text import alike, first_of

FIGURES = ACCURACIES.figures
"""The accuracies of a result of one class a clip, and what people call them."""


def match_classes(
    model_names: Sequence[str], data_names: Sequence[str]
) -> NDArray[np.int64] | None:
    """How the data's labels become the model's.

    Returns None where labels can stay: the names are the same in the same order, or the data has
    none of its own (:func:`has_no_names`) and no more classes than the model. The same names in
    another order give the index map, data label -> model label. Names that Unicode spells in two
    ways are the same.

    Raises:
        ValueError: the names differ.
    """
    model, data = alike(model_names), alike(data_names)
    if model == data:
        return None
    if has_no_names(data):
        if len(data) <= len(model):
            return None
        raise InputError(
            f"the data has labels up to {len(data) - 1}, but the model knows {len(model)} classes, "
            f"0 to {len(model) - 1}; evaluate on the classes it was trained on"
        )
    if len(model) == len(data) and set(model) == set(data):
        return np.array([model.index(name) for name in data], dtype=np.int64)
    differ = differing_names({"the data": data, "the model": model})
    of_data, of_model = (first_of(map(repr, names)) for names in (data, model))
    raise InputError(
        f"the data's {len(data)} classes ({of_data}) are not the model's {len(model)} "
        f"({of_model}): {differ}; evaluate on data with the model's classes"
    )


def check_kind(spec: ClipSpec, annotations: Annotations) -> None:
    """Raise InputError where the model gives one class a clip and the data any number, or v.v."""
    if spec.multi_label == annotations.multi_label:
        return
    if not annotations.multi_label and all(record.label is None for record in annotations.records):
        return  # without labels there are scores alone
    if spec.multi_label:
        raise InputError(
            f"{annotations.root} has one class for each clip, but the model was trained on clips "
            f"of any number of classes; give data with a column labels"
        )
    raise InputError(
        f"{annotations.root} has any number of classes for each clip, but the model was trained on "
        f"clips of one; give data with a column label"
    )


def differing_names(two: Mapping[str, Sequence[str]]) -> str:
    """How many and which class names only one of two lists, given with their owners, has."""
    (one, other) = two.values()
    alone = [
        f"{name!r} (only in {owner})"
        for (owner, names), rest in zip(two.items(), (set(other), set(one)), strict=True)
        for name in names
        if name not in rest
    ]
    return f"{len(alone)} names differ, such as {', '.join(alone[:3])}"


def has_no_names(class_names: Sequence[str]) -> bool:
    """Whether the names are only the numbers that list files without classes.txt have."""
    return all(name == f"class {number}" for number, name in enumerate(class_names))


def check_frame_order(order: str) -> None:
    """Raise InputError for an unknown order of frames."""
    check_choice("order of frames", order, FRAME_ORDERS)


def order_frames(
    views: Tensor, indices: Tensor, order: str, seed: int = 0, frames_per_segment: int = 1
) -> Tensor:
    """The frames of each clip in one of :data:`FRAME_ORDERS`: [N, V, T*f, ...] -> the same shape.

    ``indices`` [N] are the clips' numbers in the dataset: a shuffled clip has one permutation for
    all its views, drawn from (seed, number), whatever batch it is in. Where segments have several
    frames (f), the segments are shuffled, and the frames within each of them: neighbours stay
    neighbours, but no order is left. The frame that is repeated is the middle one of the middle
    segment.
    """
    check_frame_order(order)
    f = frames_per_segment
    t = views.shape[2] // f
    if order == "reversed":
        return views.flip(2)
    if order == "repeated":
        return views[:, :, t // 2 * f + f // 2, None].expand_as(views)
    if order == "shuffled":
        orders = [_shuffled(t, f, sample_rng(seed, 0, int(i))) for i in indices]
        return torch.stack(
            [clip[:, torch.from_numpy(o)] for clip, o in zip(views, orders, strict=True)]
        )
    return views


def _shuffled(num_segments: int, f: int, rng: np.random.Generator) -> NDArray[np.int64]:
    segments = rng.permutation(num_segments)
    within = [rng.permutation(f) for _ in segments]
    return np.concatenate([f * s + order for s, order in zip(segments, within, strict=True)])


def protocol_line(result: Mapping[str, Any]) -> str:
    """One line that says what the numbers of an evaluation's or ensemble's result mean."""
    protocol = result["protocol"]
    clips = f"{result['num_evaluated']} clips of {protocol['split']}, {result['num_failed']} failed"
    if members := protocol.get("members"):
        frames = "" if protocol["frames"] == "in-order" else f", frames {protocol['frames']}"
        weights = [f"{member['weight']:g}" for member in members]
        weighted = f", weighted {':'.join(weights)}" if len({*weights}) > 1 else ""
        return (
            f"{protocol['views']} (frames x crops x clips), mean of {len(members)} evaluations"
            f"{weighted}{frames}: {clips}"
        )
    spec = protocol["spec"]
    sampling = describe_sampling(spec["sampling"], spec["frame_interval"], spec.get("rate"))
    frames = "" if protocol["frames"] == "in-order" else f"frames {protocol['frames']}, "
    # Of one view all means are the same; files of earlier versions have this one alone.
    several = not protocol["views"].endswith("x1x1")
    mean = f"mean of {protocol.get('average', 'probabilities')}, " if several else ""
    unit = "frames" if spec.get("frames_per_segment", 1) == 1 else "(segments x frames)"
    return (
        f"{protocol['views']} ({unit} x crops x clips), {mean}{frames}{sampling} sampling, "
        f"short side {spec['short_side']}, crop {spec['crop_size']}, {protocol['precision']}: "
        f"{clips}"
    )


def summary(result: Mapping[str, Any]) -> str:
    """The figures, what they mean, and where the files are, for people."""
    return "\n".join(
        [accuracies_line(result), protocol_line(result), f"results: {result['output']}"]
    )


def accuracies_line(result: Mapping[str, Any]) -> str:
    """The accuracies in per cent, each with its 95 % confidence interval in brackets."""
    known, is_sure = [], False
    for key, name in figures_of(result).items():
        if result[key] is not None:
            between = result.get(f"{key}_interval")
            bounds = f" [{', '.join(f'{100 * x:.2f}' for x in between)}]" if between else ""
            known.append(f"{name} {100 * result[key]:.2f} %{bounds}")
            is_sure = is_sure or bool(bounds)
    if not known:
        return "the clips have no labels: scores alone were written"
    each = result.get("threshold")
    at = f" at threshold {each:g}" if isinstance(each, float) else ""
    at = " at the thresholds that the model was calibrated with" if isinstance(each, list) else at
    how = "[95 % confidence]" if is_sure else "too few clips for confidence intervals"
    return f"{', '.join(known)}{at}; {how}"
