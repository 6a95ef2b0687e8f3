from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderator.errors import ModeratorError
from moderator.outputs.csv_rows import write_csv
from moderator.outputs.formats import FORMATS, Format, check_fit, write
from moderator.outputs.json_lines import json_text, write_json, write_jsonl
from moderator.outputs.labels import CATEGORY, cell_width, clock, printable
from moderator.outputs.report import Report
from moderator.outputs.sarif import write_sarif
from moderator.outputs.subtitles import write_srt
from moderator.outputs.table import wrap_cells, write_table
from moderator.records import CATEGORIES, Disposition, Severity, Violation
from tests.outputs.builders import (
    HOSTILE,
    media_report,
    screen_text,
    script_report,
    violation,
)

Writer = Callable[[list[Report], io.StringIO], None]


def written(writer: Callable[..., None], *reports: Report, **options: Any) -> str:
    stream = io.StringIO(newline="")
    writer(list(reports), stream, **options)
    return stream.getvalue()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("lang", ["zh", "en"])
def test_formats_write_a_script_with_hostile_words(name: str, lang: str) -> None:
    report = script_report(f"第一行\n{HOSTILE}", HOSTILE, source="a\udcff.txt")
    if name == "srt":
        report = media_report(violation(HOSTILE, HOSTILE), source="a\udcff.mp4")
    stream = io.StringIO()
    write(name, [report], stream, lang)  # type: ignore[arg-type]
    assert len(stream.getvalue().encode("utf-8")) > 100


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"srt", "sarif"}))
def test_formats_write_a_report_without_findings(name: str) -> None:
    stream = io.StringIO()
    write(name, [media_report(utterances=(), duration_s=0.0)], stream, "zh")  # type: ignore[arg-type]
    assert "Traceback" not in stream.getvalue()


def test_formats_refuse_what_does_not_fit_before_the_run() -> None:
    assert set(FORMATS) == set(get_args(Format))
    for arguments in (
        {"format": "sarif", "media": True},
        {"format": "srt", "media": True, "inputs": 2},
    ):
        with pytest.raises(ModeratorError) as error:
            check_fit(**arguments)  # type: ignore[arg-type]
        assert error.value.code == "LM-504"
    check_fit("sarif", media=False, inputs=9)
    check_fit("html", media=True, inputs=9)


def test_labels_name_every_category_in_both_languages() -> None:
    assert set(CATEGORY) == set(CATEGORIES)
    assert all(zh and en and zh != en for zh, en in CATEGORY.values())


@pytest.mark.parametrize(
    ("seconds", "plain", "tenths"),
    [
        (0, "0:00", "0:00.0"),
        (59.96, "0:59", "1:00.0"),
        (61.25, "1:01", "1:01.2"),
        (3723.4, "1:02:03", "1:02:03.4"),
        (-1, "0:00", "0:00.0"),
    ],
)
def test_labels_clock(seconds: float, plain: str, tenths: str) -> None:
    assert clock(seconds) == plain
    assert clock(seconds, tenths=True) == tenths


# --- jsonl and json -----------------------------------------------------------------


def test_jsonl_is_one_record_a_line_and_flushed() -> None:
    flushed: list[str] = []

    class Stream(io.StringIO):
        def flush(self) -> None:
            flushed.append(self.getvalue())

    records = [violation("国\u2028家\x85级\n"), violation(HOSTILE)]
    stream = Stream()
    write_jsonl([media_report(*records)], stream)
    lines = stream.getvalue().splitlines()
    assert [Violation.from_json(json.loads(line)) for line in lines] == records
    assert [text.count("\n") for text in flushed] == [1, 2]


def test_jsonl_writes_each_report_as_it_comes() -> None:
    stream = io.StringIO()
    seen: list[int] = []

    def reports() -> Any:
        for _ in range(3):
            seen.append(stream.getvalue().count("\n"))
            yield media_report(violation())

    write_jsonl(reports(), stream)
    assert seen == [0, 1, 2]


def test_json_is_an_object_for_one_report_and_an_array_for_more() -> None:
    assert json.loads(written(write_json, media_report(violation())))["kind"] == "media"
    assert len(json.loads(written(write_json, media_report(), media_report()))) == 2


@given(st.text(st.characters(exclude_categories=())))
def test_json_text_is_utf8_on_one_line(text: str) -> None:
    line = json_text({"text": text})
    assert line.encode("utf-8")
    assert len(line.splitlines()) == 1
    assert json.loads(line)["text"] == text


