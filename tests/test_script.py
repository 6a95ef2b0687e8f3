from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderator.errors import ModeratorError
from moderator.script import (
    PIECE_CHARS,
    Script,
    read_batch,
    read_script,
    script_from_bytes,
    script_from_text,
)

CLAIM = "家人们，这款面霜是国家级品质，孕妇也可以放心用。"


def texts(script: Script) -> list[str]:
    return [line.text for line in script.lines]


def code_of(error: pytest.ExceptionInfo[ModeratorError]) -> str:
    return error.value.code


def at(script: Script, words: str) -> tuple[int, int, int, int]:
    """The place of `words`, which one of the lines holds."""
    for line in script.lines:
        begin = line.text.find(words)
        if begin >= 0:
            found = line.place_of(begin, begin + len(words))
            return found.line, found.column, found.end_line, found.end_column
    raise AssertionError(f"{words!r} in none of {texts(script)}")


# --- encodings ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "named"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-16", "utf-16-le"),
        ("utf-32", "utf-32-le"),
        ("gbk", "gb18030"),
        ("gb18030", "gb18030"),
    ],
)
def test_script_reads_encoding(tmp_path: Path, encoding: str, named: str) -> None:
    path = tmp_path / "脚本.txt"
    path.write_bytes(f"{CLAIM}\r\n第二行\n".encode(encoding))
    script = read_script(path)
    assert texts(script) == [CLAIM, "第二行"]
    assert at(script, "国家级") == (1, 10, 1, 13)
    assert script.encoding == named


def test_script_reads_utf16_big_endian() -> None:
    script = script_from_bytes(b"\xfe\xff" + CLAIM.encode("utf-16-be"), source="a.txt")
    assert texts(script) == [CLAIM]


def test_script_reads_big5() -> None:
    traditional = "家人們，這款面霜的質地非常好，今天直播間有優惠，歡迎大家下單。"
    script = script_from_bytes(traditional.encode("big5"), source="a.txt")
    assert texts(script) == [traditional]


def test_script_reads_rare_characters_of_gb18030_among_common_ones() -> None:
    text = f"{CLAIM}产地：𠮷林，㐀字号"
    assert texts(script_from_bytes(text.encode("gb18030"), source="a.txt")) == [text]


@pytest.mark.parametrize(
    "data",
    [
        "Très bon café, déjà vu".encode("latin-1"),
        "これはテストです。日本語の文章をここに書きます".encode("shift-jis"),
        "Привет, это русский текст".encode("cp1251"),
        b"\xff\xfe\x00\xd8",
        b"\xff\xd8\xff\xe1JFIF\x81\x82",
    ],
)
def test_script_refuses_unknown_encoding(data: bytes) -> None:
    with pytest.raises(ModeratorError) as error:
        script_from_bytes(data, source="a.txt")
    assert code_of(error) == "LM-601"


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"abc\0def", 3),
        ("国家级".encode("utf-16-le") + "ab".encode("utf-16-le"), 7),
        (b"\xff\xfe" + "a\0b".encode("utf-16-le"), 4),
    ],
)
def test_script_refuses_nul_bytes_and_says_where(data: bytes, offset: int) -> None:
    with pytest.raises(ModeratorError) as error:
        script_from_bytes(data, source="a.txt")
    assert code_of(error) == "LM-602"
    assert error.value.fields["offset"] == offset


# --- files --------------------------------------------------------------------------


def test_script_names_what_is_wrong_with_a_path(tmp_path: Path) -> None:
    (tmp_path / "dir.txt").mkdir()
    (tmp_path / "empty.txt").touch()
    (tmp_path / "film.mp4").write_bytes(b"x")
    for name, expected in {
        "missing.txt": "LM-101",
        "dir.txt": "LM-102",
        "empty.txt": "LM-103",
        "film.mp4": "LM-606",
    }.items():
        with pytest.raises(ModeratorError) as error:
            read_script(tmp_path / name)
        assert code_of(error) == expected
        assert name in str(error.value)


