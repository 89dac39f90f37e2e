"""Run the checks of the user's folder after a sync."""

from collections.abc import Sequence

from etl.clock import Clock
from etl.config import Settings
from etl.warehouse import checks
from etl.warehouse.checks import CheckFailure
from etl.warehouse.engine import warehouse_url
from etl.warehouse.reading import open_for_reading


def run_user_checks(settings: Settings, clock: Clock) -> Sequence[CheckFailure]:
    """Run them on a connection of their own, which is read-only and sealed."""
    if settings.checks_folder is None:
        return ()
    with open_for_reading(warehouse_url(settings.warehouse), wait=settings.lock_wait, clock=clock) as reader:
        return checks.run_of_user(reader, clock.now(), settings.account, settings.checks_folder).failures
