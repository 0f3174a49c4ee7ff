"""Counts and times for Prometheus."""

import time
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from visavis.app.server.service import Service

__all__ = ["Measured", "Metrics"]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The registry of one server."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "path")
        self.requests = Counter("visavis_requests", "Requests answered", (*labels, "status"), registry=self.registry)
        self.seconds = Histogram(
            "visavis_request_seconds",
            "From request to the answer's end",
            labels,
            buckets=SECONDS,
            registry=self.registry,
        )
        self.registry.register(_Held(service))

    def text(self) -> bytes:
        """In the text format of Prometheus."""
        return generate_latest(self.registry)


class _Held(Collector):
    """What is in the gallery, looked up when asked."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> Iterable[Any]:
        return ()  # so that registering does not collect

    def collect(self) -> Iterable[Any]:
        service = self._service
        counts = service.gallery.counts()
        for name, value, text in (
            ("photos", counts.photos, "Photos in the gallery"),
            ("faces", counts.faces, "Faces in the gallery"),
            ("people", counts.people, "People in the gallery, named or not"),
            ("jobs", sum(not job.ended for job in service.jobs.all()), "Index jobs that run or wait"),
            ("decoder_deaths", service.decoders.deaths, "Processes that a photo has ended"),
        ):
            yield GaugeMetricFamily(f"visavis_{name}", text, value=value)


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

        try:
            await self._app(scope, receive, answer)
        finally:
            labels = (_METHODS.get(scope["method"], "other"), getattr(scope.get("route"), "path", "none"))
            self._metrics.requests.labels(*labels, str(status)).inc()
            self._metrics.seconds.labels(*labels).observe(time.perf_counter() - start)


_METHODS = {name: name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
