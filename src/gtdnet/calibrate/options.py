"""What ``gtdnet calibrate`` is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from gtdnet.data.calibration import EventRules
from gtdnet.errors import InputError, check_at_least, check_positive


@dataclass
class CalibrateOptions:
    """Learn on held-out clips when a model's answers can be trusted

    Args:
        model: a run folder, or a model file (*.safetensors).
        data: dataset folder, list file or manifest of gtdnet check, with clips that the model was
            not trained on; default: what the run that the model file lies in held out.
        format: how the dataset is laid out; default: recognised.
        split: that is learned from.
        precision: share of the answers that are to be right, for each class: from the smallest
            threshold that gives it, the class is named.
        confidence: that the precision is kept in truth, not on these clips alone; above 0.5. The
            higher, the more clips it takes: 7 of a class, all right, for 0.9 at 0.8.
        nothing: class of the model that stands for nothing, as trained on clips of the background:
            it is never named.
        background: folder or file of videos in which nothing happens, as long as you have them.
        false_alarms: most events an hour of background.
        clips: test clips per video.
        crops: test crops per clip: 1 (centre) or 3 (along the longer side).
        average: over the crops and clips.
        window: seconds that the model looks back in a stream; default: the model's own.
        every: seconds between two answers in a stream; default: the model's own.
        smoothing: seconds over which the probabilities of a stream are averaged.
        shortest: seconds for which a class must hold its threshold before an event begins.
        release: part of its threshold below which an event ends.
        fps: frames per second of videos that do not state theirs.
        batch_size: views that go through the model at a time.
        num_workers: decoding processes; default: one per core, at most 8 (half of them when the
            model runs on the CPU).
        device: where to compute; auto: on a GPU if there is one; cuda:1: on the second.
        output: the calibrated model file to write.
        overwrite: replace the output; without one, write into the model file itself.
    """

    model: str
    data: str | None = None
    format: str | None = None
    split: str = "validation"
    precision: float = 0.9
    confidence: float = 0.8
    nothing: str | None = None
    background: str | None = None
    false_alarms: float = 1.0
    clips: int = 1
    crops: int = 1
    average: str = "probabilities"
    window: float | None = None
    every: float | None = None
    smoothing: float = 1.0
    shortest: float = 0.5
    release: float = 0.8
    fps: float | None = None
    batch_size: int = 8
    num_workers: int | None = None
    device: str = "auto"
    output: str | None = None
    overwrite: bool = False

    @property
    def rules(self) -> EventRules:
        """Of events; InputError for values out of range."""
        return EventRules(self.smoothing, self.release, self.shortest)

    def check(self) -> None:
        """Raise InputError for options out of range."""
        if not 0 < self.precision < 1:
            raise InputError(f"precision must be above 0, below 1, got {self.precision:g}")
        if not 0.5 < self.confidence < 1:
            raise InputError(f"confidence must be above 0.5, below 1, got {self.confidence:g}")
        if not self.false_alarms >= 0:
            raise InputError(
                f"false_alarms must be a number of events an hour, got {self.false_alarms:g}"
            )
        check_positive(window=self.window, every=self.every, fps=self.fps)
        check_at_least(1, batch_size=self.batch_size, clips=self.clips)
        self.rules  # noqa: B018  (checks itself)
