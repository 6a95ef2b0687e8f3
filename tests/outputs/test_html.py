from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from moderator.outputs import html as page_module
from moderator.outputs.html import render_html
from moderator.outputs.report import Report, article_key
from moderator.records import Disposition, Evidence, MatchInfo, Room, Severity
from tests.outputs.builders import (
    AD_LAW,
    HOSTILE,
    code,
    media_report,
    screen_text,
    script_report,
    utterance,
    violation,
)

VOID = {"meta", "link", "img", "br", "rect", "line", "path", "circle"}


class Page(HTMLParser):
    """What a browser would build: elements with their attributes, and text by element."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.raw: dict[str, str] = {}
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"stray </{tag}>"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            self.raw[self.open[-1]] = self.raw.get(self.open[-1], "") + data
        else:
            self.text.append(data)

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [
            attrs
            for name, attrs in self.elements
            if name == tag and all(attrs.get(k) == v for k, v in wanted.items())
        ]

    def with_class(self, name: str) -> list[dict[str, str | None]]:
        return [a for _, a in self.elements if name in (a.get("class") or "").split()]


def page(*reports: Report, lang: str = "zh", evidence_dir: Path | None = None) -> Page:
    return Page(render_html(reports, lang=lang, evidence_dir=evidence_dir))


def hostile_report() -> Report:
    record = violation(
        HOSTILE,
        HOSTILE,
        heard=HOSTILE,
        explanation=HOSTILE,
        suggestion=HOSTILE,
        product=HOSTILE,
        match=MatchInfo("phonetic", 0.9, 1.0, HOSTILE),
        exemptions_considered=(HOSTILE,),
        evidence=Evidence(HOSTILE, (HOSTILE,), None, {HOSTILE: HOSTILE}),
        category=HOSTILE,
        session=HOSTILE,
        id=HOSTILE,
    )
    return media_report(
        record,
        source=HOSTILE,
        room=Room(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE),
        utterances=(utterance(HOSTILE), utterance(HOSTILE, distrust=HOSTILE)),
        screen_texts=(screen_text(HOSTILE),),
        codes=(code("javascript:alert(1)"),),
        engines={"asr": HOSTILE},
        notes=(HOSTILE,),
        articles={article_key(AD_LAW): HOSTILE},
    )


@pytest.mark.parametrize(
    "report", [hostile_report(), script_report(HOSTILE, HOSTILE, source=HOSTILE)]
)
def test_html_words_of_a_stream_never_become_markup(report: Report) -> None:
    found = page(report)
    assert len(found.all("script")) == 1
    assert "alert(1)" not in found.raw["script"]
    assert not [
        attrs for _, attrs in found.elements if any(name.startswith("on") for name in attrs)
    ]
    assert HOSTILE in "".join(found.text)
    assert not [a for _, a in found.elements if (a.get("href") or "").startswith("javascript")]
    assert found.open == []


def test_html_asks_nothing_of_the_network() -> None:
    source = render_html([hostile_report(), script_report("国家级", "国家级")])
    found = Page(source)
    for _, attrs in found.elements:
        for name in ("src", "href", "poster", "action", "srcset"):
            value = attrs.get(name)
            assert not value or value.startswith(("#", "./", "data:"))
    assert not found.all("link")
    assert "url(" not in found.raw["style"]
    assert "@import" not in found.raw["style"]
    for call in ("fetch(", "XMLHttpRequest", "import(", "WebSocket", "sendBeacon"):
        assert call not in found.raw["script"]


def test_html_policy_names_its_own_style_and_script_by_hash() -> None:
    found = page(media_report(violation()))
    (policy,) = [attrs["content"] for attrs in found.all("meta") if "http-equiv" in attrs]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    for directive, element in (("style-src", "style"), ("script-src", "script")):
        digest = base64.b64encode(hashlib.sha256(found.raw[element].encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert not [attrs for _, attrs in found.elements if "style" in attrs]


def test_html_marks_the_words_in_quote_and_transcript() -> None:
    report = media_report(
        violation("国家级", "这是国家级的品质", start=1.0, end=2.0),
        violation("最低价", "国家级最低价", start=30.0, end=31.0),
        utterances=(
            utterance("这是国家级的品质", 0.0, 4.0),
            utterance("我们不说国家级", 20.0, 24.0),
            utterance("国家级最低价", 29.0, 32.0),
        ),
    )
    source = render_html([report])
    assert "这是<mark>国家级</mark>的品质" in source
    marks = re.findall(r'data-v="([^"]+)"><mark>([^<]*)</mark>', source)
    assert marks == [("v1", "国家级"), ("v2", "最低价")]


def test_html_marks_what_was_heard_for_a_match_by_sound() -> None:
    record = violation("祛斑", "面霜区斑效果好", heard="区斑", start=0.5, end=1.0)
    source = render_html([media_report(record, utterances=(utterance("面霜区斑效果好"),))])
    assert re.findall(r'data-v="v1"><mark>([^<]*)</mark>', source) == ["区斑"]
    assert "祛斑" in source


def test_html_marks_by_the_clock_what_runs_over_two_utterances() -> None:
    record = violation("国家级", "这是国家，级品质", start=3.0, end=5.0)
    report = media_report(
        record, utterances=(utterance("这是国家", 0.0, 4.0), utterance("级品质", 4.0, 7.0))
    )
    assert re.findall(r'data-v="v1"><mark>([^<]*)</mark>', render_html([report])) == ["家", "级"]


def test_html_overlapping_marks_keep_every_word_once() -> None:
    text = "全网最低价销量第一"
    report = media_report(
        violation("全网最低价", text, severity=Severity.LOW),
        violation("最低价销量第一", text, severity=Severity.CRITICAL),
        utterances=(utterance(text),),
    )
    source = render_html([report])
    parts = re.findall(r'class="mark sev-(\w+)" href="#v\d" data-v="([^"]+)"><mark>([^<]*)', source)
    assert [part[2] for part in parts] == ["全网", "最低价", "销量第一"]
    assert parts[1][:2] == ("critical", "v2 v1")


def test_html_links_lead_somewhere() -> None:
    report = media_report(
        violation(),
        violation(channel="screen", quote="最低价", context="最低价", start=5.0, end=9.0),
    )
    found = page(report, script_report("国家级\n最佳", "国家级", "最佳"))
    ids = {attrs["id"] for _, attrs in found.elements if attrs.get("id")}
    assert len(ids) == len([1 for _, attrs in found.elements if attrs.get("id")])
    for attrs in found.all("a"):
        href = attrs.get("href") or ""
        assert href.startswith("#")
        assert href[1:] in ids
    for _, attrs in found.elements:
        for name in (attrs.get("data-v") or "").split():
            assert name in ids


def test_html_timeline_puts_violations_at_their_time() -> None:
    report = media_report(violation(start=15.0, end=30.0), duration_s=60.0)
    found = page(report)
    bars = [a for a in found.all("rect") if a.get("x") == "25.0%" and a.get("width") == "25.0%"]
    assert len(bars) == 1
    assert found.all("a", href="#v1", **{"class": "spot sev-high long"})


def test_html_timeline_merges_thousands_of_utterances() -> None:
    talk = tuple(utterance("好", second, second + 0.9) for second in range(10_000))
    source = render_html([media_report(utterances=talk, duration_s=10_000.0)])
    assert source.count('class="present"') < 100


def test_html_shows_law_text_only_when_given() -> None:
    record = violation()
    without = render_html([media_report(record)])
    with_text = render_html([media_report(record, articles={article_key(AD_LAW): "条文全文"})])
    assert "第九条（三）" in without
    assert "条文全文" not in without
    assert "<blockquote>条文全文</blockquote>" in with_text


def test_html_links_clips_or_embeds_them(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a #1.mp4").write_bytes(b"clip")
    evidence = Evidence("clips/a #1.mp4", ("frames/none.jpg",))
    report = media_report(violation(evidence=evidence), violation(evidence=evidence, start=2.0))
    linked = page(report)
    assert [a["src"] for a in linked.all("video")] == ["./clips/a%20%231.mp4"] * 2
    embedded = page(report, evidence_dir=tmp_path)
    (video,) = embedded.all("video")
    assert video["src"] == "data:video/mp4;base64," + base64.b64encode(b"clip").decode()
    assert video["poster"] == "./frames/none.jpg"
    assert embedded.all("a", **{"data-play": "v1"})


def test_html_links_what_is_too_large_to_embed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x" * 100)
    (tmp_path / "b.mp4").write_bytes(b"x" * 60)
    (tmp_path / "c.mp4").write_bytes(b"x" * 60)
    monkeypatch.setattr(page_module, "EMBED_FILE_BYTES", 80)
    monkeypatch.setattr(page_module, "EMBED_TOTAL_BYTES", 100)
    records = [
        violation(evidence=Evidence(f"{name}.mp4"), start=index) for index, name in enumerate("abc")
    ]
    found = page(media_report(*records), evidence_dir=tmp_path)
    kinds = [(attrs["src"] or "")[:5] for attrs in found.all("video")]
    assert kinds == ["./a.m", "data:", "./c.m"]


def test_html_speaks_both_languages() -> None:
    source = render_html([media_report(violation())], lang="en")
    assert '<html lang="en" data-lang="en">' in source
    assert '<span class="zh" lang="zh">绝对化用语</span>' in source
    assert '<span class="en" lang="en">Absolute term</span>' in source
    assert '<html lang="zh-CN" data-lang="zh">' in render_html([media_report()], lang="zh")


def test_html_offers_only_filters_that_find_something() -> None:
    found = page(
        media_report(violation(), violation(disposition=Disposition.SUSPECT, severity=Severity.LOW))
    )
    chips = [(a["data-group"], a["data-value"]) for a in found.all("button") if "data-group" in a]
    assert chips == [
        ("severity", "high"),
        ("severity", "low"),
        ("disposition", "violation"),
        ("disposition", "suspect"),
        ("category", "absolute_term"),
    ]
    assert [a for a in page(media_report()).all("button") if "data-group" in a] == []


def test_html_script_shows_lines_marks_and_rewrites() -> None:
    source = render_html([script_report("开场\n\n这是国家级品质\n再见", "国家级")])
    rows = re.findall(r'<th scope="row">(\d+)</th>', source)
    assert rows == ["1", "2", "3", "4"]
    assert (
        '这是<a class="mark sev-high" href="#v1" data-v="v1"><mark>国家级</mark></a>品质' in source
    )
    assert '<a class="rewrite sev-high" href="#v1"' in source


def test_html_long_scripts_show_what_stands_around_the_findings() -> None:
    lines = [f"第{number}行" for number in range(1, 5001)]
    lines[2999] = "好" * 3000 + "国家级" + "好" * 3000
    source = render_html([script_report("\n".join(lines), "国家级")])
    rows = re.findall(r'<th scope="row">(\d+)</th>', source)
    assert rows == ["1", "2", "3", "4", "5", "2998", "2999", "3000", "3001", "3002"]
    assert "省略 2992 行" in source
    assert "省略 1998 行" in source
    assert "好" * 80 + '<a class="mark' in source
    assert "好" * 1000 not in source.split('class="lines"')[1]


def test_html_of_a_batch_shows_only_what_was_found() -> None:
    reports = [script_report("好", source=f"id-{n}") for n in range(20)]
    reports[7] = script_report("国家级", "国家级", source="id-7")
    source = render_html(reports, lang="zh")
    assert "id-7" in source
    assert "id-8" not in source
    assert "其中 19 份没有发现问题" in source


def test_html_absence_has_no_quote_but_says_what_was_missing() -> None:
    record = violation(
        "",
        " ",
        channel="stream",
        span=(0, 0),
        match=MatchInfo("absence", 1.0, None, "本品不能代替药物"),
        start=0.0,
        end=60.0,
    )
    source = render_html([media_report(record)])
    assert "本品不能代替药物" in source
    assert 'class="quote"' not in source
