"""Legal holds of the console, placed also in the journal of the session that a record is from.

A room that is watched has a journal of its own with its own retention, so a record that is held in
the console must be held there as well.
"""

from __future__ import annotations

from pathlib import Path

from moderator.errors import HOLD_UNKNOWN, ModeratorError
from moderator.holds import add_hold, list_holds, remove_hold
from moderator.sinks.journal import FILE_NAME, Journal

PATIENCE_S = 5.0
"""How long a reviewer waits for a journal that is being written to."""


def mirror(folder: str | None, violation_id: str, held: bool, reason: str, by: str) -> None:
    """Hold the record in the journal of `folder`, or lift the console's holds on it there.

    Nothing happens where there is no journal, or where it has no such record any more. Holds that
    others placed there stay. Raises LM-801 where it is no journal, LM-803 where it cannot be
    written.
    """
    if not folder or not (path := Path(folder) / FILE_NAME).is_file():
        return
    with Journal.open(path, patience_s=PATIENCE_S) as journal:
        ours = [
            hold.id
            for hold in list_holds(journal)
            if (hold.scope, hold.target) == ("violation", violation_id)
            and hold.placed_by.startswith(_BY)
        ]
        if held and not ours:
            try:
                add_hold(journal, "violation", violation_id, reason, _BY + by)
            except ModeratorError as error:
                if error.spec is not HOLD_UNKNOWN:
                    raise
        if not held:
            for hold in ours:
                remove_hold(journal, hold, reason, _BY + by)


_BY = "console: "
