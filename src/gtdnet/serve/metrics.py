"""What is counted, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Of one server; each has a registry of its own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=_SECONDS, registry=registry)

        self.requests = Counter(
            "gtdnet_requests", "Answered, by route and HTTP status", ("route", "status"),
            registry=registry,
        )  # fmt: skip
        self.seconds = histogram("gtdnet_request_seconds", "From first byte to answer", "route")
        self.refused = Counter(
            "gtdnet_refused", "Requests that were refused, by why", ("code",), registry=registry
        )
        self.at_hand = Gauge("gtdnet_at_hand", "Videos that are at hand", registry=registry)
        self.waiting = Gauge(
            "gtdnet_waiting", "Videos that wait for a decoder (the queue)", registry=registry
        )
        self.received = Counter("gtdnet_received_bytes", "Bytes of videos", registry=registry)
        self.decoding = histogram("gtdnet_decode_seconds", "Decoding of a video")
        self.inference = histogram("gtdnet_inference_seconds", "The model on a video", "model")
        self.killed = Counter(
            "gtdnet_decoders_replaced", "Decoding processes that were killed or died", ("why",),
            registry=registry,
        )  # fmt: skip
        self.cameras = Gauge("gtdnet_cameras", "Cameras that are watched", registry=registry)
        self.frames = Counter(
            "gtdnet_camera_frames", "Pictures of cameras that were answered", registry=registry
        )
        self.dropped = Counter(
            "gtdnet_camera_frames_dropped", "Pictures that newer ones overtook", registry=registry
        )
        self.frame_seconds = histogram("gtdnet_camera_frame_seconds", "From picture to answer")

        self.collected = Counter(
            "gtdnet_collected_clips", "Clips that were cut on the page", registry=registry
        )

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)