# --- csv ----------------------------------------------------------------------------


def test_csv_has_a_mark_for_excel_and_reads_back() -> None:
    text = written(write_csv, media_report(violation('国"家,级\n第二行')))
    assert text.startswith("\ufeffsource,")
    (row,) = csv.DictReader(io.StringIO(text[1:], newline=""))
    assert row["quote"] == '国"家,级\n第二行'
    assert (row["start"], row["severity"], row["confidence"]) == ("1.0", "high", "0.9")
    assert row["law"] == "《中华人民共和国广告法》第九条（三）"


@pytest.mark.parametrize(
    "formula",
    ["=1+1", "+1", "-1", "@SUM(A1)", "＝1", "\t=1", "\r=1", "  =cmd|'/c calc'!A0", "　＋1", "\n@x"],
)
def test_csv_disarms_formulas(formula: str) -> None:
    record = violation(formula, formula, suggestion=formula, source=formula, product=formula)
    (row,) = csv.DictReader(io.StringIO(written(write_csv, media_report(record))[1:], newline=""))
    for name in ("quote", "context", "suggestion", "source", "product"):
        assert row[name] == f"'{formula}"


# --- srt ----------------------------------------------------------------------------


def test_srt_numbers_cues_in_order_of_time() -> None:
    text = written(
        write_srt,
        media_report(
            violation("后", start=3599.9996, end=3600.2), violation("先", start=1.5, end=4.0)
        ),
        lang="zh",
    )
    cues = text.strip().split("\n\n")
    assert cues[0].split("\n")[:2] == ["1", "00:00:01,500 --> 00:00:04,000"]
    assert cues[0].split("\n")[2] == "【高 · 违规 · 绝对化用语】先"
    assert cues[1].split("\n")[:2] == ["2", "01:00:00,000 --> 01:00:01,500"]


def test_srt_is_not_broken_by_hostile_words() -> None:
    hostile = "好\n\n9\n00:00:00,000 --> 99:00:00,000\n<b>坏</b>{\\an8}"
    text = written(
        write_srt, media_report(violation(hostile, hostile, suggestion=hostile)), lang="zh"
    )
    assert len(text.strip().split("\n\n")) == 1
    assert text.count("-->") == 1
    assert not set("<>{}") & set(text.replace("-->", ""))


def test_srt_refuses_scripts_without_times_and_several_inputs() -> None:
    for reports in ([script_report("国家级", "国家级")], [media_report(), media_report()]):
        with pytest.raises(ModeratorError) as error:
            written(write_srt, *reports)
        assert error.value.code == "LM-504"


# --- sarif --------------------------------------------------------------------------


def sarif(*reports: Report, **options: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(written(write_sarif, *reports, **options))
    (run,) = document["runs"]
    assert document["version"] == "2.1.0"
    assert isinstance(run, dict)
    return run


def test_sarif_regions_count_utf16_units(tmp_path: Path) -> None:
    run = sarif(script_report("开场\n😀😀这是国家级😀好", "国家级"), root=tmp_path)
    assert run["columnKind"] == "utf16CodeUnits"
    region = run["results"][0]["locations"][0]["physicalLocation"]["region"]
    assert region == {
        "startLine": 2,
        "startColumn": 7,
        "endLine": 2,
        "endColumn": 10,
        "snippet": {"text": "国家级"},
    }


def test_sarif_results_point_at_their_rule_and_artifact(tmp_path: Path) -> None:
    one = script_report("国家级\n最佳", "国家级", "最佳", source="a.txt")
    two = script_report("最佳", "最佳", source="b.txt")
    other = violation(
        "最佳", channel="script", disposition=Disposition.SUSPECT, severity=Severity.LOW, place=None
    )
    run = sarif(one, two, script_report("好", source="c.txt", violations=(other,)), root=tmp_path)
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules) == 1
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        location = result["locations"][0]["physicalLocation"]["artifactLocation"]
        assert run["artifacts"][location["index"]]["location"]["uri"] == location["uri"]
    assert [result["level"] for result in run["results"]] == ["error", "error", "error", "note"]
    assert run["results"][-1]["locations"][0]["physicalLocation"]["region"] == {"startLine": 1}


