"""A model file ready to answer: a video in, class probabilities out."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtdnet import moved
from gtdnet.data.dataset import read_views
from gtdnet.data.sampling import eval_indices
from gtdnet.data.transforms import eval_views
from gtdnet.engines import ExportedFile, choose_for, open_engine, open_model
from gtdnet.errors import InputError, check_at_least
from gtdnet.models.classifier import VideoClassifier
from gtdnet.models.model_file import ModelFile
from gtdnet.threads import say_threads

AVERAGES = ("probabilities", "logits")
"""What the mean over a clip's views is taken of; of logits, softmax comes after it."""


class ClassScore(NamedTuple):
    """One answer: the class's number, its name and its probability."""

    label: int
    name: str
    probability: float


class Recognizer:
    """A model on its device together with the spec that says how its input is made.

    Args:
        model_file: its model is moved to the device and set to eval mode. Or an exported file.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps".
        engine: what computes: one of :data:`gtdnet.engines.ENGINES`, or "auto" (OpenVINO on a CPU
            where it is installed, else torch); default: torch, and of an exported file its own.
        precision: "fp32", "bf16", "fp16", or "auto" (what is fast on the device); default: fp32,
            and of an exported file its own.
        average: the mean over several views is of their "probabilities" or of their "logits" (as
            in the test scripts of TSM and its descendants), of which the softmax is then taken.

    Attributes:
        average: as given.
        spec, metrics, provenance: the model file's.
        engine: maps frames to logits (:class:`gtdnet.engines.Engine`).
        device, precision: the engine's.

    Raises:
        ValueError: an engine, device or precision that this machine does not have.
    """

    def __init__(
        self,
        model_file: ModelFile | ExportedFile,
        device: str = "auto",
        *,
        engine: str | None = None,
        precision: str | None = None,
        average: str = "probabilities",
    ) -> None:
        check_average(average)
        self.average = average
        choice = choose_for(model_file, engine, device, precision)
        self._model = None
        if isinstance(model_file, ModelFile):
            self._model = model_file.model.eval().to(choice.device)
        self.engine = open_engine(model_file, choice)
        self.device = self.engine.device
        self.precision = self.engine.precision
        self.spec = model_file.spec
        self.metrics = model_file.metrics
        self.provenance = model_file.provenance
        self._path = model_file.path

    @property
    def model(self) -> VideoClassifier:
        """The model file's network: normalised clips [N, T*f, 3, H, W] -> logits [N, K].

        InputError for an exported file, which has none.
        """
        if self._model is None:
            raise InputError(
                f"{self._path}: an exported model holds no PyTorch network; give the model file "
                f"(.safetensors) that it was made from"
            )
        return self._model

    def predict(
        self,
        video: str | Path | NDArray[np.uint8] | Tensor,
        topk: int = 5,
        *,
        clips: int = 1,
        crops: int = 1,
    ) -> list[ClassScore]:
        """The topk most probable classes, best first (all K if there are no more).

        Args:
            video: path of a video file or of a folder of numbered pictures, or all frames in order
                as uint8 RGB [F, H, W, 3].
            topk: number of classes to give.
            clips, crops: test views, which are averaged.

        Raises:
            DecodeError: the video cannot be read.
            ValueError: topk, clips, crops or the frames are not as they should be.
        """
        check_at_least(1, topk=topk)
        check_views(clips, crops)
        if isinstance(video, (str, Path)):
            views = read_views(str(video), self.spec, clips, crops)
        else:
            views = self.views(video, clips, crops)
        return self.top(self.scores(views[None])[0], topk)

    def views(self, frames: NDArray[np.uint8] | Tensor, clips: int = 1, crops: int = 1) -> Tensor:
        """Test views of the frames uint8 [F, H, W, 3] of a video: uint8 [V, T*f, 3, crop, crop].

        Raises:
            ValueError: frames of another kind, or none.
        """
        if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
            raise InputError(
                f"expected frames as [F, H, W, 3], got an array of shape {list(frames.shape)}"
            )
        if frames.dtype not in (np.uint8, torch.uint8):
            raise InputError(f"expected frames as uint8 (0 to 255), got {frames.dtype}")
        indices = eval_indices(self.spec, len(frames), clips).reshape(-1)
        chosen = frames[indices]
        chosen = torch.from_numpy(chosen) if isinstance(chosen, np.ndarray) else chosen.cpu()
        return eval_views(chosen.permute(0, 3, 1, 2), self.spec, crops)

    @torch.inference_mode()
    def scores(self, views: Tensor, batch_size: int = 8) -> Tensor:
        """Probabilities [N, K], float32 on the CPU, of clips given as views [N, V, T*f, 3, h, w].

        Softmax of every view's logits, then the mean over the V views; the mean first where
        ``average`` is "logits". ``views`` is uint8, on any device; ``batch_size`` of the N * V
        views go through the model at a time.

        Raises:
            ValueError: the device's memory does not hold that many, or the model gives no numbers.
        """
        n, v = views.shape[:2]
        parts = views.flatten(0, 1).split(batch_size)
        try:
            if self.device.type == "cpu":
                say_threads()
            logits = torch.cat([self.engine(part) for part in parts]).unflatten(0, (n, v))
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"the memory of {self.device} does not hold batch_size={batch_size} views at once; "
                f"lower batch_size"
            ) from error
        if self.average == "logits":
            scores = logits.mean(dim=1).softmax(dim=-1).cpu()
        else:
            scores = logits.softmax(dim=-1).mean(dim=1).cpu()
        if not scores.isfinite().all():
            raise InputError(
                f"the model's scores are not finite in {self.precision}: it has diverged in "
                f"training, or its numbers overflow; try precision fp32"
            )
        return scores

    def top(self, scores: Tensor, topk: int = 5) -> list[ClassScore]:
        """The topk best classes of one clip's probabilities [K]; of equal ones the lower label."""
        best = scores.sort(descending=True, stable=True).indices[:topk].tolist()
        return [ClassScore(k, self.spec.class_names[k], scores[k].item()) for k in best]


def load(
    path: str | Path,
    device: str = "auto",
    *,
    engine: str | None = None,
    precision: str | None = None,
    num_segments: int | None = None,
    average: str = "probabilities",
) -> Recognizer:
    """Load a model file (``*.safetensors``) or an exported one (``*.onnx``, ``*.xml``).

    Args:
        path: the file, or hf://user/name[@revision][/file] for one on the hub.
        device, engine, precision, average: see :class:`Recognizer`.
        num_segments: frames per clip, if others than the model was trained with.

    Raises:
        ValueError: not a model file, or an engine, device or precision that this machine does not
            have.
    """
    file = open_model(path, num_segments=num_segments)
    return Recognizer(file, device, engine=engine, precision=precision, average=average)


def check_average(average: str) -> None:
    """Raise InputError for what cannot be averaged over views."""
    if average not in AVERAGES:
        raise InputError(f"unknown average {average!r}: choose one of {', '.join(AVERAGES)}")


def check_views(clips: int, crops: int) -> None:
    """Raise InputError unless these are numbers of test clips and crops."""
    check_at_least(1, clips=clips)
    if crops not in (1, 3):
        raise InputError(f"crops must be 1 or 3, got {crops}")


__getattr__ = moved.names(__name__)
