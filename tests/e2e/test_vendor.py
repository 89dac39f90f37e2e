"""The vendor's own example: its three records load. The text of its page, with dots between them, is rejected."""

import zlib
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from etl.sandbox.behaviour import Behaviour, Fault, FaultKind
from etl.sandbox.dataset import Dataset
from etl.sandbox.responses import FIXED_BODIES
from tests.e2e.world import UNATTRIBUTED, World

pytestmark = pytest.mark.contract

DAY = date(2019, 2, 19)
LATER = datetime(2019, 3, 1, 12, tzinfo=UTC)
IDLE = Dataset(begins=date(2024, 1, 1), queues=2)
QUARTER_TO = Behaviour(grid_seconds=-900)


def test_the_vendors_example_loads_with_hours_that_begin_at_a_quarter_to(tmp_path: Path) -> None:
    with World(tmp_path, IDLE, QUARTER_TO, (Fault(FaultKind.VENDOR_EXAMPLE, numbers=(1,)),), now=LATER) as world:
        assert world.sync(since=DAY, until=DAY).exit_code == 0
        assert world.hourly() == {
            (UNATTRIBUTED, datetime(2019, 2, 18, 23, 45)): (1899, Decimal("7.495948")),
            (UNATTRIBUTED, datetime(2019, 2, 19, 0, 45)): (2217, Decimal("7.861741")),
            (UNATTRIBUTED, datetime(2019, 2, 19, 21, 45)): (2156, Decimal("7.827058")),
        }
        assert world.rows("select day, volume, money from spending_daily") == [(DAY, 6272, Decimal("23.184747"))]
        assert world.one("select hour_offset_seconds from internal.accounts") == -900
        assert world.one("select count(*) from spending_total_hourly") == 24
        assert FIXED_BODIES[FaultKind.VENDOR_EXAMPLE].encode() in _stored_bodies(world)


def test_the_text_of_the_vendors_page_is_rejected_and_stored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with World(tmp_path, IDLE, QUARTER_TO, (Fault(FaultKind.VENDOR_PAGE),), now=LATER) as world:
        result = world.sync(since=DAY, until=DAY)
        assert (result.exit_code, result.windows_failed) == (1, 1)
        [(outcome, code, message)] = world.rows("select outcome, code, message from internal.snapshots")
        assert (outcome, code) == ("failed", "not_json")
        assert "not JSON" in message
        assert f"{DAY} total: failed: not_json" in caplog.text
        assert _stored_bodies(world) == [FIXED_BODIES[FaultKind.VENDOR_PAGE].encode()]
        assert world.rows("select * from internal.facts") == []
        assert world.days("failed") == {DAY}

        world.sandbox.faults = (Fault(FaultKind.VENDOR_EXAMPLE, numbers=(len(world.requests) + 1,)),)
        assert world.sync(since=DAY, until=DAY).exit_code == 0
        assert world.one("select sum(money) from spending_hourly") == Decimal("23.184747")
        assert FIXED_BODIES[FaultKind.VENDOR_PAGE].encode() in _stored_bodies(world)


def _stored_bodies(world: World) -> list[bytes]:
    return [zlib.decompress(body) for (body,) in world.rows("select body from internal.responses")]
