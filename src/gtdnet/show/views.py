"""One clip as the model sees it: differences, scores and activations, as numbers and as pictures.

Figure 7 of Xie, Chen, Wu, Guo, Hong: "Global Temporal Difference Network for Action Recognition",
IEEE Transactions on Multimedia, 2022, whose global difference score the paper does not define;
:func:`global_difference_scores` does. Pictures are RGB as a screen shows it, uint8 [H, W, 3].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from gtdnet.infer.recognizer import ClassScore
from gtdnet.infer.render import percent

Pictures = NDArray[np.uint8]
"""uint8 [T, H, W, 3]."""

LEAST_DEVIATION = 1e-5  # of a gate in (0, 1); float32 rounding lies far below, an effect far above
MOST_GAIN = 5.0  # beyond it, differences would show the noise of the video's compression
HEAT = "inferno"  # matplotlib's name of a colour map whose steps are even to the eye


# --------------------------------------------------------------------------------------- numbers


def global_image(frames: Pictures) -> NDArray[np.float32]:
    """The mean over the frames, [H, W, 3], values 0 to 255."""
    return frames.mean(axis=0, dtype=np.float64).astype(np.float32)


def local_differences(frames: Pictures) -> NDArray[np.float32]:
    """Frame minus next frame, [T - 1, H, W, 3], values -255 to 255."""
    return frames[:-1].astype(np.float32) - frames[1:]


def global_differences(frames: Pictures) -> NDArray[np.float32]:
    """Frame minus global image, [T, H, W, 3], values -255 to 255."""
    return frames - global_image(frames)


def global_difference_scores(
    gates: Sequence[NDArray[np.floating]], still: Sequence[NDArray[np.floating]]
) -> NDArray[np.float64]:
    """How far the gates of a network set each frame of a clip apart from the others.

    With s_t the gate of a GTD block for frame t (C channels), s°_t what the same block gives at
    frame t of the still clip that is T times the global image, and overlines for means over the
    frames:

        g_t     = s_t - s°_t
        d_t     = mean over blocks of the mean over channels of | g_t - g̅ |
        score_t = (d_t + ε) / Σ_τ (d_τ + ε)                               ε = 1e-5

    The still clip takes out what the gates owe to a frame's place alone: temporal shift fills up
    with zeros at both ends, so a network tells the first and the last frame of a clip apart even
    if nothing moves. ε makes the score of a clip that does not change 1/T, not rounding noise.

    Args:
        gates: s of every block, each [T, C] (C may differ).
        still: s° of the same blocks.

    Returns:
        [T], non-negative, sums to 1.
    """
    deviations = []
    for s, s_still in zip(gates, still, strict=True):
        g = s.astype(np.float64) - s_still  # [T, C]
        deviations.append(np.abs(g - g.mean(axis=0)).mean(axis=1))
    d = np.mean(deviations, axis=0) + LEAST_DEVIATION
    return d / d.sum()


def class_activation_maps(
    features: NDArray[np.floating], weight: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Where the evidence for a class lies: features [T, C, h, w], weight [C] -> [T, h, w].

    Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016. Exact for
    global average pooling and a linear classifier: a map's mean, plus the classifier's bias, is
    the class's logit of that frame.
    """
    return np.einsum("tchw,c->thw", features, weight).astype(np.float32)


@dataclass(frozen=True)
class ClipViews:
    """Everything that ``gtdnet show`` draws of one clip; T frames, K classes.

    Attributes:
        video: path of the video.
        model: name of the network.
        protocol: views and sampling in one line.
        num_frames: of the whole video.
        indices: int64 [T], which of them these are (of a segment of several the middle one).
        frames: uint8 [T, H, W, 3], what the model sees, before normalisation.
        logits: float32 [T, K], per frame; their mean over T makes the prediction.
        prediction: the best classes (at most three), best first.
        target: the class that the activation maps are about, and its probability.
        scores: float64 [T], global difference scores; None for a network without GTD blocks.
        activation: float32 [T, h, w], class activation maps of ``target``; None for a network
            whose last features have no positions.
        multi_label: each class's probability is the sigmoid of its logit, and not of softmax.
    """

    video: str
    model: str
    protocol: str
    num_frames: int
    indices: NDArray[np.int64]
    frames: Pictures
    logits: NDArray[np.float32]
    prediction: tuple[ClassScore, ...]
    target: ClassScore
    scores: NDArray[np.float64] | None
    activation: NDArray[np.float32] | None
    multi_label: bool = False

    @cached_property
    def global_image(self) -> NDArray[np.float32]:
        return global_image(self.frames)

    @cached_property
    def local_differences(self) -> NDArray[np.float32]:
        return local_differences(self.frames)

    @cached_property
    def global_differences(self) -> NDArray[np.float32]:
        return global_differences(self.frames)

    @cached_property
    def target_probabilities(self) -> NDArray[np.float32]:
        """[T]: of ``target``, were each frame's logits the answer."""
        if self.multi_label:
            return np.float32(1) / (1 + np.exp(-self.logits[:, self.target.label]))
        powers = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
        return powers[:, self.target.label] / powers.sum(axis=1)

    @property
    def source(self) -> str:
        """File, length, network and protocol in one line."""
        name = Path(self.video).name
        return f"{name} · {self.num_frames} frames · {self.model} · {self.protocol}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not drawn and why, a sentence each."""
        notes = []
        if self.scores is None:
            notes.append(f"No global difference scores: {self.model} has no GTD block.")
        if self.activation is None:
            notes.append(f"No class activation: {self.model} ends in features without positions.")
        elif self.activation.max() <= 0:
            notes.append(f"Nothing in the clip speaks for “{self.target.name}”.")
        return tuple(notes)


