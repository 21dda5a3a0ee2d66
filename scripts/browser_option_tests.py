"""Which test fails when an option of a browser step, or of a browser profile, has no effect."""

from __future__ import annotations

from smartops.page_actions import ACTIONS

_ZOO = "tests/integration/test_browser_zoo.py::"
_PROFILES = "tests/integration/test_browser_profiles.py::"
_EVIDENCE = "tests/integration/test_browser_evidence.py::"
_STEPS = "tests/acceptance/test_browser_steps.py::"
_DRIVER = "tests/integration/test_browser_driver.py::"

_ROWS: dict[str, str] = {
    _ZOO + "test_a_form": "fill.target fill.value select.target select.options check.target "
    "target.label target.placeholder target.title target.role target.name target.test_id "
    "expect.target expect.path expect.page_title",
    _ZOO + "test_keys_and_the_mouse": "press.keys press.target click.target click.times "
    "click.button hover.target check.checked",
    _ZOO + "test_which_element": "target.css target.text target.alt target.exact target.has_text "
    "target.nth extract.target extract.output extract.attribute extract.every expect.count "
    "expect.within",
    _ZOO + "test_what_is_not_as_expected": "expect.visible expect.contains expect.equals "
    "expect.value expect.checked expect.enabled",
    _ZOO + "test_late_loading": "goto.path goto.until wait_for.target wait_for.state wait_for.path "
    "wait_for.load wait_for.answer wait_for.within",
    _ZOO + "test_slow_and_failing_answers": "goto.within",
    _ZOO + "test_frames_and_shadow_roots": "target.frame",
    _ZOO + "test_uploads": "upload.target upload.files",
    _ZOO + "test_downloads": "download.target download.path download.output download.file_name "
    "download.min_bytes download.max_bytes download.sha256",
    _ZOO + "test_dialogs": "dialog.answer dialog.text dialog.contains",
    _ZOO + "test_tabs": "click.opens tab.name tab.close",
    _ZOO + "test_a_table_of_ten_thousand_rows": "table.target table.columns table.output "
    "table.min_rows table.max_rows table.keep",
    "tests/unit/test_page_table.py::test_cells": "column.type column.decimal column.thousands "
    "column.unit column.format column.true column.false column.optional",
    "tests/unit/test_page_table.py::test_columns": "column.name column.header column.index",
    _ZOO + "test_pictures_and_prints": "screenshot.name screenshot.full_page screenshot.target "
    "screenshot.cover pdf.name pdf.paper pdf.landscape",
    _ZOO + "test_scripts_need_leave": "eval.script eval.target eval.output profile.allow_scripts",
    _ZOO + "test_each_action_keeps_its_time": "click.within hover.within fill.within "
    "select.within check.within press.within upload.within download.within extract.within "
    "table.within screenshot.within eval.within",
    _DRIVER + "test_every_action": "fill.credential profile.base_url profile.username "
    "profile.password profile.width profile.height",
    _DRIVER + "test_an_element_that_does_not_come": "profile.timeout",
    _DRIVER + "test_a_missing_browser": "profile.executable",
    _STEPS + "test_each_option_of_a_browser_step": "browser.run.evidence browser.run.keep_evidence",
    _STEPS + "test_each_option_of_a_selenium_step": "browser.selenium.script "
    "browser.selenium.runner browser.selenium.select browser.selenium.marks "
    "browser.selenium.args browser.selenium.profile",
    _EVIDENCE + "test_the_canary_is_found_nowhere": "profile.secrets",
    _PROFILES + "test_what_pages_see": "profile.locale profile.timezone profile.user_agent",
    _PROFILES + "test_which_browser": "profile.browser profile.headless",
    _PROFILES + "test_through_a_proxy": "profile.proxy profile.proxy_bypass "
    "profile.proxy_username profile.proxy_password",
    _PROFILES + "test_http_login": "profile.http_login",
    _PROFILES + "test_certificates_of_panels": "profile.accept_any_certificate",
    _PROFILES + "test_a_session_is_kept": "profile.keep_session",
    _PROFILES + "test_a_session_begins_by_itself": "profile.login profile.logged_out_path",
    _PROFILES + "test_a_page_that_says_late_that_one_is_out": "profile.logged_out "
    "profile.logged_in",
    _PROFILES + "test_one_step_at_a_time": "profile.shared",
}


def _named(option: str) -> str:
    """Return an option with its group: ``check`` is an action here, and a comparison elsewhere."""
    return f"action {option}" if option.partition(".")[0] in ACTIONS else option


BROWSER_OPTION_TESTS: dict[str, str] = {
    _named(option): test for test, options in _ROWS.items() for option in options.split()
}
