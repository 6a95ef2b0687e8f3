"""The console as people use it, in a real browser."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moderator.review import bundle
from tests.review.browser.conftest import ROOM, WAIT_MS, Desk

pytestmark = pytest.mark.slow

OpenPage = Callable[..., Any]


def until(page: Any, expression: str) -> None:
    """Wait until `expression` holds: `wait_for_function` evaluates text inside the page, which
    the content security policy refuses."""
    deadline = time.monotonic() + WAIT_MS / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(50)


def open_first(page: Any, desk: Desk) -> str:
    """Open the queue's first case; returns its id."""
    page.goto(f"{desk.url}/queue?status=open")
    page.wait_for_selector(".entry")
    page.wait_for_selector(".entry:focus")
    page.keyboard.press("Enter")
    page.wait_for_selector(".case-quote")
    return str(page.url.rsplit("/", 1)[1])


def test_first_start_to_first_decision_takes_no_mouse(
    empty_desk: Desk, open_page: OpenPage
) -> None:
    page = open_page(empty_desk)
    page.wait_for_selector("#username:focus")
    page.keyboard.type("admin")
    page.keyboard.press("Tab")
    page.keyboard.type(empty_desk.first_password)
    page.keyboard.press("Enter")

    page.wait_for_selector("#old:focus")
    page.keyboard.type(empty_desk.first_password)
    for _ in range(2):
        page.keyboard.press("Tab")
        page.keyboard.type("desk of many lamps")
    page.keyboard.press("Enter")

    page.wait_for_selector("#load-demo")
    for _ in range(60):
        if page.evaluate("document.activeElement.id") == "load-demo":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector(".entry", timeout=3 * WAIT_MS)
    page.keyboard.press("n")
    page.wait_for_selector(".case-quote")
    decided = page.url.rsplit("/", 1)[1]
    page.wait_for_selector("[data-act=dismiss]:not([disabled])")
    page.keyboard.press("x")
    page.wait_for_selector("[data-reason=context]")
    page.keyboard.press("3")
    page.wait_for_url(lambda url: not url.endswith(decided))

    with empty_desk.house.database.read() as db:
        from moderator.review.models import Decision

        decisions = db.query(Decision).all()
    assert [(one.violation_id, one.action, one.reason) for one in decisions] == [
        (decided, "dismiss", "context")
    ]

    page.wait_for_selector("[data-act=dismiss]:not([disabled])")
    page.keyboard.press("u")
    page.wait_for_url(lambda url: url.endswith(decided))
    page.wait_for_selector("#trail .undone")


def test_what_one_has_open_another_cannot_judge(desk: Desk, open_page: OpenPage) -> None:
    lin = open_page(desk, "lin")
    case = open_first(lin, desk)
    lin.wait_for_selector(".lock.mine")

    chen = open_page(desk, "chen")
    chen.goto(f"{desk.url}/queue?status=open")
    chen.wait_for_selector(f".entry.locked[href$='{case}'] >> text=林审 处理中")
    chen.goto(f"{desk.url}/violations/{case}")
    chen.wait_for_selector("#locked >> text=林审")
    assert chen.locator("[data-act=confirm]").is_disabled()
    chen.keyboard.press("y")
    chen.wait_for_selector(".toast.bad")

    lin.goto(f"{desk.url}/check")
    chen.wait_for_selector(".lock.mine")
    assert chen.locator("[data-act=confirm]").is_enabled()


def test_an_accepted_rewrite_is_checked_again(desk: Desk, open_page: OpenPage) -> None:
    page = open_page(desk, "lin")
    page.goto(f"{desk.url}/check")
    page.locator("textarea.script").fill("大家好。\n这是国家级的品质，欢迎来看。")
    page.wait_for_selector(".behind mark >> text=国家级")
    page.wait_for_selector(".finding.current .suggest")
    words = page.locator("[data-rewrite]").first.text_content().replace("Alt+↵", "").strip()
    page.keyboard.press("Alt+Enter")
    page.wait_for_selector(".findings >> text=没有发现问题")
    text = page.locator("textarea.script").input_value()
    assert words in text
    assert "国家级" not in text

    with page.expect_download() as taken:
        page.locator("[data-format=txt]").click()
    assert words in Path(taken.value.path()).read_text(encoding="utf-8")

    page.reload()
    page.wait_for_selector("textarea.script")
    assert page.locator("textarea.script").input_value() == text


def test_an_upload_goes_on_after_a_reload(desk: Desk, open_page: OpenPage, tmp_path: Path) -> None:
    script = tmp_path / "not-a-recording.mp4"
    script.write_bytes(b"\0" * (9 << 20))
    page = open_page(desk, "lin")
    page.goto(f"{desk.url}/check")
    page.wait_for_selector(".uploads")

    def stopped(route: Any) -> None:
        if int(route.request.headers["upload-offset"]) >= 4 << 20:
            route.abort()
        else:
            route.continue_()

    page.route("**/content", stopped)
    page.locator("#recording").set_input_files(str(script))
    page.wait_for_selector(".job.j-uploading >> text=44%")
    page.unroute("**/content")
    page.reload()
    page.wait_for_selector(".job.j-queued, .job.j-running, .job.j-failed")


