"""Which test fails when an option of the files of alerts has no effect."""

from __future__ import annotations

_RULES = "tests/unit/test_alert_rules.py::"
_JUDGED = "tests/integration/test_alerts.py::"
_SENT = "tests/integration/test_alert_sending.py::"
_COVERS = _RULES + "test_what_a_rule_covers"
_BURNS = _JUDGED + "test_an_objective_that_burns"
_ROUTES = _RULES + "test_routes"
_ON_CALL = _RULES + "test_who_is_on_call"
_WINDOW = _RULES + "test_maintenance"
_LIMIT = _SENT + "test_what_a_channel_does_not_take_now_comes_later_together"

ALERT_OPTION_TESTS: dict[str, str] = {
    "alerts.channels": _SENT + "test_the_fallback",
    "alerts.rules": _JUDGED + "test_a_failure_and_its_recovery",
    "alerts.routes": _JUDGED + "test_why_nothing_is_sent",
    "alerts.on_call": _JUDGED + "test_who_is_on_call_is_told",
    "alerts.maintenance": _JUDGED + "test_why_nothing_is_sent",
    "alerts.ignore_older_than": _JUDGED + "test_why_nothing_is_sent",
    "channel.block": _SENT + "test_the_fallback",
    "channel.to": _SENT + "test_a_thread_for_each_alert",
    "channel.fallback": _SENT + "test_the_fallback",
    "channel.fallback_after": _SENT + "test_the_fallback",
    "channel.throttle": _LIMIT,
    "throttle.most": _LIMIT,
    "throttle.per": _LIMIT,
    "rule.name": _JUDGED + "test_missed_and_late",
    "rule.on": _COVERS,
    "rule.severity": _JUDGED + "test_a_record_that_was_altered",
    "rule.labels": _COVERS,
    "rule.recovery": _JUDGED + "test_recovery_that_is_not_wanted",
    "rule.jobs": _COVERS,
    "on: failure.in_a_row": _JUDGED + "test_failures_in_a_row",
    "on: failure.apart_by": _JUDGED + "test_failures_that_are_told_apart",
    "on: failure.children": _JUDGED + "test_children_count_where_the_rule_says_so",
    "on: late.after": _JUDGED + "test_missed_and_late",
    "on: slow.longer_than": _RULES + "test_what_a_finding_means",
    "on: slow.times_usual": _RULES + "test_what_a_finding_means",
    "on: slow.least_runs": _JUDGED + "test_a_run_that_takes_longer_than_usual",
    "on: slo.objectives": _BURNS,
    "on: slo.over": _BURNS,
    "on: slo.burn": _BURNS,
    "on: slo.least_runs": _BURNS,
    "on: quarantine.devices": _COVERS,
    "on: quality.suites": _COVERS,
    "on: quality.status": _JUDGED + "test_a_check_of_data",
    "on: silence.within": _JUDGED + "test_silence",
    "on: silence.any_end": _JUDGED + "test_silence_counts_how_a_run_ends",
    "route.name": _ROUTES,
    "route.rules": _ROUTES,
    "route.severity": _ROUTES,
    "route.labels": _ROUTES,
    "route.between": _ROUTES,
    "route.timezone": _ROUTES,
    "route.channels": _SENT + "test_two_senders_never_send_both",
    "route.on_call": _JUDGED + "test_who_is_on_call_is_told",
    "route.wait": _SENT + "test_alerts_that_come_together_are_sent_together",
    "route.group_by": _SENT + "test_alerts_that_come_together_are_sent_together",
    "route.repeat": _RULES + "test_what_is_said_next",
    "route.escalate": _JUDGED + "test_escalation_ends_with_an_acknowledgement",
    "route.go_on": _ROUTES,
    "escalation.after": _RULES + "test_what_is_said_next",
    "escalation.channels": _RULES + "test_what_is_said_next",
    "escalation.on_call": _JUDGED + "test_who_is_on_call_is_told",
    "calendar.timezone": _ON_CALL,
    "calendar.shifts": _ON_CALL,
    "calendar.otherwise": _ON_CALL,
    "shift.between": _ON_CALL,
    "shift.channels": _ON_CALL,
    "maintenance.name": _WINDOW,
    "maintenance.rules": _WINDOW,
    "maintenance.subjects": _WINDOW,
    "maintenance.labels": _WINDOW,
    "maintenance.start": _WINDOW,
    "maintenance.end": _WINDOW,
    "maintenance.between": _WINDOW,
    "maintenance.timezone": _WINDOW,
}
