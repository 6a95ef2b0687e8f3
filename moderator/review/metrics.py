"""What Prometheus reads: requests, the queue, jobs, open consoles."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moderator.review.models import Job, ViolationRow
from moderator.review.queue import STATUSES

if TYPE_CHECKING:
    from moderator.review.house import House

COUNT_EVERY_S = 10.0
"""Counting the queue at every scrape would cost more than it tells."""


class Metrics:
    """A registry of its own, so that two servers in one process do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "moderator_http_requests",
            "Answers.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "moderator_http_request_seconds",
            "Time to the answer.",
            ["route"],
            registry=self.registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.3, 0.5, 1, 2.5, 5, 10),
        )
        self.violations = Gauge(
            "moderator_violations", "Violations by status.", ["status"], registry=self.registry
        )
        self.jobs = Gauge("moderator_jobs", "Jobs by state.", ["state"], registry=self.registry)
        self.consoles = Gauge(
            "moderator_event_streams", "Open event streams.", registry=self.registry
        )
        self.database_up = Gauge(
            "moderator_database_up", "Whether the database answers.", registry=self.registry
        )
        self._counted = 0.0

    def render(self, house: House) -> bytes:
        """The text; counts of the queue are at most ten seconds old."""
        self.consoles.set(house.hub.listeners)
        if time.monotonic() - self._counted > COUNT_EVERY_S:
            self._counted = time.monotonic()
            self._count(house)
        return generate_latest(self.registry)

    def _count(self, house: House) -> None:
        try:
            with house.database.read() as db:
                by_status = dict(
                    db.execute(
                        select(ViolationRow.status, func.count()).group_by(ViolationRow.status)
                    )
                    .tuples()
                    .all()
                )
                by_state = dict(
                    db.execute(select(Job.state, func.count()).group_by(Job.state)).tuples().all()
                )
        except SQLAlchemyError:
            self.database_up.set(0)
            return
        self.database_up.set(1)
        for status in STATUSES:
            self.violations.labels(status).set(by_status.get(status, 0))
        for state in ("uploading", "queued", "running", "done", "failed", "cancelled"):
            self.jobs.labels(state).set(by_state.get(state, 0))


class Measured:
    """Counts and times every request by its route, never by its path: paths have no bound."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.requests.labels(scope["method"], route, message["status"]).inc()
                self._metrics.seconds.labels(route).observe(time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, send_counted)
