"""The numbers of a watch for Prometheus (extra: serve)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gtdnet.errors import InputError
from gtdnet.hosts import is_meant
from gtdnet.live.reports import StatsReport

_COUNTERS = {
    "frames": "Frames taken.",
    "shown": "Frames shown to the model.",
    "dropped": "Frames whose place a newer one took.",
    "damaged": "Frames that could not be decoded.",
    "lost": "Times the source was lost.",
    "events": "Events that began.",
}
_SILENCE = 10.0  # seconds after which a connection without a request is closed
_LATENCIES = {
    "decode": "Seconds to decode a frame.",
    "end_to_end": "Seconds from when a frame had come to when it was decided.",
}


class Metrics:
    """Calling it ends the answers at ``port``."""

    def __init__(self, server: Any, thread: Any) -> None:
        self._server, self._thread = server, thread
        self.port: int = server.server_port

    def __call__(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve_metrics(stats: Callable[[], StatsReport], port: int) -> Metrics:
    """Answer http://127.0.0.1:PORT/metrics, in a thread; 0 takes a port that is free.

    Raises:
        ValueError: the port is taken, or prometheus-client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry, start_http_server
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    except ImportError as error:
        raise InputError(
            'metrics need prometheus-client; install it with pip install "gtdnet[serve]"'
        ) from error

    class Collector:
        def collect(self) -> Iterator[Any]:
            report = stats()
            for name, text in _COUNTERS.items():
                family = CounterMetricFamily(f"gtdnet_watch_{name}", text, labels=["source"])
                for source in report.sources:
                    family.add_metric([source.source], getattr(source, name))
                yield family
            for name, text in _LATENCIES.items():
                family = GaugeMetricFamily(
                    f"gtdnet_watch_{name}_seconds", text, labels=["source", "quantile"]
                )
                for source in report.sources:
                    spread = getattr(source, f"{name}_ms")
                    for quantile, value in (("0.5", spread.p50), ("0.95", spread.p95)):
                        if value is not None:
                            family.add_metric([source.source, quantile], value / 1e3)
                yield family
            family = GaugeMetricFamily(
                "gtdnet_watch_inference_seconds", "Seconds of a batch.", labels=["quantile"]
            )
            spread = report.inference_ms
            for quantile, value in (("0.5", spread.p50), ("0.95", spread.p95)):
                if value is not None:
                    family.add_metric([quantile], value / 1e3)
            yield family

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())  # type: ignore[arg-type]
    try:
        server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"port {port} cannot be used for metrics ({reason}); choose another"
        ) from error
    _guard(server)
    return Metrics(server, thread)


def _guard(server: Any) -> None:
    """Answer those alone that mean this machine, and wait for nobody for ever."""
    app = server.get_app()

    def guarded(environ: dict[str, Any], start_response: Any) -> Any:
        if is_meant(environ.get("HTTP_HOST", "")):
            return app(environ, start_response)
        start_response("421 Misdirected Request", [("Content-Type", "text/plain")])
        return [b"This server has no such name; use its address.\n"]

    server.set_app(guarded)
    handler = server.RequestHandlerClass
    server.RequestHandlerClass = type("Handler", (handler,), {"timeout": _SILENCE})
    server.handle_error = lambda request, client: None  # else a traceback of who went or was silent