# -------------------------------------------------------------------------------------- pictures


def difference_gain(*differences: NDArray[np.float32]) -> float:
    """The factor that makes differences visible: their 99.5th percentile becomes full contrast.

    At least 1; at most 5, so that a clip in which nothing moves stays grey.
    """
    most = max((float(np.percentile(np.abs(d), 99.5)) for d in differences if d.size), default=0.0)
    return min(MOST_GAIN, max(1.0, 255 / most)) if most else MOST_GAIN


def difference_pictures(differences: NDArray[np.float32], gain: float) -> Pictures:
    """Mid-grey is no change, brighter is positive, darker negative, for each colour by itself.

    Linear in the video's own values, which are about evenly spaced to the eye.
    """
    return np.clip(127.5 + gain * differences / 2, 0, 255).round().astype(np.uint8)


def enhanced_pictures(frames: Pictures, differences: NDArray[np.float32], gain: float) -> Pictures:
    """Frames in which what differs stands out: global difference + RGB.

    The frame at half its contrast, so that there is room, plus gain * ``differences`` / 2: a thing
    is seen in its own colours, and where it is at other times in their opposite.
    """
    pale = 64 + frames.astype(np.float32) / 2
    return np.clip(pale + gain * differences / 2, 0, 255).round().astype(np.uint8)


def heat_pictures(frames: Pictures, maps: NDArray[np.float32]) -> Pictures:
    """Activation maps [T, h, w] over the frames in grey; one scale, 0 to their maximum, for all.

    Only what speaks for the class is coloured: negative values leave the frame grey.
    """
    import matplotlib

    size = frames.shape[1:3]
    resized = F.interpolate(torch.from_numpy(maps)[:, None], size, mode="bicubic")[:, 0].numpy()
    heat = np.clip(resized / max(float(maps.max()), 1e-9), 0, 1)
    colours = matplotlib.colormaps[HEAT](heat)[..., :3] * 255
    grey = (frames @ np.array([0.299, 0.587, 0.114]))[..., None]
    opacity = 0.8 * heat[..., None]
    return ((1 - opacity) * grey + opacity * colours).round().astype(np.uint8)


def disc_radii(scores: NDArray[np.float64], most: float = 0.47) -> NDArray[np.float64]:
    """Radii in parts of a cell: areas go with the scores; 0.32 for 1/T, ``most`` at most."""
    radii = 0.32 * np.sqrt(scores * len(scores))
    return radii * min(1.0, most / radii.max())


@dataclass(frozen=True)
class Row:
    """A row of the figure: a title, what it shows in a few words, and pictures [<= T].

    ``alts`` say in words what each picture is; ``captions`` stand below them, or are empty, and
    ``caption_hint`` says what they are. ``most`` is the number of the last colour of a heat map.
    """

    key: str
    title: str
    hint: str
    pictures: Pictures
    alts: Sequence[str]
    captions: Sequence[str] = ()
    caption_hint: str = ""
    most: float = 0.0


@dataclass(frozen=True)
class Discs:
    """The row of scores: a disc for each, and a ring for 1/T; radii in parts of a cell."""

    scores: NDArray[np.float64]
    radii: NDArray[np.float64]
    ring: float
    title: str = "Global difference score"
    hint: str = "by the model's gates; ring: 1/T"


def rows(views: ClipViews) -> list[Row | Discs]:
    """All rows of the figure, in order; one that there is nothing for is left out."""
    found: list[Row | Discs] = [*picture_rows(views)]
    if views.scores is not None:
        radii = disc_radii(views.scores)
        ring = radii.max() / np.sqrt(views.scores.max() * len(views.scores))
        above_activation = len(found) - (views.activation is not None)
        found.insert(above_activation, Discs(views.scores, radii, float(ring)))
    return found


def picture_rows(views: ClipViews) -> list[Row]:
    """The rows of pictures among them."""
    local, whole = views.local_differences, views.global_differences
    gain = difference_gain(local, whole)
    names = [f"frame {index}" for index in views.indices]
    contrast = f"contrast\u00a0×\u00a0{gain:.1f}"  # no line break
    found = [
        Row("frames", "Frames", "numbered from 0", views.frames, names),
        Row(
            "local",
            "Local difference",
            f"frame − next frame, {contrast}",
            difference_pictures(local, gain),
            [f"{a} minus {b}" for a, b in pairwise(names)],
        ),
        Row(
            "global",
            "Global difference",
            f"frame − global image, {contrast}",
            difference_pictures(whole, gain),
            [f"{name} minus the global image" for name in names],
        ),
        Row(
            "enhanced",
            "Global difference + RGB",
            "the frame, pale, plus how it differs from the global image",
            enhanced_pictures(views.frames, whole, gain),
            [f"{name} with what differs from the global image enhanced" for name in names],
        ),
    ]
    if views.activation is not None:
        target = views.target
        given = target.label != views.prediction[0].label
        shares = [f"{100 * p:.0f} %" for p in views.target_probabilities]
        found.append(
            Row(
                "activation",
                "Class activation",
                f"what speaks for “{target.name}”"
                + (f" ({percent(target.probability)})" if given else ""),
                heat_pictures(views.frames, views.activation),
                [
                    f"{frame} with what speaks for {target.name} coloured, probability {share}"
                    for frame, share in zip(names, shares, strict=True)
                ],
                shares,
                "its probability by frame",
                float(views.activation.max()),
            )
        )
    return [row for row in found if len(row.pictures)]
