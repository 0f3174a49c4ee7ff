"""Counts and times for Prometheus."""

import time
from collections.abc import Iterable
from typing import Any, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from visavis.app.server.service import Service
from visavis.app.server.turns import Turns
from visavis.face.wire import JobState

__all__ = ["Measured", "Metrics"]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The registry of one server."""

    def __init__(self, service: Service, turns: Turns) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "path")
        self.requests = Counter("visavis_requests", "Requests answered", (*labels, "status"), registry=self.registry)
        self.now = Gauge("visavis_requests_now", "Requests that wait or are being answered", registry=self.registry)
        self.refused = Counter(
            "visavis_refused",
            "Requests refused for their rate, a wrong token, or want of room for them",
            ("reason",),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "visavis_request_seconds",
            "From request to the answer's end",
            labels,
            buckets=SECONDS,
            registry=self.registry,
        )
        self.registry.register(_Held(service, turns))
        ProcessCollector(registry=self.registry)

    def text(self) -> bytes:
        """In the text format of Prometheus."""
        return generate_latest(self.registry)


class _Held(Collector):
    """What is in the gallery and what is being done, looked up when asked."""

    def __init__(self, service: Service, turns: Turns) -> None:
        self._service, self._turns = service, turns

    def describe(self) -> Iterable[Any]:
        return ()  # so that registering does not collect

    def collect(self) -> Iterable[Any]:
        service, turns = self._service, self._turns
        counts, states = service.gallery.counts(), [job.state for job in service.jobs.all()]
        for name, value, text in (
            ("photos", counts.photos, "Photos in the gallery"),
            ("faces", counts.faces, "Faces in the gallery"),
            ("people", counts.people, "People in the gallery, named or not"),
            ("turns_taken", turns.taken, "Requests whose photos are being looked at"),
            ("turns_waiting", turns.waiting, "Requests that wait for their photos to be looked at"),
        ):
            yield GaugeMetricFamily(f"visavis_{name}", text, value=value)
        jobs = GaugeMetricFamily("visavis_jobs", "Index jobs of the last hundred", labels=["state"])
        for state in get_args(JobState):
            jobs.add_metric([state], states.count(state))
        yield jobs
        for name, value, text in (
            ("turns_refused", turns.refused, "Requests told to come again, for too many waited"),
            ("decoder_deaths", service.decoders.deaths, "Processes that a photo has ended"),
        ):
            yield CounterMetricFamily(f"visavis_{name}", text, value=value)


class Measured:
    """ASGI middleware: counts each request under its route, never under the path it named, which may be anything."""

    def __init__(self, app: Any, *, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, start = 500, time.perf_counter()

        async def answer(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        self._metrics.now.inc()
        try:
            await self._app(scope, receive, answer)
        finally:
            self._metrics.now.dec()
            labels = (_METHODS.get(scope["method"], "other"), getattr(scope.get("route"), "path", "none"))
            self._metrics.requests.labels(*labels, str(status)).inc()
            self._metrics.seconds.labels(*labels).observe(time.perf_counter() - start)


_METHODS = {name: name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
