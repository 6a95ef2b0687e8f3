from __future__ import annotations

from moderator.live.alerts import AlertRules, teleprompter_line
from moderator.live.config import AlertConfig
from moderator.records import Disposition, Severity
from tests.outputs.builders import violation


def test_alerts_need_enough_records_close_together() -> None:
    rules = AlertRules([AlertConfig(count=3, within_s=60, cooldown_s=0)])
    assert [len(rules.on_record(violation(), at)) for at in (0, 50, 100, 105)] == [0, 0, 0, 1]


def test_alerts_count_only_what_is_grave_and_firm_enough() -> None:
    rules = AlertRules([AlertConfig(severity="high", disposition="violation")])
    assert rules.on_record(violation(severity=Severity.MEDIUM), 0) == []
    assert rules.on_record(violation(disposition=Disposition.SUSPECT), 1) == []
    assert len(rules.on_record(violation(severity=Severity.CRITICAL), 2)) == 1


def test_alerts_keep_quiet_during_the_cooldown() -> None:
    rules = AlertRules([AlertConfig(cooldown_s=60)])
    sent = [at for at in range(0, 200, 10) if rules.on_record(violation(), at)]
    assert sent == [0, 60, 120, 180]


def test_alerts_warn_the_host_and_call_the_control_room() -> None:
    rules = AlertRules(
        [AlertConfig(), AlertConfig(event="room.escalate", count=2, within_s=60, cooldown_s=0)]
    )
    rules.on_record(violation(), 0)
    (alert,) = rules.on_record(violation("最好"), 10)
    body = alert.body()
    assert (body["event"], body["count"], body["quote"]) == ("room.escalate", 2, "最好")
    assert body["violation"] == alert.record.id


def test_alerts_line_for_the_teleprompter_is_one_short_line() -> None:
    line = teleprompter_line(violation("国家级\n品质"))
    assert "\n" not in line
    assert "国家级 品质" in line
    assert "改为“用料讲究”" in line
    assert teleprompter_line(violation("")).count("绝对化用语") == 1
