"""What ``gtdnet evaluate`` and ``gtdnet ensemble`` are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

FRAME_ORDERS = ("in-order", "shuffled", "reversed", "repeated")
"""How a clip's frames are fed. All but the first show what a model loses without the order of time:
a random permutation, backwards, or the middle frame over and over."""


@dataclass
class EvaluateOptions:
    """Evaluate a model file on one split of a dataset

    Args:
        model: the model file (*.safetensors), an exported one (*.onnx, *.xml), hf://user/name, or
            the folder of a run.
        data: dataset folder, list file or manifest of gtdnet check; default: what the run that the
            model file lies in was trained on. Clips that the run held out are its validation split.
        format: how the dataset is laid out; default: recognised.
        split: that is measured.
        clips: test clips per video (the last number of frames x crops x clips).
        crops: test crops per clip: 1 (centre) or 3 (along the longer side).
        average: over the crops and clips; logits: as the test scripts of TSM and
            its descendants do.
        threshold: probability from which on a clip is given a class, for the F1 of multi-label
            models; default: for each class what the model was calibrated with, else 0.5. Nothing is
            tuned on the clips that are measured.
        num_segments: frames per clip; default: as in training.
        short_side: the shorter side in pixels before the crops; default: as in the model file.
        crop_size: side in pixels of the square the model sees; default: as in the model file.
        frames: in which order; all but in-order show how much the order counts (repeated: the
            middle frame over and over).
        diagnose: measure all four orders of frames, decoding each clip once, and say which classes
            need the order, for which one frame is enough, and what each is when played backwards.
        batch_size: views that go through the model at a time.
        num_workers: decoding processes; default: one per core, at most 8 (half of them when the
            model runs on the CPU).
        device: where to compute; auto: on a GPU if there is one; cuda:1: on the second.
        devices: how many of them on each machine, a process each that scores its share of the
            clips; under torchrun or srun: as many as those started.
        num_nodes: machines; each is given the same command, best by torchrun or srun.
        timeout: minutes that processes wait for one of them before the evaluation ends.
        engine: that computes; auto: openvino on a CPU where it is installed, else torch; default:
            torch, of an exported model its own.
        precision: auto: what is fast on the device; default: fp32, of an exported model its own.
        seed: of shuffling alone; everything else is determined.
        output: folder of the results; default: a new one beside the model file, or for hf://
            models in runs/.
        overwrite: replace the results that are in the output folder.
    """

    model: str
    data: str | None = None
    format: str | None = None
    split: str = "validation"
    clips: int = 1
    crops: int = 1
    average: str = "probabilities"
    threshold: float | None = None
    num_segments: int | None = None
    short_side: int | None = None
    crop_size: int | None = None
    frames: str = "in-order"
    diagnose: bool = False
    batch_size: int = 8
    num_workers: int | None = None
    device: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    timeout: float = 5.0
    engine: str | None = None
    precision: str | None = None
    seed: int = 0
    output: str | None = None
    overwrite: bool = False


@dataclass
class EnsembleOptions:
    """Average the probabilities of several evaluations

    Args:
        members: folders that gtdnet evaluate or ensemble wrote, or their scores.npz; two or more.
        weights: one positive number for each member; default: all count the same.
        common: where members lack each other's clips, use those that all of them have.
        output: folder of the results; default: a new one beside the first member.
        overwrite: replace the results that are in the output folder.
    """

    members: Sequence[str]
    weights: Sequence[float] | None = None
    common: bool = False
    output: str | None = None
    overwrite: bool = False