def test_the_wall_leads_to_a_room_whose_timeline_seeks(desk: Desk, open_page: OpenPage) -> None:
    page = open_page(desk, "lin")
    page.goto(f"{desk.url}/rooms")
    page.locator(f"[data-room={ROOM}] .room-link").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".timeline .l-violation")
    until(page, "document.querySelector('video').readyState >= 1")
    page.locator(".room-found .at").nth(3).click()
    until(page, "document.querySelector('video').currentTime > 20")
    page.wait_for_selector(".room-lines .now")


def test_an_export_opens_and_its_hashes_hold(
    desk: Desk, open_page: OpenPage, tmp_path: Path
) -> None:
    page = open_page(desk, "lin")
    case = open_first(page, desk)
    until(page, "document.querySelector('video').readyState >= 1")
    page.wait_for_selector("#export")
    page.keyboard.press("d")
    page.wait_for_selector("[data-kind=zip]")
    with page.expect_download() as taken:
        page.keyboard.press("Enter")
    kept = tmp_path / "case.zip"
    taken.value.save_as(kept)
    manifest = bundle.verify(kept)
    assert any(name.endswith(".mp4") for name in manifest["files"])
    page.wait_for_selector("#export >> text=已导出")
    page.goto(f"{desk.url}/queue")
    page.wait_for_selector(f".entry[href$='{case}'] .exported")


def test_critical_ones_take_two_people(desk: Desk, open_page: OpenPage) -> None:
    lin = open_page(desk, "lin")
    lin.goto(f"{desk.url}/queue?status=open&severity=critical")
    lin.wait_for_selector(".entry")
    lin.keyboard.press("n")
    lin.wait_for_selector("[data-act=confirm]:not([disabled])")
    case = lin.url.rsplit("/", 1)[1]
    lin.keyboard.press("y")
    lin.wait_for_selector(".toast.good >> text=等待另一人复核")
    chen = open_page(desk, "chen")
    chen.goto(f"{desk.url}/violations/{case}")
    chen.wait_for_selector("[data-act=confirm]:not([disabled])")
    chen.keyboard.press("y")
    chen.wait_for_selector(".toast.good >> text=确认违规")
    chen.goto(f"{desk.url}/queue?status=confirmed")
    chen.wait_for_selector(f".entry[href$='{case}']")


def test_new_ones_appear_without_a_reload(desk: Desk, open_page: OpenPage) -> None:
    from moderator.review import ingest
    from tests.outputs.builders import violation

    page = open_page(desk, "lin")
    page.goto(f"{desk.url}/queue?status=open&sort=newest")
    page.wait_for_selector(".live.on")
    record = violation("刚刚说的绝无仅有", room=ROOM, session=f"demo-{ROOM}").to_json()
    with desk.house.database.write() as db:
        ingest.put_violations(db, [record])
    page.wait_for_selector(".entry >> text=刚刚说的绝无仅有")


def test_both_languages_and_keys_of_ones_own(desk: Desk, open_page: OpenPage) -> None:
    page = open_page(desk, "lin")
    page.goto(f"{desk.url}/queue")
    page.wait_for_selector("text=审核队列")
    page.locator("#lang-button").click()
    page.wait_for_selector("text=Take next")
    assert page.evaluate("document.documentElement.lang") == "en"

    page.wait_for_selector(".entry")
    page.keyboard.press("?")
    page.locator(".keymap-row", has_text="Next row").get_by_role("button").click()
    page.keyboard.press("z")
    page.keyboard.press("Escape")
    page.reload()
    page.wait_for_selector(".entry:focus")
    first = page.evaluate("document.activeElement.href")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.href") == first
    page.keyboard.press("z")
    until(page, f"document.activeElement.href !== '{first}'")

    case = open_first(page, desk)
    told = page.request.get(f"{desk.url}/api/v1/violations/{case}").json()
    said = told["rule"]["message"].replace("{quote}", told["record"]["quote"])
    why = page.locator("section", has_text="Rule and reason").first.inner_text()
    assert said in why  # what the rule says, in the reader's language
    assert told["record"]["suggestion"] in why  # and the words for the host as they are


PAGES = ("/queue", "/rooms", f"/rooms/{ROOM}", "/check", "/dashboards", "/account")


def test_nothing_is_cut_off_on_a_narrow_screen(desk: Desk, open_page: OpenPage) -> None:
    page = open_page(desk, "lin", viewport={"width": 390, "height": 844})
    for path in PAGES:
        page.goto(desk.url + path)
        page.wait_for_selector("main :visible")
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    open_first(page, desk)
    page.wait_for_selector("[data-act=confirm]")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(desk: Desk, open_page: OpenPage, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page(desk, "root", color_scheme=scheme)
    found = []
    for path in (*PAGES, "/users", "/audit", "/password"):
        page.goto(desk.url + path)
        page.wait_for_selector("main :visible")
        page.wait_for_timeout(300)
        found += serious(axe, page, path)
    open_first(page, desk)
    page.wait_for_selector("[data-act=confirm]")
    found += serious(axe, page, "case")
    page.keyboard.press("?")
    page.wait_for_selector("dialog .keymap")
    found += serious(axe, page, "keys")
    stranger = open_page(desk, color_scheme=scheme)
    stranger.wait_for_selector("#username")
    found += serious(axe, stranger, "login")
    assert found == []


def serious(axe: Any, page: Any, path: str) -> list[str]:
    return [
        f"{path}: {one['id']}: {node['target']}"
        for one in axe.run(page).response["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"][:3]
    ]
