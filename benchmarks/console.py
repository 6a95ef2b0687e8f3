"""How fast is the review console with a full database? Queue, search, and many reviewers at once.

    python -m benchmarks.console       # SQLite, and PostgreSQL where it is installed
    python -m benchmarks.console --violations 2000 --seconds 2 --smoke

The server runs as a process of its own (uvicorn, one worker) on loopback; requests go over HTTP
with an API token. PostgreSQL is a temporary cluster with its default durability. The reviewers
each claim, look, decide and go on, with a pause to think; nothing is asserted, all is counted.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import random
import shutil
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sqlalchemy import text

from benchmarks.report import write_result
from moderator.records import CATEGORIES, Disposition, Room, Severity
from moderator.review import accounts, ingest
from moderator.review.database import Database
from moderator.review.models import User, utcnow
from moderator.review.permissions import PERMISSIONS, Role
from moderator.review.settings import ReviewSettings

ROOMS = 60
BATCH = 500
PASSWORD = "benchmark only, loopback"
QUEUE_BUDGET_MS, SEARCH_BUDGET_MS = 150, 300

PHRASES = (
    "家人们这款面霜是国家级的品质用了都说好",
    "全网最低价错过今天再等一年赶紧下单",
    "喝完一个疗程血压血糖都降下来了",
    "三天祛斑七天美白无效退款",
    "保证收益稳赚不赔跟着老师操作就行",
    "加微信领取福利主页有联系方式",
    "限量五十份最后三分钟马上恢复原价",
    "专家推荐央视上榜品牌值得信赖",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--violations", type=int, default=100_000)
    parser.add_argument("--reviewers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measurement, at most")
    parser.add_argument("--requests", type=int, default=300, help="of each kind of request")
    parser.add_argument("--backend", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--smoke", action="store_true", help="write no result file")
    options = parser.parse_args()

    backends = ["sqlite", "postgresql"] if options.backend == "both" else [options.backend]
    results: dict[str, Any] = {}
    for backend in backends:
        with database(backend) as url:
            if url is None:
                Console(stderr=True).print(f"{backend}: not installed, left out")
                continue
            results[backend] = measure(url, options)
    show(results)
    payload = {
        "violations": options.violations,
        "reviewers": options.reviewers,
        "budget_ms": {"queue": QUEUE_BUDGET_MS, "search": SEARCH_BUDGET_MS},
        "results": results,
    }
    if not options.smoke:
        Console(stderr=True).print(str(write_result("console", payload)))


@contextmanager
def database(backend: str) -> Iterator[str | None]:
    """The URL of an empty database; None where PostgreSQL is not installed."""
    if backend == "sqlite":
        home = Path(tempfile.mkdtemp(prefix="moderator-bench-"))
        try:
            yield f"sqlite:///{home / 'console.sqlite3'}"
        finally:
            shutil.rmtree(home, ignore_errors=True)
        return
    from tests.review import postgres

    if postgres.missing():
        yield None
        return
    cluster = postgres.Cluster(durable=True)
    cluster.create()
    try:
        cluster.sql("CREATE DATABASE bench")
        yield cluster.url("bench")
    finally:
        cluster.stop()
        cluster.remove()


def measure(url: str, options: argparse.Namespace) -> dict[str, Any]:
    """Fill the database, start the server, time requests, let the reviewers loose."""
    data = Path(tempfile.mkdtemp(prefix="moderator-bench-data-"))
    settings = ReviewSettings(database_url=url, data_dir=data)
    try:
        store = Database(settings.url)
        store.migrate()
        began = time.perf_counter()
        fill(store, options.violations)
        if store.dialect == "postgresql":
            with store.engine.connect().execution_options(
                isolation_level="AUTOCOMMIT"
            ) as connection:
                connection.exec_driver_sql("VACUUM ANALYZE")
        else:
            with store.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA optimize")
        fill_s = time.perf_counter() - began
        names = [f"reviewer{n}" for n in range(options.reviewers)]
        people(store, names)
        store.close()
        with served(url, data) as address:
            token = log_in(address, "admin")
            found: dict[str, Any] = {"fill_s": round(fill_s, 1)}
            found |= timed_requests(address, token, options)
            found["reviewers"] = reviewers(address, names, options.seconds)
            return found
    finally:
        shutil.rmtree(data, ignore_errors=True)


# --- a full database ------------------------------------------------------------------


def fill(store: Database, count: int) -> None:
    """Records of many rooms over a month, a third of them decided, in the usual proportions."""
    rng = random.Random(7)
    rooms = [
        Room(id=f"room{n:03}", host=f"主播{n % 40}", merchant=f"商家{n % 20}", title=f"直播间{n}")
        for n in range(ROOMS)
    ]
    with store.write() as db:
        for room in rooms:
            ingest.put_room(db, room)
    batches = range(0, count, BATCH)
    for begin in track(batches, f"filling {store.dialect}", console=Console(stderr=True)):
        records = [record(rng, rooms, n) for n in range(begin, min(begin + BATCH, count))]
        with store.write() as db:
            ingest.put_violations(db, records)
    with store.write() as db:
        db.execute(
            text(
                "UPDATE violation SET status = CASE seq % 9 "
                "WHEN 0 THEN 'confirmed' WHEN 1 THEN 'confirmed' "
                "WHEN 2 THEN 'dismissed' ELSE status END"
            )
        )


def record(rng: random.Random, rooms: list[Room], number: int) -> dict[str, Any]:
    """One invented record; its words vary so that a search has something to tell apart."""
    phrase = rng.choice(PHRASES)
    begin = rng.randrange(len(phrase) - 4)
    quote = phrase[begin : begin + 4]
    context = f"{phrase}，编号{number}，{rng.choice(PHRASES)}"
    severity = rng.choices(list(Severity), weights=(4, 4, 2, 1))[0]
    at = utcnow() - timedelta(seconds=rng.randrange(30 * 86400))
    room = rng.choice(rooms)
    rule = f"cn.bench.rule{rng.randrange(120):03}"
    return {
        "schema": "moderator/violation@1",
        "id": f"01BENCH{number:019}",
        "room": room.id,
        "session": f"S-{room.id}",
        "source": "bench",
        "rule": {"id": rule, "version": 1, "title": f"规则 {rule}"},
        "category": rng.choice(CATEGORIES),
        "disposition": str(rng.choice(list(Disposition))),
        "severity": str(severity),
        "confidence": round(rng.uniform(0.4, 1.0), 4),
        "law": [
            {"title": "中华人民共和国广告法", "article": "第九条（三）", "effective": "2015-09-01"}
        ],
        "channel": "speech",
        "start": round(rng.uniform(0, 7200), 2),
        "end": 7201.0,
        "wall_time": at.isoformat(timespec="milliseconds"),
        "quote": quote,
        "heard": None,
        "span": [begin, begin + 4],
        "context": context,
        "match": {"kind": "literal", "score": 1.0, "acoustic_llr": None, "matched": quote},
        "explanation": f"“{quote}”属于不当用语。",
        "suggestion": "改为“用料讲究”。",
        "product": None,
        "exemptions_considered": [],
        "evidence": {"clip": None, "frames": [], "transcript": None, "sha256": {}},
        "occurrences": 1,
        "place": None,
        "latency_ms": round(rng.uniform(300, 3000), 1),
        "advice": None,
        "engine": {"rules": "bench"},
    }


def people(store: Database, names: list[str]) -> None:
    hashed = accounts.HASHER.hash(PASSWORD)
    with store.write() as db:
        for name in ("admin", *names):
            db.add(
                User(
                    username=name,
                    password_hash=hashed,
                    role=Role.ADMIN if name == "admin" else Role.REVIEWER,
                    must_change_password=False,
                )
            )


# --- the server -----------------------------------------------------------------------


def _serve(url: str, data: Path, port: int) -> None:
    import uvicorn

    from moderator.review.app import create_app

    settings = ReviewSettings(database_url=url, data_dir=data, login_failures=1000)
    uvicorn.run(create_app(settings, background=False), port=port, log_level="error")


@contextmanager
def served(url: str, data: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(url, data, port))
    process.start()
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                if httpx.get(f"{address}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.join(20)
        if process.is_alive():
            process.kill()
            process.join()


def log_in(address: str, username: str) -> str:
    """An API token with every right of the role."""
    with httpx.Client(base_url=f"{address}/api/v1", timeout=60) as http:
        body = {"username": username, "password": PASSWORD}
        user = http.post("/auth/login", json=body).raise_for_status().json()
        role = Role(user["role"])
        scopes = {"name": "bench", "scopes": sorted(PERMISSIONS[role])}
        made = http.post("/auth/tokens", json=scopes, headers={"X-CSRF-Token": user["csrf_token"]})
        return str(made.raise_for_status().json()["token"])


# --- what is measured -----------------------------------------------------------------


def timed_requests(address: str, token: str, options: argparse.Namespace) -> dict[str, Any]:
    """One caller, one request after the other: the time that the server takes, by kind."""
    rng = random.Random(11)

    def queue(http: httpx.Client) -> httpx.Response:
        filters: list[dict[str, Any]] = [
            {"status": "open"},
            {"status": "open", "severity": "critical"},
            {"status": "open", "room": f"room{rng.randrange(ROOMS):03}"},
            {"status": "open", "category": rng.choice(CATEGORIES), "min_confidence": 0.7},
            {"status": "confirmed", "sort": "newest"},
            {"status": "open", "host": f"主播{rng.randrange(40)}", "assignee": "none"},
        ]
        return http.get("/violations", params={**rng.choice(filters), "limit": 50})

    def deep_page(http: httpx.Client) -> httpx.Response:
        first = http.get("/violations", params={"status": "open", "limit": 200}).json()
        cursor = first["next_cursor"] or ""
        return http.get("/violations", params={"status": "open", "limit": 50, "cursor": cursor})

    def counts(http: httpx.Client) -> httpx.Response:
        return http.get("/violations/counts", params={"category": rng.choice(CATEGORIES)})

    def search(http: httpx.Client) -> httpx.Response:
        phrase = rng.choice(PHRASES)
        begin = rng.randrange(len(phrase) - 6)
        words = rng.choice(
            [
                phrase[begin : begin + rng.choice((1, 2, 3, 4, 6))],
                f"编号{rng.randrange(options.violations)}",
                "没有这样的词",
            ]
        )
        return http.get("/violations", params={"q": words, "limit": 50})

    def detail(http: httpx.Client) -> httpx.Response:
        return http.get(f"/violations/01BENCH{rng.randrange(options.violations):019}")

    kinds: dict[str, Callable[[httpx.Client], httpx.Response]] = {
        "queue": queue,
        "deep_page": deep_page,
        "counts": counts,
        "search": search,
        "detail": detail,
    }
    found = {}
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"{address}/api/v1", headers=headers, timeout=60) as http:
        for name, ask in kinds.items():
            for _ in range(5):
                ask(http)
            times, errors = [], 0
            deadline = time.monotonic() + options.seconds
            while len(times) < options.requests and time.monotonic() < deadline:
                response = ask(http)
                times.append(response.elapsed.total_seconds() * 1000)
                errors += response.status_code != 200
            found[name] = {**spread(times), "errors": errors}
    return found


def reviewers(address: str, names: list[str], seconds: float) -> dict[str, Any]:
    """Everybody at once: take the next, look at it, decide, think; until the time is over."""
    tokens = [log_in(address, name) for name in names]
    deadline = time.monotonic() + seconds
    lock = threading.Lock()
    times: dict[str, list[float]] = {"next": [], "detail": [], "decide": [], "queue": []}
    outcomes: Counter[str] = Counter()
    decided: Counter[str] = Counter()

    def work(number: int, token: str) -> None:
        rng = random.Random(number)
        headers = {"Authorization": f"Bearer {token}"}
        mine: list[tuple[str, float, str]] = []
        done: list[str] = []
        with httpx.Client(base_url=f"{address}/api/v1", headers=headers, timeout=60) as http:

            def call(name: str, method: str, path: str, **body: Any) -> httpx.Response | None:
                began = time.perf_counter()
                try:
                    response = http.request(method, path, **body)
                except httpx.TransportError as error:
                    mine.append((name, time.perf_counter() - began, type(error).__name__))
                    return None
                mine.append((name, time.perf_counter() - began, str(response.status_code)))
                return response

            time.sleep(rng.random())
            while time.monotonic() < deadline:
                call("queue", "GET", "/violations?status=open&limit=50")
                taken = call("next", "POST", "/violations/next", json={})
                case = taken.json()["violation"] if taken and taken.is_success else None
                if case is not None:
                    call("detail", "GET", f"/violations/{case['id']}")
                    action = rng.choice(("confirm", "needs_proof", "escalate"))
                    path = f"/violations/{case['id']}/decisions"
                    answer = call("decide", "POST", path, json={"action": action})
                    if answer is not None and answer.status_code == 201:
                        done.append(case["id"])
                time.sleep(rng.uniform(0.5, 1.5))
        with lock:
            for name, took, outcome in mine:
                times[name].append(took * 1000)
                outcomes[outcome] += 1
            decided.update(done)

    threads = [
        threading.Thread(target=work, args=(number, token)) for number, token in enumerate(tokens)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "outcomes": dict(outcomes),
        "server_errors": sum(n for code, n in outcomes.items() if not code.startswith(("2", "4"))),
        "decisions": sum(decided.values()),
        "decided_twice": sum(count > 1 for count in decided.values()),
        **{name: spread(values) for name, values in times.items()},
    }


def spread(values: list[float]) -> dict[str, float | int]:
    """Count, p50, p95, p99 and the worst, in milliseconds; nearest rank."""
    if not values:
        return {"count": 0}
    ordered = sorted(values)

    def rank(percent: float) -> float:
        return round(ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)], 1)

    return {
        "count": len(ordered),
        "p50_ms": rank(50),
        "p95_ms": rank(95),
        "p99_ms": rank(99),
        "max_ms": round(ordered[-1], 1),
    }


def show(results: dict[str, Any]) -> None:
    table = Table("backend", "what", "count", "p50 ms", "p95 ms", "p99 ms", "budget p95 ms")
    budgets = {"queue": QUEUE_BUDGET_MS, "search": SEARCH_BUDGET_MS}
    for backend, found in results.items():
        rows = {name: value for name, value in found.items() if isinstance(value, dict)}
        together = rows.pop("reviewers")
        rows |= {
            f"reviewers: {name}": value
            for name, value in together.items()
            if isinstance(value, dict) and "count" in value
        }
        for name, value in rows.items():
            table.add_row(
                backend,
                name,
                *(str(value.get(key, "")) for key in ("count", "p50_ms", "p95_ms", "p99_ms")),
                str(budgets.get(name, "")),
            )
        Console(stderr=True).print(
            f"{backend}: {together['decisions']} decisions, "
            f"{together['server_errors']} server errors, {together['decided_twice']} decided twice"
        )
    Console(width=None if os.isatty(1) else 120).print(table)


if __name__ == "__main__":
    main()