def test_script_names_an_unreadable_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ModeratorError) as error:
        read_script(path)
    assert code_of(error) == "LM-104"


def test_script_refuses_what_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "big.txt"
    with path.open("wb") as file:
        file.truncate(50 * 2**20)
    with pytest.raises(ModeratorError) as error:
        read_script(path)
    assert code_of(error) == "LM-603"
    assert "50.0 MiB" in str(error.value)
    path.write_bytes(b"a" * 2000)
    with pytest.raises(ModeratorError):
        read_script(path, limit_mib=0.001)
    assert len(read_script(path, limit_mib=0.01).text) == 2000


def test_script_reads_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CLAIM.encode("gbk"))))
    script = read_script("-")
    assert script.source == "stdin"
    assert texts(script) == [CLAIM]


@pytest.mark.parametrize("name", ["带 空格.txt", "a'b\"c.txt", "换\n行.txt", "-dash.txt"])
def test_script_reads_odd_file_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(CLAIM, encoding="utf-8")
    assert texts(read_script(tmp_path / name)) == [CLAIM]


# --- plain text ---------------------------------------------------------------------


def test_script_counts_lines_through_every_line_end() -> None:
    script = script_from_text("一\r\n\r\n  二  \r三\n\n四")
    assert [(line.text, line.line, line.column) for line in script.lines] == [
        ("一", 1, 1),
        ("二", 3, 3),
        ("三", 4, 1),
        ("四", 6, 1),
    ]


def test_script_of_blank_lines_has_no_lines() -> None:
    assert texts(script_from_text(" \n\t\n\u3000\n")) == []


