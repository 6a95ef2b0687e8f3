from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from moderator.errors import ModeratorError
from moderator.sinks.envelope import GENESIS
from moderator.sinks.journal import Entry, Journal
from tests.command import REPOSITORY, environment
from tests.sinks.builders import tell, until, violation


@pytest.fixture
def journal(tmp_path: Path):
    with Journal.open(tmp_path / "journal.sqlite3", patience_s=0.5) as opened:
        yield opened


def test_journal_numbers_and_chains_each_session_by_itself(journal: Journal) -> None:
    said = [journal.append(s, "r", "observation", {"n": n}) for n in range(3) for s in ("a", "b")]
    for session in ("a", "b"):
        mine = [envelope for envelope in said if envelope.session == session]
        assert [envelope.seq for envelope in mine] == [0, 1, 2]
        assert [e.prev for e in mine] == [GENESIS, mine[0].hash, mine[1].hash]
    assert [envelope for _, envelope in journal.after(0, 100)] == said


def test_journal_the_same_key_is_never_told_under_two_ids(journal: Journal) -> None:
    first = journal.append("s", "r", "violation", {"n": 1}, key="k")
    assert journal.append("s", "r", "violation", {"n": 2}, key="k") == first
    assert journal.append("other", "r", "violation", {"n": 1}, key="k").id != first.id
    twice = journal.append_many("s", "r", [Entry("alert", {}, "x"), Entry("alert", {}, "x")])
    assert twice[0] == twice[1]
    assert journal.sessions()[0].next_seq == 2


def test_journal_many_threads_share_commits_and_keep_their_order(journal: Journal) -> None:
    def say(session: str) -> None:
        for n in range(40):
            journal.append(session, "r", "observation", {"n": n})

    threads = [threading.Thread(target=say, args=(f"s{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert journal.last() == 320
    for info in journal.sessions():
        assert [e.body for e in journal.session(info.session)] == [{"n": n} for n in range(40)]


def test_journal_is_all_there_after_opening_it_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    with Journal.open(path) as journal:
        said = tell(journal, violation(), "k")
        journal.checkpoint("s1", 4.25)
        journal.checkpoint("s1", 3.0)
        journal.move_cursor("webhook", 1, delivered=1)
    with Journal.open(path) as journal:
        assert list(journal.session("s1")) == [said]
        assert journal.resume_point("s1") == 4.25
        assert journal.resume_point("unknown") is None
        assert journal.cursors() == {"webhook": (1, 1, 0)}
        (info,) = journal.sessions("room")
        assert (info.head, info.ended, info.room) == (said.hash, False, "room")
        journal.append("s1", "room", "session.ended", {})
        assert journal.sessions()[0].ended


def test_journal_checkpoint_and_what_it_covers_are_one(journal: Journal) -> None:
    with pytest.raises(ValueError, match="checkpoint"):
        journal.append("s", "r", "observation", {}, checkpoint_s=float("nan"))
    assert journal.last() == 0
    journal.append("s", "r", "observation", {}, checkpoint_s=7.5)
    assert journal.resume_point("s") == 7.5


def test_journal_one_bad_body_fails_its_caller_alone(journal: Journal) -> None:
    with pytest.raises(TypeError):
        journal.append("s", "r", "observation", {"x": object()})
    assert journal.append("s", "r", "observation", {}).seq == 0


def test_journal_after_leaves_out_other_types_and_keeps_places(journal: Journal) -> None:
    for n in range(6):
        journal.append("s", "r", "violation" if n % 2 else "observation", {"n": n})
    found = journal.after(2, 2, types={"violation"})
    assert [(n, e.body) for n, e in found] == [(4, {"n": 3}), (6, {"n": 5})]


def test_journal_a_second_owner_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    with Journal.open(path, owner=True):
        with pytest.raises(ModeratorError, match="LM-802"):
            Journal.open(path, owner=True)
        with Journal.open(path) as visitor:
            assert visitor.append("s", "r", "alert", {}).seq == 0
    Journal.open(path, owner=True).close()


@pytest.mark.parametrize("content", [b"hello, I am a text", b"SQLite format 3\0" + b"\xff" * 4096])
def test_journal_a_foreign_file_is_refused_and_left_as_it_is(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "journal.sqlite3"
    path.write_bytes(content)
    with pytest.raises(ModeratorError, match="LM-801"):
        Journal.open(path, owner=True)
    assert path.read_bytes() == content


def test_journal_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE events (n)")
    with pytest.raises(ModeratorError, match="another program"):
        Journal.open(path)


def test_journal_waits_for_a_foreign_lock(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    with Journal.open(path, patience_s=30) as journal:
        journal.append("s", "r", "observation", {})
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        with closing(other):
            other.execute("BEGIN IMMEDIATE")
            said: list[int] = []
            writer = threading.Thread(
                target=lambda: said.append(journal.append("s", "r", "observation", {}).seq)
            )
            writer.start()
            assert until(lambda: journal.trouble is not None)
            assert said == []
            other.execute("ROLLBACK")
            writer.join()
        assert said == [1]
        assert journal.trouble is None


def test_journal_a_lock_that_stays_is_an_error_and_half_writes_nothing(journal: Journal) -> None:
    other = sqlite3.connect(journal.path, isolation_level=None)
    with closing(other):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ModeratorError, match=r"LM-803.*locked"):
            journal.append("s", "r", "observation", {}, key="k")
        assert journal.trouble
        other.execute("ROLLBACK")
    assert journal.append("s", "r", "observation", {}, key="k").seq == 0
    assert journal.trouble is None


FULL = """
import resource, signal, sys
from pathlib import Path
from moderator.errors import ModeratorError
from moderator.sinks.journal import Journal

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal.open(Path(sys.argv[1]), patience_s=0.3)
for n in range(20):
    journal.append("s", "r", "observation", {"n": n, "text": "x" * 2000}, key=f"k{n}")
size = max(p.stat().st_size for p in Path(sys.argv[1]).parent.iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10000, resource.RLIM_INFINITY))
said = 20
try:
    while True:
        journal.append("s", "r", "observation", {"n": said, "text": "x" * 2000}, key=f"k{said}")
        said += 1
except ModeratorError as error:
    print(">", error.code, journal.trouble)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for n in range(said, said + 5):
    journal.append("s", "r", "observation", {"n": n, "text": "x" * 2000}, key=f"k{n}")
print(">", said + 5, journal.trouble)
journal.close()
"""


def test_journal_full_disk_is_an_error_and_passes(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)],
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("> ")]
    assert told[0].startswith("> LM-803 ")
    assert told[0] != "> LM-803 None"
    _, count, trouble = told[1].split()
    assert trouble == "None"
    with Journal.open(path) as journal:
        numbers = [e.body["n"] for e in journal.session("s") if e.body]
    assert numbers == list(range(int(count)))


def test_journal_holds_no_descriptor_after_closing(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with Journal.open(tmp_path / "journal.sqlite3", owner=True) as journal:
            journal.append("s", "r", "observation", {})
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_journal_says_so_when_it_is_closed(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.sqlite3")
    journal.close()
    with pytest.raises(ModeratorError, match="LM-804"):
        journal.append("s", "r", "observation", {})
