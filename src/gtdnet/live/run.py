"""A watch from start to end: what it is asked for, and what hears of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

from gtdnet.data.calibration import Calibration
from gtdnet.engines import open_model
from gtdnet.infer.live import open_live
from gtdnet.live.metrics import serve_metrics
from gtdnet.live.options import WatchOptions
from gtdnet.live.record import Recorder
from gtdnet.live.reports import Report, StatsReport
from gtdnet.live.sources import Patience, Source
from gtdnet.live.watcher import StreamWatcher
from gtdnet.live.webhook import Webhook
from gtdnet.live.words import parse_sources


class Watch:
    """Opens all that the options name; :meth:`reports` gives what happens.

    Attributes:
        sources: that are watched.
        watcher: that does.
        webhook, recorder: where they were asked for.

    Raises:
        ValueError: an option out of range, no model file, or a place that cannot be written.
    """

    def __init__(self, options: WatchOptions) -> None:
        self.sources: list[Source] = parse_sources(
            options.sources, size=options.size, rate=options.rate, realtime=options.realtime
        )
        patience = Patience(options.silence, options.gap, min(0.5, options.pause), options.pause)
        names = [source.name for source in self.sources]
        self.recorder = (
            Recorder(options.record, names, options.overwrite) if options.record else None
        )
        self.webhook: Webhook | None = None
        with ExitStack() as stack:
            if options.webhook:
                self.webhook = Webhook(options.webhook)
                stack.callback(self.webhook.close, 0.0)
            file = open_model(options.model)
            calibration = file.spec.calibration or Calibration()
            given = {
                name: value
                for name in ("smoothing", "release", "shortest")
                if (value := getattr(options, name)) is not None
            }
            model = open_live(
                file,
                len(names),
                options.device,
                precision=options.precision,
                window=options.window,
                every=options.every,
            )
            self.watcher = StreamWatcher(
                model,
                self.sources,
                rules=replace(calibration.rules, **given),
                threshold=options.threshold,
                nothing=options.nothing,
                updates=options.updates,
                topk=options.topk,
                patience=patience,
                stats=options.stats,
                duration=options.duration,
                record=self.recorder,
            )
            self._close_metrics: Callable[[], None] = lambda: None
            if options.metrics_port is not None:
                self._close_metrics = serve_metrics(self.watcher.stats, options.metrics_port)
            stack.pop_all()

    def reports(self) -> Iterator[Report]:
        """What happens, until all files have ended or the time is up; a final StatsReport last."""
        yield from map(self._tell, self.watcher)

    def close(self) -> list[Report]:
        """End it; what is still to be said, nothing after the final StatsReport."""
        return [self._tell(report) for report in self.watcher.close()]

    def _tell(self, report: Report) -> Report:
        if isinstance(report, StatsReport) and report.final:
            self._close_metrics()
            if self.webhook is not None:
                self.webhook.close()
        if self.webhook is None:
            return report
        if isinstance(report, StatsReport):
            return replace(report, webhook=dict(self.webhook.counts))
        self.webhook.send(report.to_json())
        return report
