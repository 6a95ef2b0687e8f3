from __future__ import annotations

import csv
import io
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from moderator import cli
from moderator.records import CATEGORIES
from tests.claims.conftest import rule
from tests.command import (
    LAWFUL,
    NEEDS_PROOF,
    REPOSITORY,
    SUSPECT,
    VIOLATION,
    Result,
    environment,
    moderator,
    small_rules,
    write_pack,
    write_yaml,
)

Run = Callable[..., Result]

RECORD = Draft202012Validator(
    json.loads((files("moderator") / "schemas" / "violation.schema.json").read_text("utf-8"))
)

SUBTITLES = f"1\n00:00:01,000 --> 00:00:03,500\n{VIOLATION}\n\n2\n00:00:05,000 --> 00:00:08,000\n{NEEDS_PROOF}\n"


@pytest.fixture(autouse=True)
def _in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MODERATOR_") and name != "MODERATOR_CACHE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("MODERATOR_LANG", "en")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The entry point in this process: the same code as the command, without its start."""

    def call(*arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["moderator", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        written = capsys.readouterr()
        return Result(code, written.out, written.err)

    return call


@pytest.fixture
def check(run: Run, tmp_path: Path) -> Run:
    """`moderator check` with the small pack."""
    pack = write_pack(tmp_path / "small pack")

    def call(*arguments: str | Path) -> Result:
        return run("check", "--rules", pack, *arguments)

    return call


def script(tmp_path: Path, *lines: str, name: str = "talk.txt") -> Path:
    path = tmp_path / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def records(result: Result) -> list[dict[str, Any]]:
    """The records of `--format jsonl`, each held against the schema."""
    found = [json.loads(line) for line in result.out.splitlines()]
    for record in found:
        RECORD.validate(record)
    return found


# --- exit codes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fail_on", "codes"),
    [
        ("never", (0, 0, 0, 0)),
        ("violation", (0, 0, 0, 1)),
        ("needs_proof", (0, 0, 1, 1)),
        ("suspect", (0, 1, 1, 1)),
    ],
)
def test_cli_exit_code_follows_fail_on(
    check: Run, tmp_path: Path, fail_on: str, codes: tuple[int, ...]
) -> None:
    texts = (LAWFUL, SUSPECT, NEEDS_PROOF, VIOLATION)
    for text, code in zip(texts, codes, strict=True):
        path = script(tmp_path, text)
        assert check(path, "--fail-on", fail_on, "--format", "jsonl").code == code, text


def test_cli_exit_code_is_1_for_a_violation_unless_told_otherwise(
    check: Run, tmp_path: Path
) -> None:
    assert check(script(tmp_path, VIOLATION)).code == 1
    assert check(script(tmp_path, NEEDS_PROOF, SUSPECT)).code == 0
    assert check(script(tmp_path, LAWFUL)).code == 0


def test_cli_exit_code_counts_every_input_in_every_format(check: Run, tmp_path: Path) -> None:
    good, bad = script(tmp_path, LAWFUL), script(tmp_path, VIOLATION, name="bad.txt")
    for form in ("table", "jsonl", "json"):
        assert check(bad, good, "--format", form).code == 1
        assert check(good, good, "--format", form).code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["check"],
        ["check", "a.txt", "--format", "xml"],
        ["check", "a.txt", "--fail-on", "maybe"],
        ["check", "a.txt", "--min-confidence", "1.5"],
        ["check", "a.txt", "--min-confidence", "nan"],
        ["check", "a.txt", "--nonsense"],
        ["check", "-a.txt"],
        ["nonsense"],
    ],
)
def test_cli_wrong_call_is_exit_2_on_stderr(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert "Usage: moderator" in result.err


# --- what is on stdout --------------------------------------------------------------


def test_cli_jsonl_is_one_valid_record_a_line(check: Run, tmp_path: Path) -> None:
    result = check(script(tmp_path, LAWFUL, VIOLATION, NEEDS_PROOF), "--format", "jsonl")
    first, second = records(result)
    assert first["quote"] == "国家级"
    assert first["law"][0]["article"] == "第九条（三）"
    assert first["place"] == {"line": 2, "column": 3, "end_line": 2, "end_column": 6}
    assert second["disposition"] == "needs_proof"
    assert result.err == ""


def parse_table(text: str) -> int:
    rows = [line for line in text.splitlines() if line.strip()]
    assert "talk.srt" in rows[-1]
    return text.count("国家级") and 2 if "销量领先" in text else 0


def parse_srt(text: str) -> int:
    cues = re.findall(
        r"^\d+\n\d\d:\d\d:\d\d,\d{3} --> \d\d:\d\d:\d\d,\d{3}\n.+", text, re.MULTILINE
    )
    return len(cues)


def parse_html(text: str) -> int:
    assert text.lstrip().lower().startswith("<!doctype html>")
    assert text.rstrip().endswith("</html>")
    return sum(quote in text for quote in ("国家级", "销量领先"))


def parse_csv(text: str) -> int:
    return len(list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))))


def parse_sarif(text: str) -> int:
    body = json.loads(text)
    assert body["version"] == "2.1.0"
    return len(body["runs"][0]["results"])


PARSERS: dict[str, Callable[[str], int]] = {
    "table": parse_table,
    "jsonl": lambda text: len([json.loads(line) for line in text.splitlines()]),
    "json": lambda text: len(json.loads(text)["violations"]),
    "html": parse_html,
    "srt": parse_srt,
    "csv": parse_csv,
    "sarif": parse_sarif,
}


@pytest.mark.parametrize("form", PARSERS)
def test_cli_stdout_holds_the_result_alone(check: Run, tmp_path: Path, form: str) -> None:
    path = tmp_path / "talk.srt"
    path.write_text(SUBTITLES, encoding="utf-8")
    result = check(path, "--format", form)
    assert PARSERS[form](result.out) == 2
    assert result.code == 1
    assert result.err == ""


def test_cli_offers_every_format_that_is_tested_here() -> None:
    assert {str(form) for form in cli.Format} == set(PARSERS)


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_cli_result_for_programs_is_utf8_whatever_the_terminal_speaks(
    tmp_path: Path, form: str
) -> None:
    path = script(tmp_path, VIOLATION + "😀")
    pack = write_pack(tmp_path / "pack")
    env = environment(PYTHONIOENCODING="gbk")
    result = moderator("check", "--rules", pack, path, "--format", form, env=env)
    assert "国家级" in result.out
    assert "😀" in result.out
    assert result.err == ""


def test_cli_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    path = script(tmp_path, *[VIOLATION] * 3000)
    pack = write_pack(tmp_path / "pack")
    command = [sys.executable, "-m", "moderator", "check", "--rules", pack, path]
    with subprocess.Popen(
        [*map(str, command), "--format", "jsonl"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        RECORD.validate(json.loads(process.stdout.readline()))
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) in (0, 1)


# --- inputs that are wrong ----------------------------------------------------------


def make_missing(path: Path) -> None:
    pass


def make_directory(path: Path) -> None:
    path.mkdir()


def make_empty(path: Path) -> None:
    path.touch()


def make_nul(path: Path) -> None:
    path.write_bytes(b"abc\0def")


def make_binary(path: Path) -> None:
    path.write_bytes(b"\xff\xd8\xff\xe1JFIF\x81\x82" * 100)


def make_huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(50 << 20)


BAD_INPUTS = [
    ("gone.txt", make_missing, "LM-101"),
    ("gone.mp4", make_missing, "LM-101"),
    ("gone.jsonl", make_missing, "LM-101"),
    ("folder.txt", make_directory, "LM-102"),
    ("folder.mp4", make_directory, "LM-102"),
    ("folder", make_directory, "LM-102"),
    ("empty.txt", make_empty, "LM-103"),
    ("empty.mp4", make_empty, "LM-103"),
    ("empty.jsonl", make_empty, "LM-103"),
    ("binary.txt", make_binary, "LM-601"),
    ("nul.txt", make_nul, "LM-602"),
    ("huge.txt", make_huge, "LM-603"),
    ("broken.docx", make_binary, "LM-605"),
]


@pytest.mark.parametrize(("name", "make", "code"), BAD_INPUTS, ids=[bad[0] for bad in BAD_INPUTS])
def test_cli_bad_input_is_exit_2_with_its_code_and_name(
    check: Run, tmp_path: Path, name: str, make: Callable[[Path], None], code: str
) -> None:
    make(tmp_path / name)
    out = None if name.endswith("jsonl") else tmp_path / "out"
    result = check(tmp_path / name, "--format", "jsonl", *(["--out", out] if out else []))
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith(f"{code} ")
    assert name in result.err
    assert "Traceback" not in result.err
    assert {entry.name for entry in tmp_path.iterdir()} <= {name, "small pack"}


def test_cli_file_without_permission_is_exit_2(
    check: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = script(tmp_path, VIOLATION)
    as_usual = Path.open

    def refuse(self: Path, *arguments: Any, **named: Any) -> Any:
        if self == path:
            raise PermissionError(13, "Permission denied")
        return as_usual(self, *arguments, **named)

    monkeypatch.setattr(Path, "open", refuse)
    result = check(path)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("LM-104 ")
    assert "Permission denied" in result.err


def test_cli_error_speaks_chinese_to_who_reads_chinese(
    check: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODERATOR_LANG", "zh")
    result = check("没有.txt")
    assert result.err.startswith("LM-101 没有.txt：找不到这个文件")


@pytest.mark.parametrize(
    "name",
    [
        "with space.txt",
        "引号\"' `$(touch x)`;&|.txt",
        "new\nline.txt",
        "中文 【5月】.txt",
        "%03d.txt",
    ],
    ids=ascii,
)
def test_cli_any_file_name(check: Run, tmp_path: Path, name: str) -> None:
    path = script(tmp_path, VIOLATION, name=name)
    (record,) = records(check(path, "--format", "jsonl"))
    assert record["source"] == str(path)
    result = check(path, "--format", "json", "--out", tmp_path / "out")
    assert json.loads(result.out)["source"] == str(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "out", "small pack"])


@pytest.mark.parametrize("name", ["-i.txt", "--help.txt"])
def test_cli_file_name_with_a_leading_dash(
    check: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    script(tmp_path, VIOLATION, name=name)
    monkeypatch.chdir(tmp_path)
    for spelling in ([f"./{name}"], ["--", name]):
        (record,) = records(check("--format", "jsonl", *spelling))
        assert record["quote"] == "国家级"


def test_cli_file_name_that_is_not_utf8(check: Run, tmp_path: Path) -> None:
    path = script(tmp_path, VIOLATION, name=os.fsdecode(b"\xff\xfe.txt"))
    for form in PARSERS.keys() - {"srt"}:
        result = check(path, "--format", form)
        assert result.code == 1, form
        assert result.err == ""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk", "gb18030", "utf-16", "utf-32"])
def test_cli_reads_scripts_in_the_encodings_people_save(
    check: Run, tmp_path: Path, encoding: str
) -> None:
    path = tmp_path / "talk.txt"
    path.write_bytes(f"{LAWFUL}\r\n家人们{VIOLATION}\r\n".encode(encoding))
    (record,) = records(check(path, "--format", "jsonl"))
    assert record["quote"] == "国家级"
    assert record["place"] == {"line": 2, "column": 6, "end_line": 2, "end_column": 9}


def test_cli_one_line_of_5_mb_ends_in_bounded_time(tmp_path: Path) -> None:
    path = script(tmp_path, f"{LAWFUL}，喜欢的朋友可以看看，" * 100_000 + f"。{VIOLATION}")
    assert path.stat().st_size > 5 << 20
    (record,) = records(moderator("check", path, "--format", "jsonl", limit_s=120))
    assert record["place"]["line"] == 1
    assert record["quote"] == "国家级"


def test_cli_private_address_is_refused(check: Run) -> None:
    for url in (
        "http://127.0.0.1/live.m3u8",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
    ):
        result = check(url)
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith("LM-111 ")


# --- rules --------------------------------------------------------------------------

CATASTROPHIC = r"(?:(?:最|最最)+)+$x"

BAD_RULES = [
    ("an unknown field", {"severty": "high"}, "LM-204", "severty"),
    ("a bad regex", {"match": [{"regex": "(最好"}]}, "LM-205", "missing )"),
    ("a catastrophic regex", {"match": [{"regex": CATASTROPHIC}]}, "LM-210", "ms"),
    ("no such article", {"law": ["cn.ad_law.99"]}, "LM-207", "cn.ad_law.99"),
    ("no such lexicon", {"match": [{"lexicon": "nothing"}]}, "LM-211", "nothing"),
]


@pytest.mark.parametrize(
    ("changes", "code", "named"), [bad[1:] for bad in BAD_RULES], ids=[bad[0] for bad in BAD_RULES]
)
def test_cli_rules_lint_names_the_place_of_a_fault(
    run: Run, tmp_path: Path, changes: dict[str, Any], code: str, named: str
) -> None:
    pack = write_pack(tmp_path / "pack", [rule(**changes)])
    result = run("rules", "lint", "--rules", pack)
    assert result.code == 2
    assert re.match(rf"{code} \S*rule0\.yaml:\d+: ", result.err), result.err
    assert named in result.err
    assert "no faults" not in result.err


def test_cli_rules_lint_names_both_files_of_a_duplicate_id(run: Run, tmp_path: Path) -> None:
    result = run("rules", "lint", "--rules", write_pack(tmp_path / "pack", [rule(), rule()]))
    assert result.code == 2
    assert re.match(r"LM-206 \S*rule1\.yaml:\d+: .*rule0\.yaml", result.err)


def test_cli_check_refuses_a_faulty_pack_before_any_input(run: Run, tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "pack", [rule(severty="high")])
    result = run("check", "--rules", pack, script(tmp_path, VIOLATION))
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("LM-204 ")


def test_cli_check_gives_a_catastrophic_regex_up_and_goes_on(run: Run, tmp_path: Path) -> None:
    slow = rule(id="cn.absolute.slow", match=[{"regex": CATASTROPHIC}])
    pack = write_pack(tmp_path / "pack", [*small_rules(), slow])
    path = script(tmp_path, "最" * 500 + "yx", VIOLATION)
    result = run("check", "--rules", pack, path, "--format", "jsonl")
    assert [record["quote"] for record in records(result)] == ["国家级"]


def test_cli_rules_folder_without_rules_is_exit_2(run: Run, tmp_path: Path) -> None:
    text = script(tmp_path, LAWFUL)
    for command in (["rules", "lint"], ["rules", "test"], ["rules", "list"], ["check", text]):
        result = run(*command, "--rules", tmp_path / "nothing")
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith("LM-209 ")
    assert run("rules", "list", "--jurisdiction", "atlantis").code == 2


def test_cli_rules_lint_passes_a_good_pack(run: Run, tmp_path: Path) -> None:
    result = run("rules", "lint", "--rules", write_pack(tmp_path / "pack"))
    assert (result.code, result.out) == (0, "")
    assert "3 rules" in result.err


def test_cli_rules_test_reports_each_failing_test_with_its_place(run: Run, tmp_path: Path) -> None:
    tests = {"violation": ["没有这些词", VIOLATION], "compliant": ["这是最好的"]}
    pack = write_pack(tmp_path / "pack", [rule(tests=tests)])
    result = run("rules", "test", "--rules", pack)
    assert result.code == 1
    assert result.out == "1 passed, 2 failed\n"
    missed, accused = result.err.splitlines()
    assert re.match(r"LM-208 \S*rule0\.yaml:\d+: cn\.absolute\.state_level: .*没有这些词", missed)
    assert "这是最好的" in accused


def test_cli_rules_test_passes_and_can_be_narrowed(run: Run, tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "pack")
    assert run("rules", "test", "--rules", pack) == Result(0, "6 passed, 0 failed\n", "")
    narrowed = run("rules", "test", "--rules", pack, "--only", "cn.absolute.")
    assert narrowed.out == "4 passed, 0 failed\n"


def test_cli_rules_test_explains_a_sentence(run: Run, tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "pack")
    result = run("rules", "test", "--rules", pack, "--explain", f"{VIOLATION}，不是最好")
    assert result.code == 0
    rows = [line for line in result.out.splitlines() if "cn.absolute.state_level" in line]
    verdicts = {"国家级" if "国家级" in row else "最好": "violation high" in row for row in rows}
    assert verdicts == {"国家级": True, "最好": False}


def test_cli_rules_list_shows_whole_ids_to_a_pipe(run: Run) -> None:
    result = run("rules", "list")
    listed = {
        found for line in result.out.splitlines() for found in re.findall(r"cn\.\w+\.\w+", line)
    }
    assert result.code == 0
    assert {"cn.absolute.state_level", "cn.absolute.best"} <= listed
    assert {found for found in CATEGORIES if found in result.out} == set(CATEGORIES)
    assert f"{len(listed)} rules" in result.err


def test_cli_rules_list_shows_the_articles(run: Run, tmp_path: Path) -> None:
    result = run("rules", "list", "--law", "--rules", write_pack(tmp_path / "pack"))
    assert "cn.ad_law.9 " in result.out
    assert "中华人民共和国广告法" in result.out


def test_cli_rules_show_prints_the_rule_and_its_article(run: Run, tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "pack")
    result = run("rules", "show", "cn.absolute.state_level", "--rules", pack)
    assert result.out.startswith((pack / "cn" / "rule0.yaml").read_text("utf-8"))
    assert "《中华人民共和国广告法》第九条（三） (2015-09-01)" in result.out
    assert "广告不得有下列情形" in result.out


def test_cli_rules_show_suggests_a_rule(run: Run, tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "pack")
    result = run("rules", "show", "cn.absolute.state_levl", "--rules", pack)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("LM-212 ")
    assert "did you mean 'cn.absolute.state_level'?" in result.err


# --- passports, rooms, settings -----------------------------------------------------


def test_cli_passport_with_a_wrong_type_names_the_field(check: Run, tmp_path: Path) -> None:
    passports = write_yaml(
        tmp_path / "passports.yaml", [{"id": "a"}, {"id": "b", "price": {"live": "cheap"}}]
    )
    result = check(script(tmp_path, VIOLATION), "--passports", passports)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"LM-301 {passports}[1]: price.live: ")


def test_cli_room_with_an_unknown_field_names_it(check: Run, tmp_path: Path) -> None:
    room = write_yaml(tmp_path / "room.yaml", {"id": "r1", "plattform": "douyin"})
    result = check(script(tmp_path, VIOLATION), "--room", room)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"LM-302 {room}: plattform: ")


def test_cli_settings_with_an_unknown_key_name_it(check: Run, tmp_path: Path) -> None:
    config = write_yaml(tmp_path / "settings.yaml", {"asr_beams": 5})
    result = check(script(tmp_path, VIOLATION), "--config", config)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"LM-303 {config}: asr_beams: ")


@pytest.mark.parametrize("option", ["--passports", "--room", "--config"])
def test_cli_missing_option_file_is_exit_2(check: Run, tmp_path: Path, option: str) -> None:
    result = check(script(tmp_path, VIOLATION), option, tmp_path / "gone.yaml")
    assert result.code == 2
    assert result.err.startswith("LM-101 ")


def test_cli_passport_makes_a_claim_lawful(check: Run, tmp_path: Path) -> None:
    path = script(tmp_path, NEEDS_PROOF)
    proof = {"kind": "sales_report", "source": "某机构 2025 年报告"}
    passports = write_yaml(
        tmp_path / "p.yaml", [{"id": "cream", "name": "面霜", "proofs": [proof]}]
    )
    assert len(records(check(path, "--format", "jsonl"))) == 1
    assert records(check(path, "--format", "jsonl", "--passports", passports)) == []


def test_cli_room_is_in_the_record_and_chooses_the_passports(check: Run, tmp_path: Path) -> None:
    proof = {"kind": "sales_report"}
    passports = write_yaml(
        tmp_path / "p.yaml", [{"id": "with", "proofs": [proof]}, {"id": "without", "name": "别的"}]
    )
    path = script(tmp_path, NEEDS_PROOF)
    found = {}
    for product in ("with", "without"):
        room = write_yaml(tmp_path / f"{product}.yaml", {"id": "r-7", "products": [product]})
        found[product] = records(
            check(path, "--format", "jsonl", "--passports", passports, "--room", room)
        )
    assert found["with"] == []
    assert [record["room"] for record in found["without"]] == ["r-7"]


def test_cli_min_confidence_leaves_out_what_is_less_sure(check: Run, tmp_path: Path) -> None:
    path = script(tmp_path, VIOLATION)
    (record,) = records(check(path, "--format", "jsonl"))
    sure = record["confidence"]
    assert 0 < sure < 1
    same = check(path, "--format", "jsonl", "--min-confidence", str(sure))
    assert (same.code, len(records(same))) == (1, 1)
    assert check(path, "--format", "jsonl", "--min-confidence", str(sure + 0.001)) == Result(
        0, "", ""
    )


def test_cli_lang_is_the_language_of_the_explanations(check: Run, tmp_path: Path) -> None:
    path = script(tmp_path, VIOLATION)
    (zh,) = records(check(path, "--format", "jsonl", "--lang", "zh"))
    (en,) = records(check(path, "--format", "jsonl", "--lang", "en"))
    assert (zh["suggestion"], en["suggestion"]) == ("换成具体事实", "State a fact")
    assert "绝对化用语" in zh["explanation"]
    assert "is a superlative" in en["explanation"]
    assert zh["quote"] == en["quote"]


# --- batches, standard input, several inputs ----------------------------------------


def write_batch(path: Path, *items: Any) -> Path:
    lines = (item if isinstance(item, str) else json.dumps(item) for item in items)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_cli_batch_gives_the_id_as_source(check: Run, tmp_path: Path) -> None:
    batch = write_batch(
        tmp_path / "batch.jsonl",
        {"id": "a-1", "text": VIOLATION},
        {"id": "a-2", "text": LAWFUL},
        {"id": 3, "text": f"{LAWFUL}\n{SUSPECT}"},
    )
    result = check(batch, "--format", "jsonl")
    assert [(r["source"], r["quote"]) for r in records(result)] == [
        ("a-1", "国家级"),
        ("3", "顶呱呱"),
    ]
    assert records(result)[1]["place"]["line"] == 2
    assert result.code == 1


def test_cli_batch_belongs_to_the_room(check: Run, tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "batch.jsonl", {"id": "a", "text": VIOLATION})
    room = write_yaml(tmp_path / "room.yaml", {"id": "r-7"})
    (record,) = records(check(batch, "--format", "jsonl", "--room", room))
    assert record["room"] == "r-7"


def test_cli_batch_line_brings_its_own_product(check: Run, tmp_path: Path) -> None:
    proven = {"category": "cosmetic", "proofs": [{"kind": "sales_report"}]}
    batch = write_batch(
        tmp_path / "batch.jsonl",
        {"id": "proven", "text": NEEDS_PROOF, "product": proven},
        {"id": "bare", "text": NEEDS_PROOF},
        {"id": "other", "text": NEEDS_PROOF, "product": {"category": "cosmetic"}},
    )
    found = records(check(batch, "--format", "jsonl"))
    assert [record["source"] for record in found] == ["bare", "other"]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ("not json", "LM-604"),
        ('["a", "b"]', "LM-604"),
        ({"id": "x"}, "LM-604"),
        ({"text": VIOLATION}, "LM-604"),
        ({"id": "x", "text": VIOLATION, "product": {"category": "spaceship"}}, "LM-301"),
        ({"id": "x", "text": VIOLATION, "product": {"price": 3}}, "LM-301"),
    ],
    ids=ascii,
)
def test_cli_batch_names_the_bad_line(check: Run, tmp_path: Path, bad: Any, code: str) -> None:
    batch = write_batch(tmp_path / "batch.jsonl", {"id": "ok", "text": LAWFUL}, "", bad)
    result = check(batch, "--format", "json")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"{code} {batch}:3: ")


def test_cli_batch_has_no_folder(check: Run, tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "batch.jsonl", {"id": "a", "text": LAWFUL})
    result = check(batch, "--out", tmp_path / "out")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("LM-504 ")
    assert not (tmp_path / "out").exists()


def test_cli_reads_standard_input(tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "pack")
    text = f"{LAWFUL}\n{VIOLATION}\n".encode("gbk")
    result = moderator("check", "-", "--rules", pack, "--format", "jsonl", stdin=text)
    (record,) = records(result)
    assert (record["source"], record["place"]["line"]) == ("stdin", 2)
    assert result.code == 1
    assert result.err == ""


def test_cli_empty_standard_input_is_exit_2(tmp_path: Path) -> None:
    result = moderator("check", "-", "--rules", write_pack(tmp_path / "pack"))
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("LM-103 ")


def test_cli_several_inputs_make_one_result(check: Run, tmp_path: Path) -> None:
    one, two = script(tmp_path, VIOLATION), script(tmp_path, SUSPECT, name="two.md")
    found = records(check(one, two, "--format", "jsonl"))
    assert [record["source"] for record in found] == [str(one), str(two)]
    bodies = json.loads(check(one, two, "--format", "json").out)
    assert [body["summary"]["total"] for body in bodies] == [1, 1]
    assert check(one, two, "--format", "srt").err.startswith("LM-504 ")


def test_cli_sarif_is_refused_for_media_before_it_is_opened(check: Run, tmp_path: Path) -> None:
    result = check(tmp_path / "gone.mp4", "--format", "sarif")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("LM-504 ")


# --- the folder ---------------------------------------------------------------------


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


SCRIPT_FOLDER = {"manifest.json", "report.html", "script.jsonl", "violations.jsonl"}


def test_cli_folder_of_a_script(check: Run, tmp_path: Path) -> None:
    out = tmp_path / "result"
    result = check(script(tmp_path, VIOLATION), "--out", out, "--format", "jsonl")
    assert names(out) == SCRIPT_FOLDER
    assert (out / "violations.jsonl").read_text("utf-8") == result.out


def test_cli_folder_of_several_inputs_has_one_for_each_even_of_one_name(
    check: Run, tmp_path: Path
) -> None:
    (tmp_path / "monday").mkdir()
    (tmp_path / "tuesday").mkdir()
    inputs = [script(tmp_path / day, VIOLATION) for day in ("monday", "tuesday")]
    out = tmp_path / "result"
    for _ in range(2):
        assert check(*inputs, "--out", out).code == 1
        assert {entry.name for entry in out.iterdir()} == {"talk", "talk-2"}
    sources = [
        json.loads((out / folder / "manifest.json").read_text("utf-8"))["source"]
        for folder in ("talk", "talk-2")
    ]
    assert sources == [str(path) for path in inputs]


def test_cli_folder_of_somebody_else_is_left_alone(check: Run, tmp_path: Path) -> None:
    out = tmp_path / "photos"
    out.mkdir()
    (out / "child.jpg").write_bytes(b"x")
    result = check(script(tmp_path, VIOLATION), "--out", out)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("LM-501 ")
    assert names(out) == {"child.jpg"}


def test_cli_full_disk_leaves_nothing_and_prints_nothing(tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "pack")
    path = script(tmp_path, VIOLATION)

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))

    result = moderator(
        "check", path, "--rules", pack, "--format", "jsonl", "--out", tmp_path / "new" / "out",
        before=little_room, env=environment(PYTHONDONTWRITEBYTECODE="1"),
    )  # fmt: skip
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("LM-502 ")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["pack", "talk.txt"]


def test_cli_interrupt_is_130_and_says_so(
    check: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("moderator.pipeline.check", interrupted)
    result = check(script(tmp_path, VIOLATION), "--format", "json", "--out", tmp_path / "out")
    assert (result.code, result.out) == (130, "")
    assert result.err.startswith("LM-701 ")
    assert not (tmp_path / "out").exists()


def test_cli_interrupt_that_a_library_turns_into_another_error_is_still_130(
    tmp_path: Path,
) -> None:
    program = """
