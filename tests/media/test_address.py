from __future__ import annotations

import socket

import pytest

from moderator.errors import ModeratorError
from moderator.media.address import check_address, is_url, redact, redact_text

PUBLIC = "93.184.216.34"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A name service of our own: what is put in resolves, everything else goes to the real
    parser of numeric addresses and to nothing beyond."""
    table: dict[str, list[str]] = {"live.example.com": [PUBLIC]}
    numeric = socket.getaddrinfo

    def look_up(host: str, port: object, **options: object) -> list[object]:
        if host in table:
            return [(0, 0, 0, "", (address, port)) for address in table[host]]
        return numeric(host, port, flags=socket.AI_NUMERICHOST)  # type: ignore[return-value, arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return table


@pytest.mark.parametrize("scheme", ["http", "https", "rtmp", "rtmps", "srt", "rtsp", "HTTPS"])
def test_address_public_stream_is_allowed(scheme: str, names: dict[str, list[str]]) -> None:
    url = f"{scheme}://live.example.com/app/room.flv?txTime=1"
    assert check_address(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x.flv",
        "http://localhost./x.flv",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://0.0.0.0/",
        "http://[::1]:8080/x",
        "http://[::ffff:127.0.0.1]/x",
        "http://[64:ff9b::7f00:1]/x",
        "http://[2002:7f00:1::]/x",
        "http://[fe80::1]/x",
        "http://[fd00:ec2::254]/latest/meta-data",
        "rtmp://10.1.2.3/app/x",
        "rtsp://172.16.0.9/cam",
        "https://192.168.1.1/x.m3u8",
        "http://169.254.169.254/latest/meta-data/",
        "http://100.100.100.200/latest/meta-data/",
        "http://224.0.0.1/x",
        "http://user:secret@127.0.0.1/x",
        "http://live.example.com@127.0.0.1/x",
    ],
)
def test_address_private_is_refused_unless_allowed(url: str, names: dict[str, list[str]]) -> None:
    names["localhost"] = ["127.0.0.1"]
    with pytest.raises(ModeratorError, match="LM-111") as refused:
        check_address(url)
    assert "secret" not in str(refused.value)
    assert check_address(url, allow_private=True) == url


def test_address_one_private_answer_of_many_is_refused(names: dict[str, list[str]]) -> None:
    names["rebind.example.com"] = [PUBLIC, "10.0.0.1"]
    with pytest.raises(ModeratorError, match=r"LM-111.*10\.0\.0\.1"):
        check_address("http://rebind.example.com/x.flv")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://live.example.com/x",
        "udp://live.example.com:5000",
        "concat://live.example.com/x",
        "http:///x.flv",
        "http://live.example.com:99999/x",
        "rtmp://live.example.com/app conn=S:x",
        "http://live.example.com/\nHost: other",
        "http://live.example.com\\@127.0.0.1/x",
    ],
)
def test_address_other_schemes_and_tricks_are_refused_even_if_private_is_allowed(
    url: str, names: dict[str, list[str]]
) -> None:
    with pytest.raises(ModeratorError, match="LM-111"):
        check_address(url, allow_private=True)


def test_address_unknown_name_is_unreachable(names: dict[str, list[str]]) -> None:
    with pytest.raises(ModeratorError, match=r"LM-112.*nowhere\.invalid"):
        check_address("http://nowhere.invalid/x.flv")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://u:p@h.cn/a.flv", "http://***@h.cn/a.flv"),
        ("rtmp://h.cn/app/room1", "rtmp://h.cn/app/room1"),
        (
            "https://h.cn/a.m3u8?txSecret=abc&txTime=5F&uid=7#f",
            "https://h.cn/a.m3u8?txSecret=***&txTime=5F&uid=7",
        ),
        ("http://h.cn/a?auth_key=1-2-3", "http://h.cn/a?auth_key=***"),
        ("http://h.cn/a?x=0123456789abcdef01234567", "http://h.cn/a?x=***"),
        ("srt://h.cn:900?passphrase=tops", "srt://h.cn:900?passphrase=***"),
        ("http://u:p@[bad/a?token=1", "http://***@[bad/a"),
    ],
)
def test_address_redact_hides_credentials(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_address_redact_text_hides_credentials_inside_a_message() -> None:
    text = "[error] http://u:p@h.cn/a?sign=1 : Server returned 404"
    assert redact_text(text) == "[error] http://***@h.cn/a?sign=*** : Server returned 404"


@pytest.mark.parametrize(
    "name", ["room.mp4", "-i.mp4", "a:b.mp4", "concat:a|b", "C:\\x.mp4", "//x"]
)
def test_address_paths_are_not_urls(name: str) -> None:
    assert not is_url(name)
