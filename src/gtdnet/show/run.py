"""gtdnet show: the paper's figure 7 for any clip, as a picture and as a page."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gtdnet.data.decode import read_frames
from gtdnet.data.sampling import Indices, Times, eval_indices
from gtdnet.data.spec import ClipSpec
from gtdnet.data.transforms import eval_views, normalise
from gtdnet.errors import InputError
from gtdnet.files import atomic_path, write_text
from gtdnet.infer.recognizer import Recognizer, load
from gtdnet.models.classifier import VideoClassifier, probabilities
from gtdnet.show.options import ShowOptions
from gtdnet.show.views import (
    ClipViews,
    class_activation_maps,
    global_difference_scores,
    global_image,
)

SUFFIXES = (".png", ".pdf", ".svg", ".html")


def show(options: ShowOptions) -> dict[str, Any]:
    """Write what :func:`explain` finds out about a clip; returns its numbers, JSON-ready.

    Raises:
        ValueError: bad options, no model file, a video that cannot be read, or files in the way.
    """
    files = output_files(options.output, options.video)
    for path in files:
        if path.exists() and not options.overwrite:
            raise InputError(f"{path} exists; add --overwrite to replace it, or give --output")
    recognizer = load(options.model, options.device, num_segments=options.num_segments)
    label = None
    if options.class_name is not None:
        label = find_class(options.class_name, recognizer.spec)
    views = explain(recognizer, options.video, label)
    for path in files:
        if path.suffix.lower() == ".html":
            from gtdnet.show.page import page

            write_text(path, page(views))
        else:
            from gtdnet.show.figure import save_figure

            with atomic_path(path) as temporary:
                save_figure(views, temporary)
    return {"model_file": options.model, **numbers(views), "files": [str(path) for path in files]}


def explain(recognizer: Recognizer, video: str | Path, class_label: int | None = None) -> ClipViews:
    """What the figure shows, as arrays: one view of the clip (one centre crop), in float32.

    The activation maps are about ``class_label``; default: the predicted class.

    Raises:
        ValueError: a video that cannot be read, no class of that number, or a model that gives no
            numbers.
    """
    spec = recognizer.spec
    if class_label is not None and not 0 <= class_label < spec.num_classes:
        raise InputError(f"no class {class_label}: the model's are 0 to {spec.num_classes - 1}")
    chosen = np.empty(0, np.int64)

    def choose(count: int, times: Times | None = None) -> Indices:
        nonlocal chosen
        chosen = eval_indices(spec, count, times=times).reshape(-1)
        return chosen

    decoded, num_frames = read_frames(video, choose, by_time=spec.by_time)
    clip = eval_views(decoded, spec)[0]
    middle = slice(spec.frames_per_segment // 2, None, spec.frames_per_segment)
    return explain_clip(recognizer, clip, str(video), num_frames, chosen[middle], class_label)


def explain_clip(
    recognizer: Recognizer,
    clip: Tensor,
    video: str,
    num_frames: int,
    indices: NDArray[np.int64],
    class_label: int | None = None,
) -> ClipViews:
    """The same of a view that is decoded already.

    Args:
        recognizer, class_label: as for :func:`explain`.
        clip: uint8 [T*f, 3, crop, crop].
        video: its name.
        num_frames: of the whole video.
        indices: [T], which of them the clip has (of f neighbours the middle one).

    Raises:
        ValueError: the model gives no numbers, or is an exported one.
    """
    spec, model = recognizer.spec, recognizer.model
    seen = _observe(model, normalise(clip.to(recognizer.device), spec))
    if not seen.logits.isfinite().all():
        raise InputError("the model's scores are not finite: it has diverged in training")
    scores = probabilities(seen.logits.mean(dim=0), spec)
    ranking = recognizer.top(scores, spec.num_classes)
    target = next((c for c in ranking if c.label == class_label), ranking[0])

    middle = slice(spec.frames_per_segment // 2, None, spec.frames_per_segment)
    frames = np.ascontiguousarray(clip[middle].permute(0, 2, 3, 1).numpy())
    difference_scores = None
    if seen.gates:
        mean = torch.from_numpy(global_image(frames)).permute(2, 0, 1)
        still = normalise(mean.to(recognizer.device), spec).expand(len(clip), -1, -1, -1)
        difference_scores = global_difference_scores(
            [gate.numpy() for gate in seen.gates],
            [gate.numpy() for gate in _observe(model, still).gates],
        )
    activation = None
    if seen.features.ndim == 4:
        weight = model.classifier.weight[target.label].detach().float().cpu()
        activation = class_activation_maps(seen.features.numpy(), weight.numpy())
    return ClipViews(
        video=video,
        model=model.name or type(model).__name__,
        protocol=f"{spec.views(1, 1)}, {spec.describe()}",
        num_frames=num_frames,
        indices=indices,
        frames=frames,
        logits=seen.logits.numpy(),
        prediction=tuple(ranking[:3]),
        target=target,
        scores=difference_scores,
        activation=activation,
        multi_label=spec.multi_label,
    )


def numbers(views: ClipViews) -> dict[str, Any]:
    """The numbers of the figure, JSON-ready; those per frame in the order of ``frames``."""
    label = views.target.label
    return {
        "video": views.video,
        "model": views.model,
        "protocol": views.protocol,
        "num_frames": views.num_frames,
        "frames": views.indices.tolist(),
        "prediction": [score._asdict() for score in views.prediction],
        "class": views.target._asdict(),
        "class_logits": [round(float(x), 6) for x in views.logits[:, label]],
        "class_probabilities": [round(float(x), 6) for x in views.target_probabilities],
        "global_difference_scores": None
        if views.scores is None
        else [round(float(x), 6) for x in views.scores],
        "notes": list(views.notes),
    }


def find_class(text: str, spec: ClipSpec) -> int:
    """The number of a class given by number or name (in any case); InputError if there is none."""
    names = [name.casefold() for name in spec.class_names]
    if text in spec.class_names:
        return spec.class_names.index(text)
    if names.count(text.casefold()) == 1:
        return names.index(text.casefold())
    if text.isdecimal():
        if int(text) < spec.num_classes:
            return int(text)
        raise InputError(f"--class {text}: the model's classes are 0 to {spec.num_classes - 1}")
    near = difflib.get_close_matches(text.casefold(), names, n=1)
    hint = f"did you mean {spec.class_names[names.index(near[0])]!r}" if near else "give its number"
    raise InputError(f"--class {text!r} is none of the model's {spec.num_classes} classes; {hint}")


def output_files(output: str | Path, video: str | Path) -> list[Path]:
    """The file to write, or in that folder a picture and a page; InputError for another suffix."""
    path = Path(output).expanduser()
    if path.suffix.lower() in SUFFIXES and not path.is_dir():
        return [path]
    if path.is_file() or (path.suffix and not path.exists()):
        raise InputError(f"--output {output}: give a folder or a file in {', '.join(SUFFIXES)}")
    source = Path(video).resolve()
    name = source.name if source.is_dir() else source.stem
    return [path / f"{name}.png", path / f"{name}.html"]


class _Observed(NamedTuple):
    """A forward pass seen from inside, on the CPU: logits [T, K], the backbone's last features
    [T, C(, h, w)], and per GTD block the gates [T, C]."""

    logits: Tensor
    features: Tensor
    gates: list[Tensor]


@torch.inference_mode()
def _observe(model: VideoClassifier, clip: Tensor) -> _Observed:
    """Run a clip [T*f, 3, H, W] through a model and look at its modules on the way."""
    gates: list[Tensor] = []
    features: list[Tensor] = []

    def note_gate(module: Any, x: tuple[Tensor], _: Tensor) -> None:
        gates.append(module.gate(x[0]).float().cpu())

    def note_features(module: nn.Module, _: tuple[Tensor], out: Tensor) -> None:
        features.append(out.float().cpu())

    gated = [module for module in model.modules() if getattr(module, "shows_gate", False)]
    hooks = [module.register_forward_hook(note_gate) for module in gated]
    hooks.append(model.backbone.register_forward_hook(note_features))
    try:
        logits = model.forward_frames(clip[None])[0].float().cpu()
    finally:
        for hook in hooks:
            hook.remove()
    return _Observed(logits, features[0], gates)
