"""A server on the loopback and Debian's Chromium in front of it."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from moderator.media.clips import frame_at
from moderator.review import accounts, demo
from moderator.review.app import create_app, prepare
from moderator.review.house import House
from moderator.review.models import User
from moderator.review.settings import ReviewSettings

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

PASSWORD = "a quite good secret"
ROOM = "food_and_tea"
WAIT_MS = 30_000
"""Long: the machine that runs this may be busy with much else."""


@dataclass(frozen=True)
class Desk:
    """A running console."""

    url: str
    house: House
    first_password: str
    data: Path


@pytest.fixture(scope="package")
def one_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from moderator.media.clips import cut_clip

    media = demo.SAMPLES / "rooms" / f"{ROOM}.mp4"
    return cut_clip(media, 47.0, 49.0, tmp_path_factory.mktemp("clip") / "one.mp4")


@pytest.fixture(scope="package", autouse=True)
def quick_samples(one_clip: Path) -> Iterator[None]:
    """One sample room, one real clip and frame of it for every record: cutting takes longest."""
    patch = pytest.MonkeyPatch()

    def clip(source: object, start: float, end: float, path: Path, **_: object) -> Path:
        return Path(shutil.copy(one_clip, path))

    real = frame_at
    frames: list[Any] = []

    def frame(source: Any, at: float, **options: Any) -> Any:
        if not frames:
            frames.append(real(source, at, **options))
        return frames[0]

    patch.setattr("moderator.media.clips.cut_clip", clip)
    patch.setattr(demo, "frame_at", frame)
    patch.setattr(demo, "room_ids", lambda: [ROOM])
    yield
    patch.undo()


def serve(data: Path) -> Iterator[Desk]:
    app = create_app(ReviewSettings(data_dir=data, retention_hours=0))
    house: House = app.state.house
    prepare(house)
    password = accounts.ensure_admin(house.database) or ""
    server = uvicorn.Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=2
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Desk(f"http://127.0.0.1:{port}", house, password, data)
    server.should_exit = True
    thread.join(30)


@pytest.fixture
def empty_desk(tmp_path: Path) -> Iterator[Desk]:
    """As it is after the first start."""
    yield from serve(tmp_path)


@pytest.fixture(scope="package")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One with a sample room and reviewers."""
    for made in serve(tmp_path_factory.mktemp("desk")):
        demo.load_passport_samples(made.house.database)
        demo.load(made.house.database, made.house.settings, ROOM)
        hashed = accounts.HASHER.hash(PASSWORD)
        people = {
            "lin": ("林审", "reviewer"),
            "chen": ("陈复", "second_reviewer"),
            "root": ("管理员", "admin"),
            "audit": ("审计", "auditor"),
        }
        with made.house.database.write() as db:
            for username, (name, role) in people.items():
                db.add(
                    User(
                        username=username,
                        display_name=name,
                        role=role,
                        password_hash=hashed,
                        organisation_id=None,
                        must_change_password=False,
                    )
                )
        yield made


@pytest.fixture(scope="package")
def chromium() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


Opener = Callable[..., Any]

COOKIES: dict[tuple[str, str], Any] = {}
"""Of who has logged in once: the login page is not what every test is about."""


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Opener]:
    """`open_page(desk, user)`: a browser of its own, logged in; no user: at the login page.

    A script's error, or anything that the content security policy refuses, fails the test.
    """
    contexts = []
    problems: list[str] = []

    def opened(desk: Desk, user: str = "", **options: Any) -> Any:
        options = {"locale": "zh-CN", "viewport": {"width": 1440, "height": 900}, **options}
        context = chromium.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(f"{page.url}: {error}"))
        page.on("console", lambda line: _note(problems, page, line))
        known = COOKIES.get((desk.url, user))
        if known:
            context.add_cookies(known)
        page.goto(desk.url)
        if user and not known:
            page.locator("#username").fill(user)
            page.locator("#password").fill(PASSWORD)
            page.keyboard.press("Enter")
            page.wait_for_selector(".top")
            COOKIES[desk.url, user] = context.cookies()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


def _note(problems: list[str], page: Any, line: Any) -> None:
    refused = "Content Security Policy" in line.text
    if refused or (line.type == "error" and "Failed to load resource" not in line.text):
        problems.append(f"{page.url}: {line.text}")