def test_sarif_paths_are_relative_and_percent_encoded(tmp_path: Path) -> None:
    inside = "脚本/a b%20#?:c\udcff.txt"
    names = [
        inside,
        str(tmp_path / "x.txt"),
        "../outside/é.txt",
        "//host/share.txt",
        "javascript:1",
    ]
    run = sarif(*(script_report("好", source=name) for name in names), root=tmp_path)
    found = [artifact["location"] for artifact in run["artifacts"]]
    uris = [location["uri"] for location in found]
    assert all(re.fullmatch(r"[A-Za-z0-9._~%/-]+", uri.removeprefix("file://")) for uri in uris)
    assert unquote(uris[0], errors="surrogateescape") == inside
    assert uris[1] == "x.txt"
    assert uris[2].startswith("file:///")
    assert uris[4] == "javascript%3A1"
    assert [("uriBaseId" in location) for location in found] == [True, True, False, False, True]


def test_sarif_fingerprints_survive_edits_above_and_tell_twins_apart(tmp_path: Path) -> None:
    def prints(text: str, *quotes: str) -> list[str]:
        run = sarif(script_report(text, *quotes), root=tmp_path)
        return [r["partialFingerprints"]["primaryLocationLineHash"] for r in run["results"]]

    before = prints("国家级品质", "国家级")
    assert prints("新的一行\n\n  国家级品质", "国家级") == before
    assert prints("国家级的品质", "国家级") != before
    twins = prints("国家级品质", "国家级", "国家级")
    assert len(set(twins)) == 2
    assert twins[0] == before[0]


def test_sarif_refuses_media() -> None:
    with pytest.raises(ModeratorError) as error:
        written(write_sarif, media_report(violation()))
    assert error.value.code == "LM-504"


# --- table --------------------------------------------------------------------------


def width_of(line: str) -> int:
    return sum(map(cell_width, line))


@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize("width", [80, 100, 160])
def test_table_fits_its_width_and_loses_no_word(lang: str, width: int) -> None:
    advice = "有数据就写明出处：“据××报告，2025年某平台面霜类目销量第一”，并附上 https://example.com/report。"
    record = violation("全网销量第一", suggestion=advice, occurrences=3)
    text = written(write_table, media_report(record), lang=lang, width=width)
    assert max(map(width_of, text.rstrip().split("\n")[:-1])) <= width
    assert "…" not in text
    squeezed = re.sub(r"\s", "", text)
    # On a narrow terminal the quote itself runs over two rows of its column.
    assert "全网销量第一" in squeezed or width == 80
    assert "×3" in squeezed


def test_table_sums_up_in_the_last_line() -> None:
    report = media_report(
        violation(), violation(disposition=Disposition.SUSPECT, severity=Severity.LOW)
    )
    last = written(write_table, report, lang="zh", width=100).strip().split("\n")[-1]
    assert last == "违规 1，待复核 1（高 1，低 1）  room.mp4  1:00  用时 6.0 秒（10.0 倍速）"
    none = written(write_table, media_report(), lang="en", width=100).strip()
    assert none.startswith("Nothing found  room.mp4")


def test_table_shows_line_and_column_of_scripts() -> None:
    text = written(write_table, script_report("开场\n这是国家级", "国家级"), lang="zh", width=100)
    assert "行:列" in text
    assert "2:3" in text


def test_table_never_lets_a_stream_steer_the_terminal() -> None:
    evil = "好\x1b[2J\x1b]0;x\x07\u202e[red]坏[/red]\r\n第二行\x9b31m"
    report = media_report(
        violation(evil, suggestion=evil),
        source=f"a{evil}",
        notes=(evil,),
        screen_texts=(screen_text(evil),),
    )
    text = written(write_table, report, lang="zh", width=100)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "[red]" in re.sub(r"\s", "", text)


@given(st.text("国家级，。“”（）AI abc1 é😀\u0301", max_size=60), st.integers(4, 30))
def test_table_wrapping_keeps_text_and_width(text: str, width: int) -> None:
    lines = wrap_cells(text, width)
    assert all(width_of(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@given(
    st.lists(st.sampled_from(["国家", "级", "好用"]), min_size=1, max_size=20), st.integers(6, 30)
)
def test_table_wrapping_begins_no_line_with_a_comma(words: list[str], width: int) -> None:
    lines = wrap_cells("，".join(words) + "。", width)
    assert not [line for line in lines if line[0] in "，。"]


def test_table_wrapping_keeps_latin_words_whole() -> None:
    assert wrap_cells("改为 natural skincare 好", 12) == ["改为 natural", "skincare 好"]


@given(st.text(st.characters(exclude_categories=())))
def test_labels_printable_is_one_encodable_line(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert shown.encode("utf-8") is not None
