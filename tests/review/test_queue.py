"""The queue: finding, claiming, deciding, undoing, and two people at once."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from moderator.records import Disposition, Severity
from moderator.review.models import Decision, User, ViolationRow, utcnow
from tests.review.world import Caller, World


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


def late(world: World, violation_id: str, **values: Any) -> None:
    with world.house.database.write() as db:
        db.execute(update(ViolationRow).where(ViolationRow.id == violation_id).values(**values))


# --- finding --------------------------------------------------------------------------


def test_queue_is_sorted_by_risk_and_paged_without_gaps_or_repeats(world: World) -> None:
    for severity in Severity:
        for _ in range(5):
            world.add(severity=severity)
    caller = world.caller("reviewer")
    seen: list[str] = []
    risks: list[float] = []
    cursor = ""
    while cursor is not None:
        page = caller.get(f"/violations?limit=7&cursor={cursor}").json()
        seen += [item["id"] for item in page["items"]]
        risks += [item["risk"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert len(seen) == len(set(seen)) == 20
    assert risks == sorted(risks, reverse=True)


@pytest.mark.parametrize("sort", ["risk", "newest", "oldest", "confidence"])
def test_queue_pages_do_not_repeat_rows_when_new_ones_arrive(world: World, sort: str) -> None:
    for _ in range(6):
        world.add()
    caller = world.caller("reviewer")
    first = caller.get(f"/violations?limit=3&sort={sort}").json()
    world.add()
    rest = caller.get(
        "/violations", params={"limit": 50, "sort": sort, "cursor": first["next_cursor"]}
    ).json()
    shown = {item["id"] for item in first["items"]}
    assert not shown & {item["id"] for item in rest["items"]}
    assert len(rest["items"]) >= 3


@pytest.mark.parametrize(
    "query",
    [
        "category=price_fraud",
        "severity=low",
        "disposition=suspect",
        "room=room_b",
        "host=阿乙",
        "merchant=乙商行",
        "rule=cn.price.x",
        "channel=screen",
        "max_confidence=0.5",
        "q=全网最低",
    ],
)
def test_queue_filters_show_what_fits_and_nothing_else(world: World, query: str) -> None:
    from moderator.records import RuleRef

    world.add()
    wanted = world.add(
        "全网最低价",
        "b",
        category="price_fraud",
        severity=Severity.LOW,
        disposition=Disposition.SUSPECT,
        rule=RuleRef("cn.price.x", 1, "价格"),
        channel="screen",
        confidence=0.4,
    )
    assert ids(world.caller("reviewer").get(f"/violations?{query}")) == [wanted]


def test_queue_filters_by_time_status_assignee_and_export(world: World) -> None:
    caller = world.caller("reviewer")
    old, new = world.add(), world.add()
    late(world, old, at=utcnow() - timedelta(days=9), exported_at=utcnow())
    day = (utcnow() - timedelta(days=1)).isoformat()
    assert ids(caller.get("/violations", params={"since": day})) == [new]
    assert ids(caller.get("/violations", params={"until": day})) == [old]
    assert ids(caller.get("/violations?exported=true")) == [old]
    caller.decide(new, "confirm")
    assert ids(caller.get("/violations?status=confirmed")) == [new]
    assert ids(caller.get("/violations?status=open&status=confirmed&sort=oldest")) == [old, new]
    caller.put(f"/violations/{old}/assignee", {"user_id": caller.id})
    assert ids(caller.get("/violations?assignee=me")) == [old]
    assert ids(caller.get("/violations?assignee=none")) == [new]
    assert ids(caller.get(f"/violations?assignee={world.caller('auditor').id}")) == []


def test_queue_counts_follow_the_filter_but_not_its_status(world: World) -> None:
    caller = world.caller("reviewer")
    for _ in range(3):
        world.add()
    caller.decide(world.add(), "confirm")
    world.add(room="b")
    counts = caller.get("/violations/counts?room=room_a&status=open").json()
    assert counts["counts"]["open"] == 3
    assert counts["counts"]["confirmed"] == 1
    assert counts["total"] == 4
    assert set(counts["counts"]) >= {"open", "second_review", "escalated", "appealed"}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("国家级", True),
        ("国", True),
        ("品质", True),
        ("家级的", True),
        ("这是国家级的品质", True),
        ("级品", False),
        ("家国", False),
        ("质", True),
        ("国家 级，的", True),
        ("ＮＡＳＡ", True),
        ("nasa", True),
        ("as", True),
        ("绝对化", True),
        ("%", False),
        ("*", False),
        ('"', False),
        ("😀", False),
        ("  ", None),
        ("国家级 OR 1=1", False),
        ("' OR ''='", False),
    ],
)
def test_queue_search_finds_chinese_substrings_and_is_no_query_language(
    world: World, words: str, found: bool | None
) -> None:
    target = world.add(context="这是国家级的品质，NASA同款")
    other = world.add("最低价", context="全网最低价")
    answer = ids(world.caller("reviewer").get("/violations", params={"q": words}))
    if found is None:
        # A blank is no filter.
        assert set(answer) == {target, other}
    elif words == "绝对化":
        assert set(answer) == {target, other}
    else:
        assert answer == ([target] if found else [])


def test_queue_search_covers_the_transcript(world: World) -> None:
    world.add_with_evidence()
    answer = world.caller("reviewer").get("/search", params={"q": "欢迎来到"}).json()
    assert [line["text"] for line in answer["transcript"]] == ["大家好欢迎来到直播间"]
    assert answer["violations"] == []
    outside = world.caller("reviewer", "b").get("/search", params={"q": "欢迎来到"}).json()
    assert outside == {"violations": [], "transcript": []}


def test_queue_filters_are_saved_by_person(world: World) -> None:
    mine, other = world.caller("reviewer"), world.caller("auditor")
    body = {"name": "高风险", "query": {"severity": ["critical"], "q": "国家级"}}
    saved = mine.post("/filters", body).json()
    assert saved["query"] == body["query"]
    assert mine.post("/filters", body).status_code == 409
    assert [one["name"] for one in mine.get("/filters").json()] == ["高风险"]
    assert other.get("/filters").json() == []
    assert other.delete(f"/filters/{saved['id']}").status_code == 404
    assert mine.delete(f"/filters/{saved['id']}").status_code == 200
    assert mine.post("/filters", {"name": "x", "query": {"bogus": 1}}).status_code == 422


def test_queue_detail_has_what_a_decision_needs(world: World) -> None:
    world.caller("reviewer").decide(world.add(), "dismiss", reason="context")
    case = world.add_with_evidence()
    detail = world.caller("reviewer").get(f"/violations/{case}").json()
    assert detail["record"]["quote"] == "国家级"
    assert detail["articles"][0]["article"] == "第九条（三）"
    assert [line["text"] for line in detail["transcript"]][1] == "这是国家级的品质"
    assert {file["kind"] for file in detail["evidence"]} == {"clip", "frame", "transcript"}
    assert detail["host_history"] == {"dismissed": 1}
    assert detail["similar"][0]["status"] == "dismissed"
    assert {"confirm", "dismiss", "claim", "note"} <= set(detail["can"])
    assert world.caller("auditor").get(f"/violations/{case}").json()["can"] == []


def test_queue_detail_of_a_known_rule_has_its_title_text_and_articles(world: World) -> None:
    rule = world.house.rules.rules[0]
    from moderator.records import RuleRef

    case = world.add(rule=RuleRef(rule.id, rule.version, rule.title.zh), law=rule.law)
    detail = world.caller("reviewer").get(f"/violations/{case}").json()
    assert detail["rule"]["id"] == rule.id
    assert len(detail["articles"]) == len(rule.law)


# --- claiming -------------------------------------------------------------------------


def test_queue_a_claim_locks_others_out_until_it_is_given_back(world: World) -> None:
    case = world.add()
    mine, other = world.caller("reviewer"), world.caller("second_reviewer")
    assert mine.post(f"/violations/{case}/claim").json()["claimed_by"] == mine.id
    for answer in (
        other.post(f"/violations/{case}/claim"),
        other.decide(case, "confirm"),
        other.post(f"/violations/{case}/release"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "LM-910")
        assert "reviewer" in answer.json()["detail"]
    assert mine.post(f"/violations/{case}/release").json()["claimed_by"] is None
    assert other.post(f"/violations/{case}/claim").status_code == 200


def test_queue_a_claim_ends_by_itself_and_is_renewed_by_claiming_again(world: World) -> None:
    case = world.add()
    mine, other = world.caller("reviewer"), world.caller("second_reviewer")
    until = mine.post(f"/violations/{case}/claim").json()["claimed_until"]
    assert mine.post(f"/violations/{case}/claim").json()["claimed_until"] > until
    late(world, case, claimed_until=utcnow() - timedelta(seconds=1))
    assert other.post(f"/violations/{case}/claim").json()["claimed_by"] == other.id
    assert mine.decide(case, "confirm").status_code == 409


def test_queue_an_admin_frees_what_somebody_left_locked(world: World) -> None:
    case = world.add()
    world.caller("reviewer").post(f"/violations/{case}/claim")
    assert world.caller().post(f"/violations/{case}/release").json()["claimed_by"] is None


def test_queue_next_takes_the_riskiest_that_is_free(world: World) -> None:
    low, high = world.add(severity=Severity.LOW), world.add(severity=Severity.HIGH)
    mine, other = world.caller("reviewer"), world.caller("second_reviewer")
    assert mine.post("/violations/next", {}).json()["violation"]["id"] == high
    assert other.post("/violations/next", {}).json()["violation"]["id"] == low
    skipped = mine.post("/violations/next", {"skip": [high]}).json()
    assert skipped["violation"] is None
    only = {"filter": {"severity": ["medium"]}}
    assert mine.post("/violations/next", only).json()["violation"] is None


def test_queue_many_reviewers_at_once_never_get_the_same_item(world: World) -> None:
    for _ in range(8):
        world.add()
    callers = [Caller(world.app, "reviewer"), Caller(world.app, "second_reviewer")]
    callers += [Caller(world.app, "admin"), Caller(world.app, "reviewer-a")]
    got: list[tuple[str, str]] = []
    lock = threading.Lock()

    def take(caller: Caller) -> None:
        mine: list[str] = []
        for _ in range(2):
            answer = caller.post("/violations/next", {"skip": mine})
            # One that another took in the very same moment is a conflict, never a shared item.
            if answer.status_code == 200 and answer.json()["violation"]:
                mine.append(answer.json()["violation"]["id"])
        with lock:
            got.extend((case, caller.username) for case in mine)

    threads = [threading.Thread(target=take, args=(caller,)) for caller in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) >= 4
    assert len({case for case, _ in got}) == len(got)


def test_queue_two_decisions_in_one_moment_are_one_decision(world: World) -> None:
    case = world.add()
    callers = [Caller(world.app, "reviewer"), Caller(world.app, "second_reviewer")]
    codes: list[int] = []

    def decide(caller: Caller, action: str) -> None:
        codes.append(caller.decide(case, action, reason="context").status_code)

    threads = [
        threading.Thread(target=decide, args=(caller, action))
        for caller, action in zip(callers, ("confirm", "dismiss"), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [201, 409]
    assert len(world.caller().get(f"/violations/{case}").json()["decisions"]) == 1


# --- deciding -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "fields", "status"),
    [
        ("confirm", {}, "confirmed"),
        ("dismiss", {"reason": "misheard"}, "dismissed"),
        ("needs_proof", {}, "needs_proof"),
        ("escalate", {"comment": "拿不准"}, "escalated"),
    ],
)
def test_queue_decisions_set_the_status_and_give_the_lock_back(
    world: World, action: str, fields: dict[str, str], status: str
) -> None:
    case = world.add()
    caller = world.caller("reviewer")
    caller.post(f"/violations/{case}/claim")
    answer = caller.decide(case, action, **fields)
    assert answer.status_code == 201
    assert answer.json()["violation"]["status"] == status
    assert answer.json()["violation"]["claimed_by"] is None
    assert answer.json()["decision"]["user_id"] == caller.id


def test_queue_a_dismissal_needs_a_reason_from_the_list(world: World) -> None:
    case = world.add()
    caller = world.caller("reviewer")
    assert caller.decide(case, "dismiss").status_code == 422
    assert caller.decide(case, "dismiss", reason="because").status_code == 422
    assert caller.decide(case, "dismiss", reason="other").status_code == 422
    assert caller.decide(case, "dismiss", reason="other", comment="看错了").status_code == 201
    reasons = {one["id"] for one in caller.get("/meta").json()["reasons"]}
    assert {"misheard", "context", "proof_present", "other"} <= reasons


def test_queue_a_decision_on_an_old_look_is_refused(world: World) -> None:
    case = world.add()
    caller = world.caller("reviewer")
    version = caller.get(f"/violations/{case}").json()["violation"]["version"]
    world.caller("second_reviewer").put(f"/violations/{case}/assignee", {"user_id": None})
    answer = caller.decide(case, "confirm", version=version)
    assert (answer.status_code, answer.json()["code"]) == (409, "LM-911")
    assert caller.decide(case, "confirm", version=version + 1).status_code == 201


def test_queue_what_is_decided_is_reopened_with_a_reason_by_a_second_reviewer(
    world: World,
) -> None:
    case = world.add()
    caller, second = world.caller("reviewer"), world.caller("second_reviewer")
    caller.decide(case, "confirm")
    assert caller.decide(case, "dismiss", reason="context").json()["code"] == "LM-912"
    assert caller.decide(case, "reopen", comment="x").status_code == 403
    assert second.decide(case, "reopen").status_code == 422
    assert second.decide(case, "reopen", comment="证据不足").status_code == 201
    assert world.status(case) == "open"


def test_queue_what_is_escalated_is_for_second_reviewers(world: World) -> None:
    case = world.add()
    caller = world.caller("reviewer")
    caller.decide(case, "escalate")
    assert caller.decide(case, "confirm").status_code == 403
    assert world.caller("second_reviewer").decide(case, "confirm").status_code == 201


def test_queue_undo_goes_back_and_leaves_a_trace(world: World) -> None:
    case = world.add()
    caller = world.caller("reviewer")
    caller.decide(case, "needs_proof")
    caller.decide(case, "confirm")
    assert caller.post(f"/violations/{case}/undo").json()["status"] == "needs_proof"
    assert caller.post(f"/violations/{case}/undo").json()["status"] == "open"
    answer = caller.post(f"/violations/{case}/undo")
    assert (answer.status_code, answer.json()["code"]) == (409, "LM-914")
    decisions = caller.get(f"/violations/{case}").json()["decisions"]
    assert [d["undone_at"] is not None for d in decisions] == [True, True]


def test_queue_undo_is_for_ones_own_fresh_decisions(world: World) -> None:
    case = world.add()
    caller, other = world.caller("reviewer"), world.caller("second_reviewer")
    caller.decide(case, "confirm")
    assert other.post(f"/violations/{case}/undo").json()["code"] == "LM-914"
    with world.house.database.write() as db:
        db.execute(update(Decision).values(at=utcnow() - timedelta(hours=25)))
    assert caller.post(f"/violations/{case}/undo").json()["code"] == "LM-914"


# --- four eyes ------------------------------------------------------------------------


def test_queue_a_critical_one_takes_two_people(world: World) -> None:
    case = world.add_critical()
    first, second = world.caller("second_reviewer"), Caller(world.app, "second_reviewer2")
    assert first.decide(case, "confirm").json()["violation"]["status"] == "second_review"
    again = first.decide(case, "confirm")
    assert (again.status_code, again.json()["code"]) == (403, "LM-913")
    assert world.caller("reviewer").decide(case, "confirm").status_code == 403
    done = second.decide(case, "confirm").json()
    assert done["violation"]["status"] == "confirmed"
    assert done["decision"]["stage"] == 2


def test_queue_two_who_disagree_leave_it_to_a_third(world: World) -> None:
    case = world.add_critical()
    world.caller("reviewer").decide(case, "confirm")
    world.caller("second_reviewer").decide(case, "dismiss", reason="context")
    assert world.status(case) == "escalated"
    third = Caller(world.app, "second_reviewer2").decide(case, "dismiss", reason="context")
    assert third.status_code == 201
    # A critical one that is decided anew is looked at twice again.
    assert world.status(case) == "second_review"


def test_queue_the_first_decision_on_a_critical_one_can_be_taken_back(world: World) -> None:
    case = world.add_critical()
    caller = world.caller("reviewer")
    caller.decide(case, "confirm")
    assert caller.post(f"/violations/{case}/undo").json()["status"] == "open"


# --- assigning, notes, holds ------------------------------------------------------------


def test_queue_items_are_given_to_people_who_can_decide_them(world: World) -> None:
    case = world.add()
    caller = world.caller("reviewer")
    mate = world.caller("reviewer", "a").id
    assert caller.put(f"/violations/{case}/assignee", {"user_id": mate}).status_code == 200
    for nobody in (
        world.caller("auditor").id,
        world.caller("reviewer", "b").id,
        "no-such-user",
    ):
        answer = caller.put(f"/violations/{case}/assignee", {"user_id": nobody})
        assert answer.status_code == 404
    names = {user["username"] for user in caller.get("/colleagues").json()}
    assert {"reviewer", "second_reviewer", "admin"} <= names
    assert not {"auditor", "streamer"} & names


def test_queue_notes_stand_beside_it(world: World) -> None:
    case = world.add()
    caller = world.caller("reviewer")
    assert caller.post(f"/violations/{case}/notes", {"text": "查过资质"}).status_code == 201
    assert caller.post(f"/violations/{case}/notes", {"text": ""}).status_code == 422
    assert caller.get(f"/violations/{case}").json()["notes"][0]["text"] == "查过资质"


def test_queue_the_same_key_decides_once_and_is_answered_twice(world: World) -> None:
    case = world.add()
    caller = world.caller("reviewer")
    body = {"action": "confirm"}
    key = {"Idempotency-Key": "k1"}
    path = f"/violations/{case}/decisions"
    first, second = (caller.post(path, body, headers=key) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert second.headers["idempotent-replay"] == "true"
    other = caller.post(path, {"action": "escalate"}, headers=key)
    assert (other.status_code, other.json()["code"]) == (409, "LM-922")
    # Another person's key of the same name is another key.
    assert world.caller("second_reviewer").post(path, body, headers=key).status_code == 409
    assert len(caller.get(f"/violations/{case}").json()["decisions"]) == 1


def test_queue_a_key_whose_call_failed_can_be_used_again(world: World) -> None:
    case = world.add()
    caller = world.caller("reviewer")
    key = {"Idempotency-Key": "k2"}
    path = f"/violations/{case}/decisions"
    assert caller.post(path, {"action": "dismiss"}, headers=key).status_code == 422
    fixed = {"action": "dismiss", "reason": "context"}
    assert caller.post(path, fixed, headers=key).status_code == 201


def test_queue_organisations_do_not_see_each_other(world: World) -> None:
    mine, theirs = world.add(room="a"), world.add(room="b")
    caller = world.caller("reviewer", "a")
    assert ids(caller.get("/violations")) == [mine]
    assert caller.get("/violations/counts").json()["total"] == 1
    assert caller.get("/violations/values").json()["room"] == ["room_a"]
    for answer in (
        caller.get(f"/violations/{theirs}"),
        caller.post(f"/violations/{theirs}/claim"),
        caller.decide(theirs, "confirm"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "LM-908")
    # What is not there and what is another's look alike.
    unknown = caller.get("/violations/nothing").json()
    hidden = caller.get(f"/violations/{theirs}").json()
    assert unknown["detail"].replace("nothing", "") == hidden["detail"].replace(theirs, "")
    assert (
        caller.get("/violations", params={"organisation": world.organisations["b"]}).json()["items"]
        == []
    )
    with world.house.database.read() as db:
        assert db.get(User, caller.id) is not None
