"""What ``gtdnet serve`` is asked for."""

import re
from dataclasses import dataclass
from pathlib import Path

_NAMED = re.compile(r"([A-Za-z0-9._-]+)=(.+)", re.DOTALL)


@dataclass
class ServeOptions:
    """Serve models to people and programs

    Args:
        models: run folders, model files (*.safetensors), exported ones (*.onnx, *.xml) or their
            folders, hf://user/name; each may be given a name, as in lips=runs/first.
        host: address to listen on; one beyond 127.0.0.1 and ::1 needs a token.
        port: to listen on; 0: any that is free.
        token: that every request must bring (Authorization: Bearer TOKEN); default: the environment
            variable GTDNET_TOKEN, which, unlike an option, other users of the machine cannot see.
        names: host names under which it is reached, with commas between; addresses and localhost
            always are.
        certificate: file with the TLS certificate (PEM), for https; browsers give a camera to https
            and to this machine alone.
        key: file with the certificate's private key.
        max_megabytes: of a video.
        max_seconds: of a video's length.
        max_pixels: of a video's picture; the default holds 4096x2160.
        queue: requests at hand at a time, from their first byte to their answer; more get 503.
        timeout: seconds for a request, from its first byte to its answer.
        decoders: videos that are decoded at a time, each in a process of its own; default: half of
            the cores, at most 4.
        decoder_memory: MiB that one of them may take; one that wants more is refused the video.
        cameras: that are watched at a time.
        camera_idle: seconds without a picture after which a camera is let go.
        collect: folder into which people cut labelled clips on the page /collect; then no model is
            needed.
        classes: of these clips, with commas between; default: the folders that are there.
        collect_seconds: of such a clip, at most.
        collect_megabytes: of all clips in that folder, at most.
        device: where to compute; auto: on a GPU if there is one; cuda:1: on the second.
        engine: that computes; default: torch, of an exported model its own.
        precision: auto: what is fast on the device; default: fp32, of an exported model its own.
    """

    models: list[str]
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    names: str | None = None
    certificate: str | None = None
    key: str | None = None
    max_megabytes: float = 100.0
    max_seconds: float = 600.0
    max_pixels: int = 4096 * 2160
    queue: int = 32
    timeout: float = 120.0
    decoders: int | None = None
    decoder_memory: int = 1024
    cameras: int = 4
    camera_idle: float = 30.0
    collect: str | None = None
    classes: str | None = None
    collect_seconds: float = 60.0
    collect_megabytes: float = 2000.0
    device: str = "auto"
    engine: str | None = None
    precision: str | None = None


def split(source: str) -> tuple[str | None, str]:
    """The name of NAME=MODEL, if there is one, and the model."""
    named = _NAMED.fullmatch(source)
    if named and not Path(source).exists():
        return named[1], named[2]
    return None, source