import os, signal, sys
from moderator import cli, pipeline
from moderator.errors import ENGINE_MISSING, ModeratorError

def importing(*_, **__):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        raise ModeratorError(ENGINE_MISSING, name="x", package="x", install="x") from None

pipeline.check = importing
sys.argv = ["moderator", "check", "a.mp4", "--format", "jsonl"]
cli.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 130, done.stderr.decode()
    assert done.stderr.decode().startswith("LM-701 ")


# --- the other commands -------------------------------------------------------------


def test_cli_version(run: Run) -> None:
    result = run("--version")
    assert result.code == 0
    assert re.fullmatch(r"\d+(\.\d+)+\S*\n|0\+source\n", result.out)


def test_cli_without_a_command_shows_help(run: Run) -> None:
    result = run()
    assert "check" in result.out + result.err
    assert "doctor" in result.out + result.err


def test_cli_models_list_names_every_model_with_its_licence(run: Run) -> None:
    result = run("models", "list")
    assert result.code == 0
    rows = [line for line in result.out.splitlines() if "whisper-base" in line]
    assert len(rows) == 1
    assert "MIT" in rows[0]
    assert "asr" in rows[0]


def test_cli_models_verify_unknown_name_is_exit_2(run: Run) -> None:
    result = run("models", "verify", "no-such-model")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("LM-407 ")


@pytest.mark.slow
def test_cli_models_verify_reads_the_weights(run: Run) -> None:
    result = run("models", "verify", "silero-vad-v6")
    assert result == Result(0, "silero-vad-v6: intact\n", "")


def test_cli_doctor_shows_what_is_there(run: Run) -> None:
    result = run("doctor")
    assert result.code in (0, 1)
    for what in ("python", "ffmpeg", "rapidocr", "speech runs on", "model whisper-base", "rules"):
        assert what in result.out
    assert result.err == ""


def test_cli_shipped_rules_find_what_the_sample_script_plants(run: Run) -> None:
    path = REPOSITORY / "samples" / "scripts" / "jade_midnight.txt"
    result = run("check", path, "--format", "jsonl")
    assert result.code == 1
    assert {"包赚不赔"} <= {record["quote"] for record in records(result)}
