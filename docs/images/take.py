"""Take the console's pictures anew, or look round in the same console.

    python docs/images/take.py                 # all pictures, beside this file
    python docs/images/take.py queue rooms     # some
    python docs/images/take.py --serve 8081    # log in as lin, chen or admin; PASSWORD is below

A console of its own in a temporary folder, with a month of work in it: the three sample rooms
as `moderator check` leaves them (speech, screen, clips, frames), earlier sessions made from the
same screenplays, and what three reviewers decided. Checking takes minutes; `--checked FOLDER`
keeps it for the next time. Needs the extras `embedded`, `server` and `test`, ffmpeg, and
Debian's chromium.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from moderator.outputs.report import Report, observation_json
from moderator.records import Room
from moderator.review import accounts, demo, ingest, queue
from moderator.review.app import create_app, prepare
from moderator.review.house import House
from moderator.review.models import Decision, User, ViolationRow, new_id, utcnow
from moderator.review.permissions import PERMISSIONS, Principal, Role
from moderator.review.server import ConsoleServer
from moderator.review.settings import ReviewSettings
from moderator.rooms import load_room

HERE = Path(__file__).parent
SAMPLES = HERE.parents[1] / "samples"
CHROMIUM = "/usr/bin/chromium"
PASSWORD = "many lamps burn here"  # noqa: S105 — of a console that lives for a minute
LARGEST_BYTES = 400_000

PEOPLE = (
    ("lin", "林晓芸", Role.REVIEWER),
    ("anqing", "安晴", Role.REVIEWER),
    ("chen", "陈复", Role.SECOND_REVIEWER),
    ("wei", "魏明", Role.SECOND_REVIEWER),
)

# Rooms of earlier sessions: which screenplay was read there.
EARLIER = (
    Room("taobao-88213", "taobao", "云上茶山 · 春茶专场", "阿岚", "云上茶业", ()),
    Room("douyin-40417", "douyin", "好物研究所", "大鹏", "鹏程百货", ()),
    Room("kuaishou-7310", "kuaishou", "翠玉轩 源头直播", "玉姐", "翠玉轩珠宝", ()),
    Room("douyin-55902", "douyin", "白白的护肤台", "白白", "棠露日化旗舰店", (), True),
    Room("xhs-2290", "xiaohongshu", "一人食厨房", "小满", "小满食品", ()),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help=", ".join(PICTURES))
    parser.add_argument("--serve", type=int, metavar="PORT", help="take none, and stay")
    parser.add_argument("--checked", type=Path, help="where checked sample rooms are kept")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    if unknown := set(options.pictures) - set(PICTURES):
        parser.error(f"no such picture: {', '.join(sorted(unknown))}")
    with (
        tempfile.TemporaryDirectory(prefix="console-") as data,
        tempfile.TemporaryDirectory(prefix="checked-") as checked,
        console(Path(data), options.checked or Path(checked), options.serve or 0) as url,
    ):
        print(url, flush=True)
        if options.serve:
            with_patience()
        else:
            take(url, options.pictures or list(PICTURES), options.out)


def with_patience() -> None:
    """Until Ctrl-C."""
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        return


# --- a console with a month of work in it ---------------------------------------------


@contextmanager
def console(data: Path, checked: Path, port: int) -> Iterator[str]:
    app = create_app(ReviewSettings(data_dir=data, retention_hours=0))
    house: House = app.state.house
    prepare(house)
    people = hire(house)
    furnish(house, checked, people)
    server = ConsoleServer(app, port=port)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.05)
    over = threading.Event()
    on_air = (house.database, house.settings, demo.LIVE_ROOM, over)
    threading.Thread(target=demo.play, args=on_air, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        over.set()
        server.should_exit = True
        thread.join(30)


def hire(house: House) -> list[Principal]:
    hashed = accounts.HASHER.hash(PASSWORD)
    found = []
    accounts.ensure_admin(house.database)
    with house.database.write() as db:
        admin = db.query(User).filter_by(username="admin").one()
        admin.password_hash, admin.must_change_password = hashed, False
        for username, name, role in PEOPLE:
            user = User(
                username=username,
                display_name=name,
                role=role,
                password_hash=hashed,
                must_change_password=False,
            )
            db.add(user)
            db.flush()
            found.append(
                Principal(
                    user_id=user.id,
                    username=username,
                    name=name,
                    role=role,
                    organisation_id=None,
                    permissions=PERMISSIONS[role],
                    kind="session",
                )
            )
    return found


def furnish(house: House, checked: Path, people: list[Principal]) -> None:
    dice = random.Random(7)  # noqa: S311 — the same month every time
    demo.load_passport_samples(house.database)
    now = utcnow()
    for days in range(29, 0, -1):
        for number, room in enumerate(EARLIER):
            if dice.random() < 0.62:
                begun = now - timedelta(days=days, hours=2 * number, minutes=dice.randrange(90))
                hold_session(house, room, demo.room_ids()[number % 3], begun, dice)
    for room_id in demo.room_ids():
        folder = check(room_id, checked)
        media = SAMPLES / "rooms" / f"{room_id}.mp4"
        room = load_room(SAMPLES / "rooms" / f"{room_id}.room.yaml")
        ingest.put_folder(house.database, folder, house.settings.data_dir, room=room, media=media)
    judge_month(house, people, dice, now)


def check(room_id: str, checked: Path) -> Path:
    """The folder of the room's recording as `moderator check --out` leaves it."""
    folder = checked / room_id
    if not (folder / "manifest.json").exists():
        rooms = SAMPLES / "rooms"
        command = [sys.executable, "-m", "moderator", "check", str(rooms / f"{room_id}.mp4")]
        command += ["--room", str(rooms / f"{room_id}.room.yaml")]
        command += ["--passports", str(SAMPLES / "passports.yaml")]
        command += ["--out", str(folder), "--fail-on", "never", "--quiet"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


@cache
def judged(screenplay: str) -> Report:
    return demo.sample_report(screenplay, "")


def hold_session(
    house: House, room: Room, screenplay: str, begun: datetime, dice: random.Random
) -> None:
    """An earlier session, in which some of the screenplay's faults were said."""
    session = f"{room.id}-{begun:%m%d}"
    report = judged(screenplay)
    kept = [one for one in report.violations if dice.random() < 0.42]
    records = []
    for one in kept:
        wall = begun + timedelta(seconds=one.start)
        body = one.to_json()
        body |= {
            "id": new_id(),
            "session": session,
            "room": room.id,
            "wall_time": wall.isoformat(),
            "latency_ms": round(dice.lognormvariate(7.0, 0.4)),
        }
        records.append(body)
    with house.database.write() as db:
        row = ingest.put_room(db, room)
        broadcast = ingest.put_broadcast(
            db, row, session, source=f"rtmp://{room.platform}.example/{room.id}", owned=True
        )
        broadcast.started_at = begun
        broadcast.duration_s = report.duration_s
        row.last_words = report.utterances[-1].text
        row.heard_at = begun + timedelta(seconds=report.duration_s)
        ingest.put_observations(db, broadcast, map(observation_json, report.utterances))
        ingest.put_violations(db, records)
        row.state = "ended"
        for found in db.query(ViolationRow).filter_by(broadcast_id=session):
            found.arrived_at = found.at + timedelta(seconds=2)


def judge_month(house: House, people: list[Principal], dice: random.Random, now: datetime) -> None:
    """Older ones are decided, most of them; of today's a few, and one is being looked at."""
    with house.database.read() as db:
        rows = [
            (row.id, row.at, row.disposition)
            for row in db.query(ViolationRow).order_by(ViolationRow.at)
        ]
    for violation_id, at, disposition in rows:
        age_h = (now - at).total_seconds() / 3600
        if dice.random() < (0.93 if age_h > 72 else 0.55 if age_h > 20 else 0.12):
            right = {"violation": 0.88, "needs_proof": 0.6}.get(disposition, 0.42)
            decide(house, people, violation_id, at, right, dice)
    one, another = people[1], people[0]
    with house.database.write() as db:
        waiting = db.query(ViolationRow).filter_by(status="open").order_by(ViolationRow.risk.desc())
        ids = [row.id for row in waiting.limit(9)]
        queue.claim(db, one, house.settings, ids[2])
        queue.assign(db, one, ids[5], another.user_id)
        queue.add_note(db, one, ids[0], "主播上周已被提醒过一次，品牌方答复会改口播。")


def decide(
    house: House,
    people: list[Principal],
    violation_id: str,
    at: datetime,
    right: float,
    dice: random.Random,
) -> None:
    draw = dice.random()
    action: queue.Action = (
        "confirm" if draw < right else "dismiss" if draw < 0.94 else "needs_proof"
    )
    reason = dice.choice(["context", "context", "misheard", "negated", "proof_present", "minor"])
    first = people[dice.randrange(4)]
    others = [one for one in people if one.role is Role.SECOND_REVIEWER and one is not first]
    when = at
    with house.database.write() as db:
        for who in (first, dice.choice(others)):
            when += timedelta(seconds=dice.lognormvariate(5.6, 1.1))
            row = queue.get(db, who, violation_id)
            if row.status not in ("open", "second_review"):
                break
            if who is not first and action == "confirm" and dice.random() < 0.08:
                action = "dismiss"
            row, decision = queue.decide(
                db, who, violation_id, action, reason=reason if action == "dismiss" else ""
            )
            db.query(Decision).filter_by(id=decision.id).update({"at": when})
            row.decided_at = when


# --- the pictures ---------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    """`shoot` brings the page to what is to be seen."""

    shoot: Callable[[Any, str], None]
    locale: str = "zh-CN"
    scheme: Literal["light", "dark"] = "light"
    size: tuple[int, int] = (1440, 900)
    user: str = "lin"


def _queue(page: Any, url: str) -> None:
    page.goto(f"{url}/queue")
    page.wait_for_selector(".entry:focus")
    page.keyboard.press("j")


def _decision(page: Any, url: str) -> None:
    page.goto(f"{url}/queue?status=open&room=skincare_and_health&q=医美级")
    page.wait_for_selector(".entry:focus")
    page.keyboard.press("Enter")
    page.wait_for_selector(".case-quote")
    page.wait_for_selector("video")
    page.wait_for_timeout(2500)


def _check(page: Any, url: str) -> None:
    page.goto(f"{url}/check")
    page.locator(".empty button").click()
    page.wait_for_selector(".finding.current")
    page.keyboard.press("Alt+ArrowDown")
    page.wait_for_timeout(400)


def _rooms(page: Any, url: str) -> None:
    page.goto(f"{url}/rooms")
    page.wait_for_selector(".live-room .thumb img", timeout=120_000)
    page.wait_for_timeout(20_000)  # until something was said, and found


def _room(page: Any, url: str) -> None:
    page.goto(f"{url}/rooms/skincare_and_health")
    page.wait_for_selector(".timeline .l-violation")
    page.keyboard.press("j")
    page.wait_for_timeout(2500)


def _dashboards(page: Any, url: str) -> None:
    page.goto(f"{url}/dashboards")
    page.wait_for_selector("#figure-rule_precision table")


PICTURES = {
    "rooms": Picture(_rooms),
    "queue": Picture(_queue),
    "decision": Picture(_decision),
    "decision-en": Picture(_decision, locale="en-GB", scheme="dark"),
    "check": Picture(_check),
    "room": Picture(_room),
    "dashboards": Picture(_dashboards),
}


def take(url: str, names: list[str], out: Path) -> None:
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=flags)
        for name in names:
            picture = PICTURES[name]
            width, height = picture.size
            context = browser.new_context(
                locale=picture.locale,
                color_scheme=picture.scheme,
                viewport={"width": width, "height": height},
            )
            page = context.new_page()
            log_in(page, url, picture.user)
            picture.shoot(page, url)
            page.wait_for_timeout(700)
            page.screenshot(path=out / f"{name}.png")
            context.close()
            shrink(out / f"{name}.png")
        browser.close()


def log_in(page: Any, url: str, user: str) -> None:
    page.goto(f"{url}/login")
    page.locator("#username").fill(user)
    page.locator("#password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector(".top")


def shrink(path: Path) -> None:
    """256 colours are enough for a screen, and a quarter of the bytes."""
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    if path.stat().st_size > LARGEST_BYTES:
        sys.exit(f"{path}: {path.stat().st_size} bytes; at most {LARGEST_BYTES}")


if __name__ == "__main__":
    main()
