"""What one running server has: settings, database, the hub of events, workers."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path

from moderator.claims.rules import RulePack, load_rules
from moderator.review.database import Database
from moderator.review.demo import Demo
from moderator.review.events import Hub
from moderator.review.jobs import Checker, JobRunner
from moderator.review.metrics import Metrics
from moderator.review.retention import Janitor
from moderator.review.settings import ReviewSettings
from moderator.review.signing import Signer
from moderator.review.watching import Watchers


class House:
    """Everything a request needs, found at `request.app.state.house`."""

    signer: Signer
    """There once the tables are: it may be the first to write to them."""

    def __init__(self, settings: ReviewSettings, checker: Checker | None = None) -> None:
        self.settings = settings
        self.database = Database(settings.url)
        self.hub = Hub(self.database)
        self.metrics = Metrics()
        self.watchers = Watchers(self.database, settings)
        self.jobs = JobRunner(self.database, settings, checker)
        self.janitor = Janitor(self.database, settings)
        self.demo = Demo(self.database, settings)

    @property
    def rules(self) -> RulePack:
        """The rule pack whose titles, texts and articles are shown."""
        return _shipped_rules()

    @property
    def data_dir(self) -> Path:
        return self.settings.data_dir

    def start(self) -> None:
        """Begin the work in the background."""
        self.jobs.start()
        self.janitor.start()
        threading.Thread(target=self.watchers.resume, name="resume", daemon=True).start()

    async def stop(self) -> None:
        """End it: streams first, then workers, then the database."""
        await self.hub.stop()
        self.demo.stop()
        self.jobs.stop()
        self.janitor.stop()
        self.watchers.close()
        self.database.close()


@cache
def _shipped_rules() -> RulePack:
    """Read once for the process: two hundred files."""
    return load_rules()
