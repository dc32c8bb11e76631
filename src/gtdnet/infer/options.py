"""What ``gtdnet predict`` is asked for."""

from dataclasses import dataclass


@dataclass
class PredictOptions:
    """Recognise what happens in videos

    Args:
        model: a run folder, a model file (*.safetensors), an exported one (*.onnx, *.xml) or its
            folder, or hf://user/name.
        videos: files, folders (with all videos below) and patterns such as "clips/**/*.mp4".
        topk: most classes to give per video or window; default: 5, of a multi-label model all that
            reach the threshold.
        threshold: classes of a lower probability are left out; default: 0.5 of a multi-label model,
            of others none are; a calibrated model's own thresholds say which class is named, if
            any.
        clips: test clips per video or window.
        crops: test crops per clip: 1 (centre) or 3 (along the longer side).
        average: over the crops and clips; logits: as the test scripts of TSM and
            its descendants do.
        num_segments: frames per clip; default: as in training.
        window: seconds; cuts each video into windows and gives the classes of each; default: whole
            videos, or with timeline or draw windows of 2.
        stride: seconds from the start of one window to the next; default: as long as a window.
        fps: frames per second of folders of pictures and of videos that do not state theirs.
        batch_size: views that go through the model at a time.
        num_workers: videos that are decoded at a time, in processes, or windows in threads;
            default: one per core, at most 8 (half of them when the model runs on the CPU).
        device: where to compute; auto: on a GPU if there is one; cuda:1: on the second.
        engine: that computes; auto: of an exported model its own; else openvino on a CPU where it
            is installed and there are enough clips to make up for the seconds of its preparation;
            else torch.
        precision: auto: what is fast on the device; default: fp32, of an exported model its own.
        output: file to which answers are added as they come, a line a video (*.jsonl) or a class
            (*.csv); the same command goes on where it was stopped.
        features: file for what the classifier sees (*.npz or *.parquet): pooled features of each
            video or window and of its frames, names and times beside.
        timeline: picture (*.png, *.pdf, *.svg) of the probabilities over time, or a folder for one
            of each video.
        draw: video (*.mp4) with the answers drawn on it, or a folder for one of each video.
        overwrite: replace these files where they are there.
    """

    model: str
    videos: list[str]
    topk: int | None = None
    threshold: float | None = None
    clips: int = 1
    crops: int = 1
    average: str = "probabilities"
    num_segments: int | None = None
    window: float | None = None
    stride: float | None = None
    fps: float | None = None
    batch_size: int = 8
    num_workers: int | None = None
    device: str = "auto"
    engine: str = "auto"
    precision: str | None = None
    output: str | None = None
    features: str | None = None
    timeline: str | None = None
    draw: str | None = None
    overwrite: bool = False
