"""What ``gtdnet watch`` is asked for."""

from dataclasses import dataclass


@dataclass
class WatchOptions:
    """Say what happens in videos, while it happens

    Args:
        model: a run folder, a model file (*.safetensors), an exported one (*.onnx, *.xml) or its
            folder, or hf://user/name.
        sources: files, cameras (0 or /dev/video0), addresses (rtsp://, http://, HLS playlists), or
            - for raw rgb24 frames on stdin; NAME=SOURCE names one.
        topk: classes to show when an event begins.
        threshold: probability from which on a class is named; default: those of the model's
            calibration, else 0.6.
        nothing: class that stands for nothing, as trained on clips of the background; no event.
        smoothing: seconds over which probabilities are averaged; default: the calibration's.
        release: an event ends below this part of its threshold; default: the calibration's.
        shortest: seconds for which a class must hold its threshold before an event begins; default:
            the calibration's.
        updates: seconds between two lines of JSON about an event that goes on.
        window: seconds that the model looks back; default: as long as its clips.
        every: seconds from one answer to the next; default: a quarter of the window. Not of causal
            models, which answer at every frame.
        realtime: play files as a camera would show them, the newest frame wins; default: every
            frame counts.
        size: WIDTHxHEIGHT of raw frames, and of a camera.
        rate: frames per second of raw frames, of a camera, and of files that do not state theirs.
        silence: seconds after which a live source that gives nothing is opened again.
        gap: seconds that may be missing in a stream; after more the model begins anew.
        pause: longest pause in seconds before a lost source is opened again.
        duration: seconds after which the watch ends by itself; default: when all files have ended.
        stats: seconds between two lines about latency, rate and dropped frames; default: only at
            the end.
        webhook: address to which events are posted as JSON (http or https).
        record: video (*.mp4) of what was watched with labels drawn on it, or of several sources a
            folder.
        overwrite: replace recordings that are there.
        metrics_port: port on this machine where Prometheus finds the same numbers; default: none.
        device: where to compute; auto: on a GPU if there is one; cuda:1: on the second.
        precision: auto: what is fast on the device; default: fp32, of an exported model its own.
    """

    model: str
    sources: list[str]
    topk: int = 5
    threshold: float | None = None
    nothing: str | None = None
    smoothing: float | None = None
    release: float | None = None
    shortest: float | None = None
    updates: float = 1.0
    window: float | None = None
    every: float | None = None
    realtime: bool = False
    size: str | None = None
    rate: float | None = None
    silence: float = 10.0
    gap: float = 5.0
    pause: float = 30.0
    duration: float | None = None
    stats: float | None = None
    webhook: str | None = None
    record: str | None = None
    overwrite: bool = False
    metrics_port: int | None = None
    device: str = "auto"
    precision: str | None = None
