"""What staff, merchants and administrators do beside deciding, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moderator.review.models import ViolationRow
from tests.review.browser.conftest import ROOM, Desk
from tests.review.browser.test_console import open_first, serious, until

pytestmark = pytest.mark.slow

OpenPage = Callable[..., Any]


def test_rows_are_decided_locked_and_taken_back_by_key(desk: Desk, open_page: OpenPage) -> None:
    page = open_page(desk, "lin")
    page.goto(f"{desk.url}/queue?status=open&severity=medium&severity=low")
    page.wait_for_selector(".entry:focus")
    case = str(page.evaluate("document.activeElement.href")).rsplit("/", 1)[1]

    page.keyboard.press("c")
    page.wait_for_selector(f".entry[href$='{case}'] .lock.mine")
    page.keyboard.press("x")
    page.wait_for_selector("[data-reason=context]")
    page.keyboard.press("3")
    page.wait_for_selector(".toast.good >> text=驳回")
    page.wait_for_selector(f".entry[href$='{case}']", state="detached")
    page.wait_for_selector(".entry:focus")

    page.keyboard.press("u")
    page.wait_for_selector(f".entry[href$='{case}']:focus")
    with desk.house.database.read() as db:
        assert db.query(ViolationRow).filter_by(id=case).one().status == "open"


def test_a_change_that_is_told_late_does_not_take_a_row_away(
    desk: Desk, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page(desk, "lin")
    page.goto(f"{desk.url}/queue?status=open&severity=medium&severity=low")
    page.wait_for_selector(".entry:focus")
    case = str(page.evaluate("document.activeElement.href")).rsplit("/", 1)[1]
    page.evaluate(
        """(id) => {
          window.told = [];
          const source = new EventSource("/api/v1/events");
          source.addEventListener("violation.updated", (event) => {
            const data = JSON.parse(event.data);
            if (data.id === id) window.told.push(data.status);
          });
          return new Promise((done) => { source.onopen = done; });
        }""",
        case,
    )
    monkeypatch.setattr("moderator.review.events.Hub._since", lambda *_: [])

    page.keyboard.press("x")
    page.wait_for_selector("[data-reason=context]")
    page.keyboard.press("3")
    page.wait_for_selector(f".entry[href$='{case}']", state="detached")
    page.wait_for_selector(".entry:focus")
    page.keyboard.press("u")
    page.wait_for_selector(f".entry[href$='{case}']:focus")
    assert page.evaluate("window.told") == []

    monkeypatch.undo()
    until(page, "window.told.length === 2")
    assert page.evaluate("window.told") == ["dismissed", "open"]
    page.wait_for_timeout(300)
    page.wait_for_selector(f".entry[href$='{case}']:focus", timeout=1000)


def test_the_line_being_said_stands_out_while_the_clip_plays(
    desk: Desk, open_page: OpenPage
) -> None:
    page = open_page(desk, "lin")
    page.goto(f"{desk.url}/queue?status=open&channel=speech")
    page.wait_for_selector(".entry:focus")
    page.keyboard.press("Enter")
    page.wait_for_selector(".case-quote")
    page.wait_for_selector(".transcript .speech.now")
    page.wait_for_selector(".transcript .touching mark.fault")


def test_note_assignment_and_hold_stay_with_the_case(desk: Desk, open_page: OpenPage) -> None:
    page = open_page(desk, "chen")
    case = open_first(page, desk)
    page.wait_for_selector("[data-act=note]:not([disabled])")

    page.keyboard.press("t")
    page.wait_for_selector("dialog textarea:focus")
    page.keyboard.type("已电话联系商家")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#trail >> text=已电话联系商家")

    page.keyboard.press("a")
    page.wait_for_selector("dialog select:focus")
    page.locator("dialog select").select_option(label="林审 · 审核员")
    page.keyboard.press("Enter")
    page.wait_for_selector(".case-line >> text=→ 林审")

    page.keyboard.press("h")
    page.wait_for_selector("dialog textarea:focus")
    page.keyboard.type("监管来函")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#hold[aria-pressed=true]")

    page.keyboard.press("Escape")
    page.wait_for_selector(".entry")
    lin = open_page(desk, "lin")
    lin.goto(f"{desk.url}/queue?assignee=me")
    lin.wait_for_selector(f".entry[href$='{case}']")


def test_a_saved_filter_is_there_again(desk: Desk, open_page: OpenPage) -> None:
    page = open_page(desk, "lin")
    page.goto(f"{desk.url}/queue?status=open&severity=critical&channel=speech")
    page.wait_for_selector(".entry:focus")
    page.keyboard.press("Shift+S")
    page.wait_for_selector("dialog input:focus")
    page.keyboard.type("早班先看")
    page.keyboard.press("Enter")
    page.wait_for_selector(".saved >> text=早班先看")

    page.goto(f"{desk.url}/queue")
    page.locator(".saved .link", has_text="早班先看").click()
    page.wait_for_selector(".chips >> text=严重程度：严重")
    assert "severity=critical" in page.url
    assert "channel=speech" in page.url
    page.get_by_label("删除: 早班先看").click()
    page.wait_for_selector(".saved >> text=早班先看", state="detached")


def test_the_printable_report_is_a_pdf(desk: Desk, open_page: OpenPage) -> None:
    page = open_page(desk, "lin")
    open_first(page, desk)
    page.wait_for_selector("#export")
    page.keyboard.press("d")
    with page.expect_download() as taken:
        page.locator("[data-kind=pdf]").click()
    assert Path(taken.value.path()).read_bytes().startswith(b"%PDF-")
    page.wait_for_selector("#export >> text=已导出")
    page.keyboard.press("d")
    page.wait_for_selector("dialog .banner >> text=已于")


def test_a_merchant_appeals_by_link_and_is_answered(
    desk: Desk, open_page: OpenPage, tmp_path: Path
) -> None:
    lin = open_page(desk, "lin")
    lin.goto(f"{desk.url}/queue?status=open&severity=high&severity=medium")
    lin.wait_for_selector(".entry:focus")
    lin.keyboard.press("Enter")
    lin.wait_for_selector("[data-act=confirm]:not([disabled])")
    case = lin.url.rsplit("/", 1)[1]
    lin.keyboard.press("y")
    lin.wait_for_selector(".toast.good")
    lin.goto(f"{desk.url}/violations/{case}")
    lin.wait_for_selector("[data-act=invite]")
    lin.keyboard.press("s")
    link = lin.locator("dialog input").input_value()
    assert "/appeal/" in link

    paper = tmp_path / "检测报告.txt"
    paper.write_text("批次 2026-11，合格", encoding="utf-8")
    merchant = open_page(desk, viewport={"width": 390, "height": 844})
    merchant.goto(f"{desk.url}/appeal/{link.rsplit('/', 1)[1]}")
    merchant.wait_for_selector("#appeal-text")
    assert merchant.evaluate("document.documentElement.scrollWidth") <= 390
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    assert serious(axe, merchant, "appeal") == []
    merchant.locator("#appeal-text").fill("这句话是引用用户评价，附检测报告。")
    merchant.locator("#appeal-files").set_input_files(str(paper))
    merchant.locator("#appeal-name").fill("徽味周记食品店")
    merchant.get_by_role("button", name="提交申诉").click()
    merchant.wait_for_selector(".ap-submitted")
    merchant.wait_for_selector("text=检测报告.txt")

    chen = open_page(desk, "chen")
    chen.goto(f"{desk.url}/queue?status=appealed")
    chen.wait_for_selector(f".entry[href$='{case}']")
    chen.goto(f"{desk.url}/violations/{case}")
    chen.wait_for_selector(".appeal >> text=引用用户评价")
    chen.wait_for_selector(".lock.mine")
    chen.keyboard.press("w")
    chen.wait_for_selector("dialog textarea:focus")
    chen.keyboard.type("报告与批次相符，撤销判定。")
    chen.get_by_role("button", name="申诉成立").click()
    chen.wait_for_selector(".ap-accepted")

    merchant.reload()
    merchant.wait_for_selector("text=报告与批次相符")
    with desk.house.database.read() as db:
        assert db.query(ViolationRow).filter_by(id=case).one().status == "dismissed"


def test_an_administrator_makes_a_person_and_a_token(desk: Desk, open_page: OpenPage) -> None:
    page = open_page(desk, "root")
    page.goto(f"{desk.url}/users")
    page.get_by_role("button", name="新建机构").click()
    page.wait_for_selector("dialog input:focus")
    page.keyboard.type("清和贸易")
    page.keyboard.press("Enter")
    page.wait_for_selector("main >> text=清和贸易")

    page.locator("#new-user").click()
    page.locator("#new-username").fill("zhubo")
    page.locator("#new-name").fill("清清")
    page.locator("#new-role").select_option("streamer")
    page.locator("#new-home").select_option(label="清和贸易")
    page.keyboard.press("Enter")
    given = page.locator("#secret").input_value()
    page.keyboard.press("Escape")
    row = page.locator("tr", has_text="zhubo")
    row.locator("text=清和贸易").wait_for()

    streamer = open_page(desk)
    streamer.locator("#username").fill("zhubo")
    streamer.locator("#password").fill(given)
    streamer.keyboard.press("Enter")
    streamer.wait_for_selector("#old")

    row.get_by_role("button", name="停用").click()
    row.locator("text=已停用").wait_for()
    streamer.goto(f"{desk.url}/password")
    streamer.wait_for_selector("#username")

    page.goto(f"{desk.url}/account")
    page.locator("#new-token").click()
    page.locator("#token-name").fill("日报")
    page.locator("dialog input[value='dashboards:read']").check()
    page.keyboard.press("Enter")
    token = page.locator("#secret").input_value()
    page.keyboard.press("Escape")
    answered = page.request.get(
        f"{desk.url}/api/v1/dashboards/category", headers={"Authorization": f"Bearer {token}"}
    )
    assert answered.ok
    page.get_by_role("button", name="撤销").click()
    page.wait_for_selector("text=还没有令牌")


def test_the_audit_log_is_searched_and_verified(desk: Desk, open_page: OpenPage) -> None:
    page = open_page(desk, "root")
    page.goto(f"{desk.url}/audit")
    page.wait_for_selector("table.audit tbody tr")
    page.locator("#verify").click()
    page.wait_for_selector(".chain.good")
    page.get_by_label("动作").fill("login")
    until(
        page,
        "[...document.querySelectorAll('table.audit tbody tr td:nth-child(4)')]"
        ".every((cell) => cell.textContent.startsWith('login'))",
    )


def test_watching_starts_and_stops_from_the_wall(
    desk: Desk, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched: dict[str, str] = {}
    watchers = desk.house.watchers

    def start(room: Any, source: str, *_: object) -> None:
        watched[room.id] = source

    monkeypatch.setattr(watchers, "start", start)
    monkeypatch.setattr(watchers, "stop", lambda room_id: watched.pop(room_id))
    monkeypatch.setattr(watchers, "is_watching", lambda room_id: room_id in watched)
    page = open_page(desk, "lin")
    page.goto(f"{desk.url}/rooms")
    page.locator(f"[data-room={ROOM}] .room-link").focus()
    page.keyboard.press("w")
    page.wait_for_selector("dialog input:focus")
    page.keyboard.type("https://live.example/room.flv")
    page.keyboard.press("Enter")
    card = page.locator(f"[data-room={ROOM}]")
    card.get_by_role("button", name="停止监看").wait_for()
    assert watched == {ROOM: "https://live.example/room.flv"}
    card.get_by_role("button", name="停止监看").click()
    card.get_by_role("button", name="开始监看").wait_for()
    assert watched == {}

    page.keyboard.press("a")
    page.wait_for_selector("#room-source:focus")
    page.keyboard.type("https://live.example/new.flv")
    page.locator("#room-title").fill("新开的直播间")
    page.locator("#room-id").fill("new-room-1")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-room=new-room-1] >> text=停止监看")
    assert watched == {"new-room-1": "https://live.example/new.flv"}


def test_who_reads_only_has_nothing_to_press(desk: Desk, open_page: OpenPage) -> None:
    page = open_page(desk, "audit")
    page.goto(f"{desk.url}/queue?status=all")
    page.wait_for_selector(".entry:focus")
    page.keyboard.press("Enter")
    page.wait_for_selector(".case-bar >> text=只读")
    assert page.locator("[data-act=confirm]").count() == 0
    page.keyboard.press("y")
    page.wait_for_selector(".toast.bad")
