"""The printable report of a case, in Chinese, with its pictures, on A4.

fpdf2 writes the PDF and embeds the characters that it uses, so the file looks the same
everywhere. The font comes from `pylopdf-fonts-zh-cn` (Noto Sans SC, SIL OFL 1.1; read as
data), from the setting `font`, or from the system; without any, LM-926 says what to install.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from moderator.errors import ENGINE_MISSING, NO_CJK_FONT, ModeratorError
from moderator.outputs import labels
from moderator.outputs.report import tool_version
from moderator.records import Disposition, Severity
from moderator.review import appeals, case, evidence, queue
from moderator.review.models import Broadcast, RoomRow, ViolationRow, utcnow
from moderator.review.permissions import Principal
from moderator.review.privacy import shown_to

if TYPE_CHECKING:
    from fpdf import FPDF

    from moderator.review.house import House

FONT = "cjk"

SYSTEM_FONTS = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/arphic/uming.ttc",
    "/System/Library/Fonts/Hiragino Sans GB.ttc",
    "C:/Windows/Fonts/msyh.ttc",
)

PICTURES = 4

STATUS = {
    "open": "待审",
    "second_review": "待复核",
    "needs_proof": "待举证",
    "escalated": "已升级",
    "appealed": "申诉中",
    "confirmed": "已确认违规",
    "dismissed": "已驳回",
}

ACTION = {
    "confirm": "确认违规",
    "dismiss": "驳回",
    "needs_proof": "要求举证",
    "escalate": "升级",
    "reopen": "重新打开",
    "appeal_accept": "申诉成立",
    "appeal_reject": "申诉不成立",
}


def write(db: Session, house: House, who: Principal, violation_id: str, path: Path) -> None:
    """Write the report of a case to `path`. Raises LM-908, LM-926."""
    path.write_bytes(render(db, house, who, violation_id))


def render(db: Session, house: House, who: Principal, violation_id: str) -> bytes:
    """The report as PDF. Raises LM-908, LM-926."""
    row = queue.get(db, who, violation_id)
    record = shown_to(who, queue.record_of(db, row.id))
    page = _page(house, row)
    _heading(page, "直播合规违规线索报告", 16)
    _facts(page, _summary(db, row, record))
    _heading(page, "涉嫌违规的表述")
    _quote(page, record)
    _pictures(page, house, case.broadcast_of(db, row), record, row)
    _heading(page, "认定说明")
    _words(page, record["explanation"])
    if record["suggestion"]:
        _words(page, f"合规建议：{record['suggestion']}")
    _heading(page, "依据条文")
    for article in case.articles(house.rules, record):
        title = article.title if article.title.startswith("《") else f"《{article.title}》"
        _words(page, f"{title}{article.article}（{article.effective} 起施行）")
        _words(page, article.text or "（条文原文未经核对，此处不引用）", grey=True)
    _heading(page, "前后语音与画面文字")
    for one in case.transcript(db, row, around_s=30):
        if one.text:
            mark = "画面" if one.channel == "screen" else "语音"
            _words(page, f"{labels.clock(one.start)}　{mark}　{shown_to(who, one.text)}", grey=True)
    _decided(page, db, who, row)
    _heading(page, "证据文件")
    for file in evidence.files_of(record):
        _words(page, f"{file.path}\nSHA-256 {file.sha256 or '未记录'}", grey=True, size=8)
    return bytes(page.output())


def _summary(db: Session, row: ViolationRow, record: dict[str, Any]) -> list[tuple[str, str]]:
    room = db.get(RoomRow, row.room_id)
    zh = 0
    title = (room.title or room.id) if room else row.room_id
    return [
        ("编号", row.id),
        ("直播间", f"{title}（{row.room_id}）"),
        ("平台", room.platform if room else ""),
        ("主播", row.host),
        ("商家", row.merchant),
        ("发生时间", row.at.isoformat(timespec="seconds")),
        ("录像位置", f"{labels.clock(row.start)} – {labels.clock(row.end)}"),
        ("类别", labels.category(row.category)[zh]),
        ("性质", labels.DISPOSITION[Disposition(row.disposition)][zh]),
        ("严重程度", labels.SEVERITY[Severity(row.severity)][zh]),
        ("置信度", f"{row.confidence:.0%}"),
        ("规则", f"{row.rule_title}（{row.rule_id} 第 {record['rule']['version']} 版）"),
        ("处理状态", STATUS.get(row.status, row.status)),
    ]


def _decided(page: FPDF, db: Session, who: Principal, row: ViolationRow) -> None:
    _heading(page, "处理记录")
    decisions = queue.decisions_of(db, row.id)
    for one in decisions:
        reason = queue.DISMISS_REASONS.get(one.reason, ("", ""))[0]
        words = [one.at.isoformat(timespec="seconds"), one.user_name]
        words += [ACTION.get(one.action, one.action), reason, shown_to(who, one.comment)]
        undone = "（已撤销）" if one.undone_at else ""
        _words(page, "　".join(word for word in words if word) + undone)
    if not decisions:
        _words(page, "尚未处理", grey=True)
    for appeal in appeals.of_violation(db, row.id):
        if appeal.submitted_at is not None:
            _words(page, f"申诉（{appeal.name or '未署名'}）：{shown_to(who, appeal.text)}")
        if appeal.answer:
            _words(page, f"答复：{shown_to(who, appeal.answer)}")


# --- the page -------------------------------------------------------------------------


def _page(house: House, row: ViolationRow) -> FPDF:
    try:
        from fpdf import FPDF
    except ImportError as error:
        raise ModeratorError(
            ENGINE_MISSING,
            name="PDF",
            package=error.name,
            install="live-stream-moderator[server]",
        ) from None
    path, number = find_font(house.settings.font)
    made = utcnow().isoformat(timespec="seconds")

    class _Report(FPDF):
        def footer(self) -> None:
            self.set_y(-12)
            self.set_font(FONT, size=8)
            self.set_text_color(110)
            foot = f"{row.id}　moderator {tool_version()}　{made}　第 {self.page_no()} 页"
            self.cell(0, 5, foot, align="C")

    page = _Report(format="A4")
    page.set_margins(18, 16, 18)
    page.set_auto_page_break(True, 18)
    page.add_font(FONT, fname=path, collection_font_number=number)
    page.set_title(f"case {row.id}")
    page.set_lang("zh-CN")
    page.add_page()
    return page


def find_font(chosen: Path | None = None) -> tuple[Path, int]:
    """A font with Chinese characters, and its number within a collection. Raises LM-926."""
    for path in _candidates(chosen):
        if path.is_file():
            return path, 2 if path.name.startswith("NotoSansCJK") else 0
    raise ModeratorError(NO_CJK_FONT)


def _candidates(chosen: Path | None) -> Iterator[Path]:
    if chosen is not None:
        yield chosen
    packaged = _packaged()
    if packaged is not None:
        yield packaged
    yield from map(Path, SYSTEM_FONTS)


@cache
def _packaged() -> Path | None:
    spec = importlib.util.find_spec("pylopdf_fonts_zh_cn")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).with_name("NotoSansSC-Regular.otf")


def _heading(page: FPDF, words: str, size: int = 12) -> None:
    if page.will_page_break(24):
        page.add_page()
    page.ln(2)
    page.set_text_color(20, 40, 90)
    page.set_font(FONT, size=size)
    page.multi_cell(0, size * 0.6, words, new_x="LMARGIN", new_y="NEXT", align="L")
    page.set_draw_color(190)
    page.line(page.l_margin, page.get_y() + 0.5, page.w - page.r_margin, page.get_y() + 0.5)
    page.ln(2)
    page.set_text_color(0)


def _words(page: FPDF, words: str, *, grey: bool = False, size: float = 10) -> None:
    from fpdf.enums import WrapMode

    page.set_font(FONT, size=size)
    page.set_text_color(90 if grey else 0)
    for line in words.split("\n"):
        shown = labels.printable(line)
        if shown:
            page.multi_cell(
                0,
                size * 0.55,
                shown,
                new_x="LMARGIN",
                new_y="NEXT",
                align="L",
                wrapmode=WrapMode.CHAR,
            )
    page.ln(0.8)
    page.set_text_color(0)


def _facts(page: FPDF, facts: list[tuple[str, str]]) -> None:
    from fpdf.enums import WrapMode

    page.set_font(FONT, size=10)
    width = page.epw - 26
    for name, value in facts:
        if not value:
            continue
        page.set_text_color(110)
        page.cell(26, 6, name)
        page.set_text_color(0)
        page.multi_cell(
            width,
            6,
            labels.printable(value),
            new_x="LMARGIN",
            new_y="NEXT",
            align="L",
            wrapmode=WrapMode.CHAR,
        )


def _quote(page: FPDF, record: dict[str, Any]) -> None:
    from fpdf.enums import WrapMode

    page.set_fill_color(253, 240, 236)
    page.set_font(FONT, size=12)
    page.multi_cell(
        0,
        8,
        f"“{labels.printable(record['quote'])}”",
        new_x="LMARGIN",
        new_y="NEXT",
        align="L",
        fill=True,
        wrapmode=WrapMode.CHAR,
    )
    page.ln(1)
    if record.get("heard"):
        _words(page, f"识别文字：{record['heard']}", grey=True)
    _words(page, f"上下文：{record['context']}")


def _pictures(
    page: FPDF, house: House, broadcast: Broadcast, record: dict[str, Any], row: ViolationRow
) -> None:
    from fpdf.enums import Align

    for picture in _images(house, broadcast, record)[:PICTURES]:
        height = 78.0
        if page.will_page_break(height + 4):
            page.add_page()
        with suppress(OSError, ValueError):
            page.image(picture, x=Align.L, h=height, keep_aspect_ratio=True, w=page.epw)
            page.ln(2)


def _images(house: House, broadcast: Broadcast, record: dict[str, Any]) -> list[Any]:
    """The frames of the record; where it has none, a still of its clip."""
    found: list[Any] = []
    clip: Path | None = None
    for file in evidence.files_of(record):
        with suppress(ModeratorError):
            path = evidence.open_path(house.settings, broadcast, file.path)
            if file.kind == "frame":
                found.append(path)
            elif file.kind == "clip":
                clip = path
    if not found and clip is not None:
        still = _still(clip)
        if still is not None:
            found.append(still)
    return found


def _still(clip: Path) -> Any:
    """A picture from the middle of the words: clips begin a few seconds before them."""
    try:
        from PIL import Image

        from moderator.media.clips import frame_at

        image = frame_at(clip, 3.0, max_frame_pixels=9_200_000, allow_private=False)
        return Image.fromarray(image[..., ::-1])
    except (ImportError, ModeratorError, OSError):
        return None