def test_script_cuts_a_line_of_5_mb_at_sentence_ends() -> None:
    sentence = "家人们这个真的很好用，喜欢的点关注！"
    text = sentence * (5_000_000 // len(sentence.encode()))
    script = script_from_text(text)
    assert "".join(texts(script)) == text
    assert all(len(line.text) <= PIECE_CHARS for line in script.lines)
    assert all(line.text.endswith("！") for line in script.lines)
    last = script.lines[-1]
    assert (last.line, last.column) == (1, len(text) - len(last.text) + 1)
    assert at(script, "关注！")[:2] == (1, text.index("关注！") + 1)


def test_script_cuts_text_without_any_mark() -> None:
    text = "好" * (PIECE_CHARS * 2 + 5)
    assert [len(line.text) for line in script_from_text(text).lines] == [PIECE_CHARS] * 2 + [5]


# --- Markdown -----------------------------------------------------------------------


def test_script_markdown_markup_is_not_text() -> None:
    source = "\n".join(
        [
            "---",
            "title: 草稿",
            "---",
            "# 开场 **国家**级 ##",
            '> 1. [最佳](http://a.b/c_(d) "说明")的![面霜图](a.png)',
            "- [x] `第一` ~~删去~~ ==着重== A &amp; B \\*不是\\*",
            "***",
            "| 名称 | 价格 |",
            "|:-----|-----:|",
            "| 面霜 | **9.9** |",
            "",
            "```text",
            "**原样**",
            "```",
            '看<b class="x">这里</b><br/>下一句 <!-- 看不见',
            "也看不见 --> 看得见",
            "脚注[^1]，见[文][ref]",
            "[ref]: https://example.com",
        ]
    )
    assert texts(script_from_text(source, kind="md")) == [
        "开场 国家级",
        "最佳的面霜图",
        "第一 删去 着重 A & B *不是*",
        "名称",
        "价格",
        "面霜",
        "9.9",
        "**原样**",
        "看这里",
        "下一句",
        "看得见",
        "脚注，见文",
    ]


def test_script_markdown_places_words_across_markup() -> None:
    script = script_from_text("# 标题\n\n这是**国家**级的[品质](https://x.y)。", kind="md")
    assert at(script, "国家级") == (3, 5, 3, 10)
    assert at(script, "品质") == (3, 12, 3, 14)


@pytest.mark.parametrize(
    "text",
    [
        "5*3=15",
        "国*家级",
        "snake_case_name",
        "[主播]: 国家级品质",
        "[国家级](最佳)",
        "没有关上的 <!-- 也要看",
        "没有关上的 `代码",
        "价格 < 9 元 > 8 元",
        "A&B &nosuchentity; a|b",
        "#没有空格",
        "---国家级",
    ],
)
def test_script_markdown_keeps_what_only_looks_like_markup(text: str) -> None:
    assert texts(script_from_text(text, kind="md")) == [text]


def test_script_markdown_follows_emphasis_inside_emphasis() -> None:
    for source in ("**国*家*级**", "***国家*级**", "_**国家**级_", "**国家***级*"):
        assert texts(script_from_text(source, kind="md")) == ["国家级"]


@pytest.mark.parametrize("evil", ["[", "![", "*a", "`", "``a", "<a x=", "<!--", "](", "&#", "_a "])
def test_script_markdown_takes_hostile_lines_in_stride(evil: str) -> None:
    script = script_from_text(evil * 20_000 + "国家级", kind="md")
    assert texts(script)[-1].endswith("国家级")


MARKDOWN_ALPHABET = "国家级好 ab1*_`~=<>[]()!|#-\\\n.:/&"


@settings(max_examples=300, deadline=None)
@given(st.text(MARKDOWN_ALPHABET, max_size=120), st.sampled_from(["txt", "md"]))
def test_script_characters_stand_where_they_say(source: str, kind: str) -> None:
    script = script_from_text(source, kind=kind)  # type: ignore[arg-type]
    rows = script.text.split("\n")
    for line in script.lines:
        for offset, char in enumerate(line.text):
            found = line.place_of(offset, offset + 1)
            assert rows[found.line - 1][found.column - 1] == char
            assert (found.end_line, found.end_column) == (found.line, found.column + 1)


@settings(max_examples=200, deadline=None)
@given(st.text(MARKDOWN_ALPHABET.replace("\n", ""), max_size=60))
def test_script_markdown_never_loses_words(source: str) -> None:
    """Whatever the markup, the claim after it is still read (unless it is a link's target)."""
    kept = "".join(texts(script_from_text(f"{source}\n\n国家级最佳", kind="md")))
    assert kept.endswith("国家级最佳")


# --- subtitles ----------------------------------------------------------------------


def test_script_srt_gives_cue_times_and_drops_markup() -> None:
    source = (
        "1\r\n00:00:01,500 --> 00:00:04,000\r\n<i>这是</i>{\\an8}国家\r\n级品质\r\n\r\n"
        "2\r\n01:02:03.25 --> 01:02:05.5 X1:0\r\n- 真的吗\r\n- A &amp; B\r\n"
    )
    script = script_from_text(source, kind="srt")
    assert [(line.text, line.start, line.end) for line in script.lines] == [
        ("这是国家 级品质", 1.5, 4.0),
        ("真的吗", 3723.25, 3725.5),
        ("A & B", 3723.25, 3725.5),
    ]
    assert all(line.timed for line in script.lines)
    assert at(script, "国家 级") == (3, 16, 4, 2)
    assert at(script, "真的吗") == (8, 3, 8, 6)


def test_script_vtt_skips_header_notes_and_styles() -> None:
    source = (
        "WEBVTT - 直播\nKind: captions\n\nNOTE 最佳\n国家级\n\nSTYLE\n::cue { color: red }\n\n"
        "开场\n00:01.000 --> 00:02.000 align:start\n<v 小鹿>大家好<00:00:01.500>呀</v>\n"
    )
    script = script_from_text(source, kind="vtt")
    assert [(line.text, line.start, line.line) for line in script.lines] == [("大家好呀", 1.0, 12)]


def test_script_srt_keeps_text_outside_cues() -> None:
    script = script_from_text("1\n00:00:01 -> 00:00:02\n国家级\n", kind="srt")
    assert "国家级" in texts(script)
    assert not any(line.timed for line in script.lines)


def test_script_srt_end_before_start_is_mended() -> None:
    script = script_from_text("1\n00:00:05,000 --> 00:00:02,000\n好\n", kind="srt")
    assert (script.lines[0].start, script.lines[0].end) == (5.0, 5.0)


def test_script_srt_without_blank_lines_between_cues() -> None:
    source = "1\n00:00:01,000 --> 00:00:02,000\n一\n2\n00:00:03,000 --> 00:00:04,000\n二\n"
    assert texts(script_from_text(source, kind="srt")) == ["一", "二"]


# --- Word ---------------------------------------------------------------------------

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def docx(body: str, *, head: str = "", part: str = "word/document.xml") -> bytes:
    xml = f'<?xml version="1.0"?>{head}<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>'
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(part, xml)
    return buffer.getvalue()


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def test_script_docx_reads_a_document_of_python_docx(tmp_path: Path) -> None:
    library = pytest.importorskip("docx")
    document = library.Document()
    document.add_heading("开场", 1)
    mixed = document.add_paragraph("这是")
    mixed.add_run("国家").bold = True
    mixed.add_run("级品质")
    table = document.add_table(rows=1, cols=2)
    table.cell(0, 0).text = "面霜"
    table.cell(0, 1).text = "最低价"
    document.add_paragraph("结尾")
    path = tmp_path / "稿.docx"
    document.save(str(path))
    script = read_script(path)
    assert texts(script) == ["开场", "这是国家级品质", "面霜", "最低价", "结尾"]
    assert at(script, "国家级") == (2, 3, 2, 6)
    assert at(script, "最低价")[:2] == (4, 1)
    assert script.text.split("\n")[3] == "最低价"


def test_script_docx_leaves_out_deleted_and_repeated_text() -> None:
    body = (
        "<w:p><w:r><w:t>一</w:t><w:br/><w:t>二</w:t><w:tab/></w:r>"
        "<w:del><w:r><w:delText>删</w:delText></w:r></w:del>"
        "<w:r><w:instrText>PAGE</w:instrText></w:r><w:ins><w:r><w:t>增</w:t></w:r></w:ins></w:p>"
        '<mc:AlternateContent xmlns:mc="urn:mc"><mc:Choice>' + paragraph("框") + "</mc:Choice>"
        "<mc:Fallback>" + paragraph("框") + "</mc:Fallback></mc:AlternateContent>"
    )
    script = script_from_bytes(docx(body), source="a.docx", kind="docx")
    assert texts(script) == ["一\n二\t增", "框"]
    assert script.text.split("\n") == ["一\u2028二\t增", "框"]


def test_script_docx_follows_the_package_to_its_document() -> None:
    buffer = io.BytesIO(docx(paragraph("好"), part="word/document2.xml"))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(
            "_rels/.rels",
            '<Relationships xmlns="r"><Relationship Type="http://x/officeDocument" '
            'Target="word/document2.xml"/></Relationships>',
        )
    assert texts(script_from_bytes(buffer.getvalue(), source="a", kind="docx")) == ["好"]


def test_script_docx_stops_at_a_zip_bomb() -> None:
    bomb = docx(f'<w:p w:rsid="{"0" * 40_000_000}"/>')
    assert len(bomb) < 100_000
    with pytest.raises(ModeratorError) as error:
        script_from_bytes(bomb, source="bomb.docx", kind="docx", limit_mib=1)
    assert code_of(error) == "LM-603"


def test_script_docx_text_is_bounded_too() -> None:
    with pytest.raises(ModeratorError) as error:
        script_from_bytes(
            docx(paragraph("好" * 500_000)), source="a.docx", kind="docx", limit_mib=1
        )
    assert code_of(error) == "LM-603"


def test_script_docx_refuses_entities(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("机密")
    for head, text in (
        (f'<!DOCTYPE d [<!ENTITY x SYSTEM "{secret.as_uri()}">]>', "&x;"),
        ('<!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>', "&b;"),
    ):
        with pytest.raises(ModeratorError) as error:
            script_from_bytes(docx(paragraph(text), head=head), source="a.docx", kind="docx")
        assert code_of(error) == "LM-605"


@pytest.mark.parametrize(
    "data",
    [
        b"not a zip at all",
        docx(paragraph("好"))[:-40],
        docx(paragraph("好"), part="other.xml"),
        docx("<w:p><w:r>"),
        b"\xd0\xcf\x11\xe0 old or encrypted",
    ],
)
def test_script_docx_says_that_it_is_damaged(data: bytes) -> None:
    with pytest.raises(ModeratorError) as error:
        script_from_bytes(data, source="a.docx", kind="docx")
    assert code_of(error) == "LM-605"


# --- batches ------------------------------------------------------------------------


def batch(*lines: object) -> io.BytesIO:
    rows = [
        line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines
    ]
    return io.BytesIO("\n".join(rows).encode())


def test_script_batch_reads_ids_of_any_scalar() -> None:
    rows = [{"id": value, "text": "好"} for value in ("a", 7, 1.5, True, None, "a")]
    items = list(read_batch(batch(*rows[:3], "", "  ", *rows[3:])))
    assert [item.id for item in items] == ["a", "7", "1.5", "true", "null", "a"]
    assert [item.line for item in items] == [1, 2, 3, 6, 7, 8]


def test_script_batch_carries_the_product_and_ignores_other_fields(tmp_path: Path) -> None:
    path = tmp_path / "批.jsonl"
    row = {"id": "x", "text": CLAIM, "product": {"category": "cosmetic"}, "label": 1}
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(row, ensure_ascii=False).encode() + b"\r\n")
    (item,) = read_batch(path)
    assert (item.text, item.product) == (CLAIM, {"category": "cosmetic"})


@pytest.mark.parametrize(
    "line",
    [
        "{not json",
        "[1, 2]",
        '"text"',
        {"id": 1},
        {"id": 1, "text": 5},
        {"text": "好"},
        {"id": [1], "text": "好"},
        {"id": 1, "text": "好", "product": "面霜"},
        "[" * 100_000,
        '{"id": ' + "9" * 5000 + "}",
    ],
)
def test_script_batch_names_the_bad_line(line: object) -> None:
    stream = batch({"id": 0, "text": "好"}, "", line, {"id": 2, "text": "好"})
    read = []
    with pytest.raises(ModeratorError) as error:
        read.extend(item.id for item in read_batch(stream))
    assert code_of(error) == "LM-604"
    assert "batch:3" in str(error.value)


def test_script_batch_yields_lines_before_a_bad_one() -> None:
    items = read_batch(batch({"id": 0, "text": "好"}, "{bad"))
    assert next(items).id == "0"
    with pytest.raises(ModeratorError):
        next(items)


def test_script_batch_reads_other_encodings_and_text_streams() -> None:
    row = json.dumps({"id": "一", "text": CLAIM}, ensure_ascii=False)
    for stream in (
        io.BytesIO(f"{row}\n{row}".encode("gbk")),
        io.BytesIO(f"{row}\n{row}".encode("utf-16")),
        io.StringIO(f"{row}\n{row}"),
    ):
        assert [item.text for item in read_batch(stream)] == [CLAIM, CLAIM]


def test_script_batch_bounds_one_line() -> None:
    stream = batch({"id": 0, "text": "好" * 1000})
    with pytest.raises(ModeratorError) as error:
        list(read_batch(stream, limit_mib=0.001))
    assert code_of(error) == "LM-603"


def test_script_batch_replaces_half_a_surrogate_pair() -> None:
    (item,) = read_batch(io.BytesIO(b'{"id": "a\\ud83d", "text": "\\ud83d\\u597d"}'))
    assert (item.id, item.text) == ("a\ufffd", "\ufffd好")
