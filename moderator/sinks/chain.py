"""Proving a chain: nothing changed, nothing missing, nothing put in between."""

from __future__ import annotations

from collections.abc import Container, Iterator, Set
from dataclasses import dataclass, field

from moderator.errors import in_ui_language
from moderator.sinks.envelope import CUSTODY, GENESIS, Envelope


@dataclass(frozen=True, slots=True)
class Break:
    """A place where a proof fails. `place` names it; `session` and `seq` where they are known."""

    place: str
    what: str
    session: str = ""
    seq: int | None = None

    def text(self) -> str:
        return f"{self.place}: {self.what}"


@dataclass(slots=True)
class _State:
    seq: int = 0
    head: str = GENESIS
    keys: set[str] = field(default_factory=set)
    broken: bool = False


class ChainCheck:
    """Fed with envelopes in order, it finds the first break of each session.

    Sessions may be interleaved. With `partial`, envelopes may be missing (a copy that holds some
    types only): each is proved by itself, and the links where both ends are there.
    """

    def __init__(
        self, *, partial: bool = False, wanted: Container[tuple[str, int]] = frozenset()
    ) -> None:
        self.partial = partial
        self._wanted = wanted
        self.envelopes = 0
        self.hashes: dict[tuple[str, int], str] = {}
        """Session and number → hash, of those in `wanted`."""
        self.removed_files: dict[str, str] = {}
        """Path → SHA-256 of what retention says it removed."""
        self._sessions: dict[str, _State] = {}
        self._pruned: list[Envelope] = []
        self._explained: dict[str, list[tuple[int, int]]] = {}

    def feed(self, envelope: Envelope) -> Break | None:
        """The break that this envelope shows, if it is its session's first."""
        self.envelopes += 1
        if (envelope.session, envelope.seq) in self._wanted:
            self.hashes[envelope.session, envelope.seq] = envelope.hash
        state = self._sessions.setdefault(envelope.session, _State())
        if state.broken:
            return None
        what = self._fault(envelope, state)
        if what:
            state.broken = True
            return _break(envelope, what)
        state.seq, state.head = envelope.seq + 1, envelope.hash
        state.keys.add(envelope.key)
        if envelope.pruned:
            self._pruned.append(envelope)
        if envelope.session == CUSTODY and envelope.type == "retention.removed":
            self._note_removal(envelope)
        return None

    def finish(self) -> Iterator[Break]:
        """Breaks that show only at the end: bodies that are gone without a word of retention."""
        told: set[str] = set()
        for envelope in self._pruned:
            if self.partial or envelope.session in told or self._is_explained(envelope):
                continue
            told.add(envelope.session)
            yield _break(
                envelope,
                in_ui_language(
                    "its content is gone and no retention record says so",
                    "内容缺失，且没有对应的到期清理记录",
                ),
            )

    @property
    def pruned(self) -> int:
        """How many envelopes have lost their bodies to retention."""
        return len(self._pruned)

    @property
    def heads(self) -> dict[str, tuple[int, str]]:
        """Session → how many envelopes, and the hash of the last."""
        return {name: (state.seq, state.head) for name, state in self._sessions.items()}

    @property
    def broken(self) -> Set[str]:
        return {name for name, state in self._sessions.items() if state.broken}

    def _fault(self, envelope: Envelope, state: _State) -> str:
        if envelope.seq < state.seq:
            return in_ui_language(
                f"number {envelope.seq} stands twice or out of order",
                f"序号 {envelope.seq} 重复或次序颠倒",
            )
        missing = envelope.seq > state.seq
        if missing and not self.partial:
            return in_ui_language(
                f"number {state.seq} is missing before it", f"此前缺少序号 {state.seq}"
            )
        # A body that retention removed cannot be hashed; its hash is still a link of the chain.
        if not envelope.pruned and envelope.hash != envelope.expected_hash():
            return in_ui_language("its content was changed after it was sealed", "封存后内容被改动")
        if not missing and envelope.prev != state.head:
            return in_ui_language("it does not continue the envelope before it", "与前一条不衔接")
        if envelope.key in state.keys:
            return in_ui_language(
                f"its key '{envelope.key}' is used twice", f"键 '{envelope.key}' 重复"
            )
        return ""

    def _note_removal(self, envelope: Envelope) -> None:
        body = envelope.body or {}
        ranges = [(int(first), int(last)) for first, last in body.get("seqs", [])]
        self._explained.setdefault(str(body.get("session")), []).extend(ranges)
        self.removed_files.update(body.get("files", {}))

    def _is_explained(self, envelope: Envelope) -> bool:
        ranges = self._explained.get(envelope.session, ())
        return any(first <= envelope.seq <= last for first, last in ranges)


def _break(envelope: Envelope, what: str) -> Break:
    where = f"{envelope.room} " if envelope.room else ""
    place = f"{where}{envelope.session} #{envelope.seq} {envelope.type} {envelope.id}"
    return Break(place, what, envelope.session, envelope.seq)
