"""How far a lake is behind its warehouse, and what it consists of."""

from datetime import datetime
from typing import NamedTuple

from etl.clock import Clock
from etl.outputs.lake import delta
from etl.outputs.lake.changes import changes, diverged, positions_of, stored_accounts, warehouse_id
from etl.outputs.lake.tables import POSITIONS
from etl.warehouse.engine import require_warehouse, warehouse_url
from etl.warehouse.migrate import require_readable
from etl.warehouse.reading import open_for_reading


class LakeStatus(NamedTuple):
    """``shipped``, ``behind``, ``foreign`` and ``diverged`` are numbers of accounts of the warehouse: in the lake,
    with changes that it lacks, shipped by another warehouse, and with a newer state in the lake.

    ``complete_until``: everything that was committed until then is in the lake (UTC without a zone); None before the
    first shipment. ``files`` and ``bytes`` are those that readers need, over all tables.
    """

    location: str
    buckets: int
    shipped: int
    behind: int
    days_behind: int
    foreign: int
    diverged: int
    complete_until: datetime | None
    files: int
    bytes: int


def load_status(url: str, location: str, clock: Clock, *, wait: float) -> LakeStatus:
    """Compare a lake with a warehouse. Raises WarehouseError if either cannot be used."""
    source = warehouse_url(url)
    require_warehouse(source, wait=wait, clock=clock)
    lake = delta.open_lake(location, create=False)
    positions = positions_of(delta.read(lake.tables[POSITIONS], location))
    with open_for_reading(source, wait=wait, clock=clock) as reader:
        require_readable(reader)
        stored, warehouse = stored_accounts(reader, None), warehouse_id(reader)
        own = {name: one for name, one in positions.items() if one.warehouse == warehouse}
        foreign = [one for one in stored if one.account in positions and one.account not in own]
        ahead = diverged(reader, stored, own)
        behind = changes(reader, stored, {name: one for name, one in own.items() if name not in ahead})
    known = [one for one in stored if one.account in own and own[one.account].shipment]
    sizes = [delta.sizes(table, location) for table in lake.tables.values()]
    return LakeStatus(
        location,
        lake.buckets,
        len(known),
        len(behind) - len(ahead) - len(foreign),
        sum(len(one.days or ()) for one in behind),
        len(foreign),
        len(ahead),
        min((at for one in known if (at := own[one.account].complete_until)), default=None),
        sum(files for files, _ in sizes),
        sum(size for _, size in sizes),
    )
