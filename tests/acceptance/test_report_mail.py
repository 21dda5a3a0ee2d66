"""A report that is made in the running system, and mailed by a saved connection."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.reporting import report
from services.stack import Stack
from smartops.audit import kept_reports
from smartops.audit.store import Store
from smartops.errors import UnknownBlock
from tests.alert_sinks import MailSink
from tests.conftest import PREFECT_LEAVES_SOCKETS

pytestmark = [pytest.mark.stack, PREFECT_LEAVES_SOCKETS]


async def test_a_report_goes_by_a_saved_connection(in_stack: Stack, tmp_path: Path) -> None:
    """With STARTTLS and a login; where none is saved the run says so, and the report is kept."""
    store = Store(in_stack.settings.store_url)
    try:
        known = len(kept_reports.kept(store, "slo"))
        with MailSink(tmp_path).running() as sink:
            await sink.block().asave("report-tests", overwrite=True)
            to = ["shift@example.com"]
            await report("slo", to=to, mail_by="report-tests", pdf=False)
            with pytest.raises(UnknownBlock, match="kept, and not mailed by alert-mail/gone: no"):
                await report("slo", to=to, mail_by="gone", pdf=False)
        (mail,) = sink.mails
        assert (mail["to"], mail["subject"].partition(",")[0]) == (to[0], "SLO report")
        assert len(kept_reports.kept(store, "slo")) == known + 6
    finally:
        store.close()
