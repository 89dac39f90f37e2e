"""The data checks: each on faults inserted into what a real sync loaded, and on cases that only look like faults."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import sqlalchemy as sa

from etl.models import Finding, Severity
from etl.warehouse import checks
from etl.warehouse.engine import open_warehouse
from etl.warehouse.reading import open_for_reading
from etl.warehouse.schema import accounts, day_coverage, metadata, over_allocated_hours, series
from tests.e2e.world import NOW, World, ago, small
from tests.postgres import new_database

pytestmark = pytest.mark.contract

Insert = Callable[..., None]

SECOND_SYNC = NOW + timedelta(days=1)
"""When the second of two syncs ran. During the first, ``ago(0)`` was not over; since the second it is closed and
open."""
FINAL = ago(15)
QUEUE = "(select series_id from internal.series where dimension = 'queue' and member = 'English ImageToText')"
TOTAL = "(select series_id from internal.series where dimension = 'total')"
APPS = "select series_id from internal.series where dimension = 'app'"
IPS = "select series_id from internal.series where dimension = 'ip'"
UNATTRIBUTED = "select series_id from internal.series where dimension <> 'total' and member is null"
SECOND_RUN = "(select snapshot_id from internal.snapshots where run = 2)"
FIRST_RUN = "(select snapshot_id from internal.snapshots where run = 1)"


def copied(table: str, where: str = "true", **changed: str) -> str:
    """A statement that inserts copies of a table's rows, with some columns changed."""
    columns = metadata.tables[f"internal.{table}"].columns.keys()
    assert changed.keys() <= set(columns)
    chosen = ", ".join(changed.get(name, name) for name in columns)
    return f"insert into internal.{table} ({', '.join(columns)}) select {chosen} from internal.{table} where {where}"


class Case(NamedTuple):
    """SQL that changes the warehouse, and how long after the second sync it is checked."""

    sql: str
    after: timedelta = timedelta(0)


FAULTS: dict[str, list[Case]] = {
    "every_hour_is_held_once": [
        Case(f"insert into internal.facts select * from internal.facts where day = '{FINAL}' and series_id = "
            f"{QUEUE} limit 1"),
        Case(f"insert into internal.facts select * from internal.facts where day = '{FINAL}' and series_id = {TOTAL}"),
    ],
    "every_hour_is_on_the_accounts_grid": [
        Case(f"update internal.facts set hour_start = hour_start + interval '15 minutes' where day = '{FINAL}'"),
        Case(f"update internal.facts set day = day - 1 where day = '{FINAL}' and series_id = {QUEUE}"),
        Case(f"update internal.facts set day = day + 1 where day = '{FINAL}' and series_id = {QUEUE}"),
    ],
    "every_filter_has_one_series": [
        Case("insert into internal.series select account_id, 99, dimension, member from internal.series where "
            f"series_id = {QUEUE}"),
        Case("insert into internal.series select account_id, 99, dimension, member from internal.series where "
            "dimension = 'app' and member is null"),
    ],
    "every_reading_has_its_own_number": [
        Case("insert into internal.snapshots select * from internal.snapshots limit 1"),
        Case("delete from internal.snapshots where snapshot_id = 2"),
    ],
    "every_answer_is_kept": [
        Case("delete from internal.responses where hash in (select hash from internal.snapshots where day = "
            f"'{FINAL}')"),
        Case(f"delete from internal.responses; update internal.accounts set raw_kept_from = date '{FINAL}'"),
    ],
    "closed_days_are_complete": [
        Case(f"delete from internal.facts where hour_start = '{FINAL} 23:00' and series_id = {TOTAL}"),
        Case(f"delete from internal.facts where day = '{FINAL}'"),
        Case(f"delete from internal.facts where day = '{FINAL}'; update internal.day_coverage set status = "
            f"'open' where day = '{FINAL}'",
             after=timedelta(days=7)),
    ],
    "members_are_within_the_total": [
        Case(f"insert into internal.over_allocated_hours select account_id, series_id, date '{ago(0)}', "
            f"timestamp '{ago(0)} 05:00', 3, 0.3, 1 "
             "from internal.series where dimension = 'queue' and member is null"),
    ],
    "members_sum_up_to_the_total": [
        Case(f"update internal.facts set money = money + 0.000000001 where hour_start = '{FINAL} 12:00' and "
            f"series_id = {TOTAL}"),
        Case(f"update internal.facts set volume = volume + 1 where hour_start = '{FINAL} 12:00' and series_id = "
            f"{TOTAL}"),
        Case(f"delete from internal.facts where day = '{FINAL}' and series_id = {QUEUE}"),
        Case(f"delete from internal.facts where day = '{FINAL}' and series_id = {TOTAL}"),
        # two faults that cancel each other over the day
        Case("update internal.facts set volume = volume + case extract(hour from hour_start) when 12 then 1 else "
            "-1 end "
             f"where series_id = {TOTAL} and hour_start in ('{FINAL} 12:00', '{FINAL} 13:00')"),
        # a day without any queue, and a single dimension
        Case(f"delete from internal.facts where day = '{FINAL}' and series_id <> {TOTAL}"),
        *(Case(f"delete from internal.facts where hour_start = '{FINAL} 12:00' and series_id in "
            f"({dimension})") for dimension in (APPS, IPS)),
    ],
    "days_sum_up_their_hours": [
        Case(f"update internal.day_coverage set {column} = {column} + 1 where day = '{FINAL}'")
        for column in ("volume", "money", "unattributed_volume", "unattributed_money")
    ] + [Case(f"delete from internal.day_coverage where day = '{FINAL}'")],
    "money_comes_with_tasks": [
        Case(f"update internal.facts set volume = 0 where day = '{ago(0)}' and series_id = {series} and "
            f"snapshot_id in {which}")
        for series in (QUEUE, TOTAL)
        for which in (SECOND_RUN, FIRST_RUN)  # loaded by the sync that closed the day, or before the day was over
    ],
    "negative_money_was_seen_before": [
        Case(f"update internal.facts set money = -0.000001 where day = '{ago(0)}' and series_id = {series} and "
            f"snapshot_id in {which}")
        for series in (QUEUE, TOTAL)
        for which in (SECOND_RUN, FIRST_RUN)
    ] + [
        # a run that was interrupted, refused or killed reported nothing
        Case(f"update internal.facts set money = -1 where day = '{FINAL}' and series_id = {QUEUE}; update "
            f"internal.runs set {end} where run = 1")
        for end in ("exit_code = 130", "exit_code = 3", "exit_code = null, ended_at = null")
    ],
    "no_day_stays_open_behind_final_ones": [
        Case(f"update internal.day_coverage set status = 'open' where day = '{FINAL}'", after=timedelta(days=7)),
    ],
    "prices_are_within_reason": [
        Case(f"update internal.facts set money = money * 100 where day = '{ago(0)}' and series_id = {QUEUE}"),
        Case(f"update internal.facts set money = money / 100 where day = '{ago(0)}' and series_id = {QUEUE}"),
    ],
    "the_newest_total_is_fresh": [
        Case("select 1", after=timedelta(hours=49)),
        Case(copied("day_coverage", f"day = '{ago(-1)}'", day="day + 2", status="'missing'", fetched_at="null"), after=timedelta(hours=49)),
        Case(copied("accounts", account_id="2", name="'other'", created_at="created_at - interval '3 days'")),
    ],
}  # fmt: skip

NO_FAULTS: dict[str, list[Case]] = {
    "every_hour_is_held_once": [
        Case(copied("facts", f"day = '{FINAL}' and series_id = {QUEUE}", series_id="99")),
        Case(copied("facts", f"day = '{FINAL}'", account_id="2")),
        # another minute of the same hour: off the grid, but stored once
        Case(copied("facts", f"day = '{FINAL}'", hour_start="hour_start + interval '45 minutes'")),
    ],
    "every_hour_is_on_the_accounts_grid": [
        Case(f"update internal.accounts set hour_offset_seconds = {grid}; update internal.facts set hour_start = "
            f"hour_start + interval '{grid} seconds'")
        for grid in (-900, 900)
    ],
    "every_filter_has_one_series": [
        Case("insert into internal.series select account_id, 99, 'app', member from internal.series where "
            f"series_id = {QUEUE}"),
        Case("insert into internal.series select 2, series_id, dimension, member from internal.series"),
    ],
    "every_reading_has_its_own_number": [Case(copied("snapshots", account_id="2"))],
    "every_answer_is_kept": [
        Case("delete from internal.responses where hash in (select hash from internal.snapshots where day = "
            f"'{FINAL}' and status <> 200)"),
        Case(
            "delete from internal.responses where hash in (select hash from internal.snapshots where day < date "
                f"'{FINAL}') "
            f"and hash not in (select hash from internal.snapshots where day >= date '{FINAL}'); "
            f"update internal.accounts set raw_kept_from = date '{FINAL}'; update internal.day_coverage set "
                f"status = 'final' where day < date '{FINAL}'"
        ),
    ],
    "closed_days_are_complete": [
        Case(f"delete from internal.facts where day = '{ago(-1)}'"),
        # the last day of a run that was stopped, and a day whose status is failed
        Case(f"delete from internal.facts where day = '{FINAL}'; update internal.day_coverage set status = "
            f"'open' where day = '{FINAL}'"),
        Case(f"delete from internal.facts where day = '{FINAL}'; update internal.day_coverage set status = "
            f"'failed' where day = '{FINAL}'"),
    ],
    "members_are_within_the_total": [
        Case(f"insert into internal.over_allocated_hours select account_id, series_id, date '{ago(-1)}', "
            f"timestamp '{ago(-1)} 05:00', 3, 0.3, 1 "
             "from internal.series where dimension = 'queue' and member is null"),
    ],
    "members_sum_up_to_the_total": [
        Case(f"delete from internal.facts where series_id in ({APPS}) or series_id in ({IPS}); "
             f"update internal.facts set money = money + 1 where hour_start = '{FINAL} 12:00' and series_id in "
                 f"({TOTAL}, {QUEUE})"),
        Case(f"delete from internal.facts where series_id in ({APPS})"),
        Case(f"delete from internal.facts where day = '{FINAL}' and (series_id in ({APPS}) or series_id in ({IPS}))"),
    ],
    "days_sum_up_their_hours": [
        Case(copied("day_coverage", day="day - 99", status="'missing'", fetched_at="null", volume="0", money="0", unattributed_volume="0",
                    unattributed_money="0")),
    ],
    "money_comes_with_tasks": [
        Case(f"update internal.facts set volume = 0 where series_id = {QUEUE} and day < '{ago(0)}'"),
        Case(f"update internal.facts set volume = 0 where series_id = {QUEUE} and day = '{ago(-1)}'"),
        Case(f"update internal.facts set volume = 0, money = -1 where series_id = {QUEUE}"),
        Case(f"update internal.facts set volume = 0 where series_id in ({UNATTRIBUTED})"),
    ],
    "negative_money_was_seen_before": [
        *(Case(f"update internal.facts set money = -1 where series_id = {QUEUE} and day < '{ago(0)}'; update "
            f"internal.runs set exit_code = {code} "
               "where run = 1") for code in (0, 1, 5)),
        Case(f"update internal.facts set money = -1 where series_id = {QUEUE} and day = '{ago(-1)}'"),
        # an unattributed amount may be slightly negative
        Case(f"update internal.facts set money = -0.000001 where series_id in ({UNATTRIBUTED})"),
        # a replay is no sync
        Case(copied("runs", "run = 2", run="3", command="'replay'") + "; "
             f"update internal.facts set money = -1 where series_id = {QUEUE} and day < '{ago(0)}'"),
    ],
    "no_day_stays_open_behind_final_ones": [
        Case(f"update internal.day_coverage set status = 'open' where day = '{FINAL}'", after=timedelta(days=6)),
        Case(f"update internal.day_coverage set status = 'failed' where day = '{FINAL}'", after=timedelta(days=7)),
        Case("select 1", after=timedelta(days=30)),
        Case(f"update internal.day_coverage set status = 'open' where day >= '{FINAL}'", after=timedelta(days=30)),
        Case(f"update internal.day_coverage set status = 'open' where day = '{FINAL}'; update internal.accounts "
            f"set since = '{ago(14)}'",
             after=timedelta(days=7)),
    ],
    "prices_are_within_reason": [
        Case(f"update internal.facts set money = money * 5 where day = '{ago(0)}' and series_id = {QUEUE}"),
        # reported by an earlier sync: the price was new on the day before
        Case(f"update internal.facts set money = money * 100 where day in ('{ago(0)}', '{ago(1)}') and series_id "
            f"= {QUEUE}"),
        Case(f"update internal.facts set money = money * 100 where day = '{ago(-1)}' and series_id = {QUEUE}"),
        Case(f"update internal.facts set money = money * 100 where day = '{FINAL}' and series_id = {QUEUE}"),
        # too few tasks, too short a history
        Case(f"update internal.facts set money = money * 100, volume = 40 where day = '{ago(0)}' and series_id = "
            f"{QUEUE}"),
        Case(f"update internal.facts set money = money * 100 where day = '{ago(0)}' and series_id = {QUEUE}; "
             f"delete from internal.facts where day < '{ago(19)}' and series_id = {QUEUE}"),
        # a refund
        Case(f"update internal.facts set money = -100 where hour_start = '{ago(0)} 05:00' and series_id = {QUEUE}"),
    ],
    "the_newest_total_is_fresh": [Case("select 1", after=timedelta(hours=48))],
}  # fmt: skip


def stem(check: checks.Check) -> str:
    return check.name.replace(" ", "_")


@pytest.fixture(scope="session")
def two_nights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The URL of a warehouse of an engine, with three weeks of queues, apps and IPs, after two nightly syncs."""

    @cache
    def synced(engine_name: str) -> str:
        with World(tmp_path_factory.mktemp("synced"), small(days=24, idle_hours=5)) as world:
            if engine_name == "postgresql":
                world.warehouse = new_database()
            for world.now in (NOW, SECOND_SYNC):
                summary = world.sync(soft_ids=("1011",), ips=("192.0.2.10",))
                assert [finding.message for finding in summary.findings if finding.severity is not Severity.INFO] == []
                assert summary.exit_code == 0
            assert world.statuses()["final"] > 15
            return world.warehouse

    return synced


@pytest.fixture
def synced(two_nights: Callable[[str], str], engine_name: str) -> str:
    return two_nights(engine_name)


@pytest.fixture
def connection(synced: str, engine_name: str) -> Iterator[sa.Connection]:
    """A connection that allows every fault; they are rolled back."""
    with open_warehouse(synced).connect() as connection:
        for table in ("facts", "snapshots") if engine_name == "postgresql" else ():
            connection.exec_driver_sql(f"alter table internal.{table} drop constraint pk_{table}")
        yield connection


def rows(connection: sa.Connection, name: str, case: Case) -> Sequence[object]:
    """The rows that a check selects after the SQL of ``case``."""
    [check] = [check for check in checks.load() if stem(check) == name]
    connection.exec_driver_sql(case.sql)
    return connection.exec_driver_sql(checks.fill_in(check.sql, SECOND_SYNC + case.after)).all()


def test_every_check_has_cases_that_fail_and_cases_that_pass() -> None:
    files = {stem(check) for check in checks.load()}
    assert set(FAULTS) == set(NO_FAULTS) == files


def each(cases: Mapping[str, list[Case]]) -> pytest.MarkDecorator:
    named = [
        pytest.param(name, case, id=f"{name}-{n}") for name, several in cases.items() for n, case in enumerate(several)
    ]
    return pytest.mark.parametrize(("name", "case"), named)


@each(FAULTS)
def test_a_check_finds_its_fault(connection: sa.Connection, name: str, case: Case) -> None:
    assert rows(connection, name, case)


@each(NO_FAULTS)
def test_a_check_ignores_what_only_looks_like_its_fault(connection: sa.Connection, name: str, case: Case) -> None:
    assert rows(connection, name, case) == []


def test_no_check_fails_after_a_normal_sync(synced: str) -> None:
    with open_for_reading(synced) as reader:
        assert checks.run(reader, SECOND_SYNC) == (len(checks.load()), ())


@pytest.mark.parametrize("check", checks.load(), ids=stem)
def test_every_check_selects_an_account_and_finds_nothing_in_an_empty_warehouse(
    warehouse: sa.Engine, check: checks.Check
) -> None:
    with warehouse.connect() as connection:
        result = connection.exec_driver_sql(checks.fill_in(check.sql, NOW))
        assert "account" in result.keys()  # noqa: SIM118 - a result is no mapping
        assert result.all() == []


# ---------------------------------------------------------------- the text of a finding

DAY = date(2026, 3, 14)


def found(warehouse: sa.Engine, account: str | None = None, own: Path | None = None) -> list[Finding]:
    with open_for_reading(str(warehouse.url)) as reader:
        now = datetime(2026, 3, 15, tzinfo=UTC)
        of_user = checks.run_of_user(reader, now, account, own).failures if own else ()
        failures = (*checks.run(reader, now, account).failures, *of_user)
    return [failure.finding for failure in failures]


def day(number: int, *, is_closed: bool = True, account_id: int = 1) -> dict[str, object]:
    return {
        "account_id": account_id,
        "day": date(2026, 3, number),
        "status": "open",
        "is_closed": is_closed,
        "is_explained": False,
    }


def exceeding(number: int, hour: int, *, series_id: int = 2, account_id: int = 1) -> dict[str, object]:
    hour_start = datetime(2026, 3, number, hour)
    stored_facts = {"day": hour_start.date(), "hour_start": hour_start, "volume": 3, "money": Decimal("0.3")}
    return {"account_id": account_id, "series_id": series_id, **stored_facts}


@pytest.fixture
def two_accounts(insert: Insert, monkeypatch: pytest.MonkeyPatch) -> Insert:
    """Two accounts, and only one check."""
    exceeded = [check for check in checks.load() if check.name == "members are within the total"]
    monkeypatch.setattr(checks, "load", lambda: exceeded)
    insert(accounts, {"account_id": 1, "name": "default"}, {"account_id": 2, "name": "other"})
    insert(
        series,
        {"account_id": 1, "series_id": 1, "dimension": "total"},
        {"account_id": 1, "series_id": 2, "dimension": "queue"},
        {"account_id": 1, "series_id": 3, "dimension": "app"},
        {"account_id": 2, "series_id": 2, "dimension": "ip"},
    )
    return insert


def test_a_finding_says_what_was_expected_where_it_failed_and_what_to_do(
    two_accounts: Insert, warehouse: sa.Engine
) -> None:
    two_accounts(day_coverage, day(13), day(14))
    two_accounts(
        over_allocated_hours, exceeding(13, 5), exceeding(14, 1), exceeding(14, 2), exceeding(14, 2, series_id=3)
    )
    (finding,) = found(warehouse, "default")
    assert finding == Finding(
        "members are within the total",
        Severity.BLOCKING,
        "check failed: in every hour of a closed day the queues, the apps and the IPs each add up to no more than the "
        "account's total: 3 rows, 2026-03-14 (cut app, hours 1), 2026-03-14 (cut queue, hours 2), 2026-03-13 "
        "(cut queue, hours 1); "
        "these hours are unattributed, so every sum is right, only the breakdown is unknown. The next "
        "anticaptcha-etl sync requests them again; reconciliation_hourly shows what the queues report",
        DAY,
    )


def test_other_accounts_are_listed_by_name_and_only_when_all_accounts_are_checked(
    two_accounts: Insert, warehouse: sa.Engine
) -> None:
    two_accounts(day_coverage, day(14, account_id=2))
    two_accounts(over_allocated_hours, exceeding(14, 1, account_id=2))
    assert found(warehouse, "default") == []
    (finding,) = found(warehouse)
    assert "1 row, 2026-03-14 (account other, cut ip, hours 1);" in finding.message


def test_many_rows_are_counted_and_only_the_newest_are_listed(two_accounts: Insert, warehouse: sa.Engine) -> None:
    many = checks.MAX_SHOWN + 3
    two_accounts(day_coverage, *(day(number) for number in range(1, many + 1)))
    two_accounts(over_allocated_hours, *(exceeding(number, 0) for number in range(1, many + 1)))
    (finding,) = found(warehouse, "default")
    assert f"{many} rows, 2026-03-0{many} (cut queue, hours 1), " in finding.message
    assert finding.message.count("hours 1") == checks.MAX_SHOWN
    assert "2026-03-04 (cut queue, hours 1) and 3 more; these hours" in finding.message
    assert finding.day == date(2026, 3, many)


@pytest.mark.parametrize(
    "head", ["-- a", "-- a\n-- severity: note", "-- a\n-- remedy: b", "-- a\n-- severity: fatal\n-- remedy: b"]
)
def test_a_built_in_check_without_severity_or_remedy_is_rejected(head: str) -> None:
    with pytest.raises((KeyError, ValueError)):
        checks.parse("a", f"{head}\nselect 1 as account;")


# ---------------------------------------------------------------- the user's checks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own").mkdir()
    return tmp_path / "own"


@pytest.fixture
def own(two_accounts: Insert, warehouse: sa.Engine, folder: Path) -> Callable[[str], Finding]:
    """``own(sql)``: the finding of a file with this text, the only one."""

    def finding(sql: str) -> Finding:
        (folder / "my_own_check.sql").write_text(sql)
        (only,) = found(warehouse, "default", folder)
        return only

    return finding


def test_a_users_check_has_the_same_leading_comment(own: Callable[[str], Finding]) -> None:
    head = "-- accounts have\n-- no names\n-- severity: blocking\n-- remedy: rename\n-- them\n"
    finding = own(f"{head}select name as account, 0.000000001 as x, null as y from internal.accounts;")
    message = "check failed: accounts have no names: 1 row, x 0.000000001, y null; rename them"
    assert finding == Finding("my own check", Severity.BLOCKING, message)


def test_a_users_check_without_a_comment_is_a_warning_for_every_account(own: Callable[[str], Finding]) -> None:
    message = "check failed: my own check: 2 rows, account_id 1, account_id 2"
    assert own("select account_id from internal.accounts") == Finding("my own check", Severity.WARNING, message)


def test_a_users_check_ignores_rows_of_other_accounts(own: Callable[[str], Finding]) -> None:
    assert "1 row, n 1" in own("select name as account, 1 as n from internal.accounts").message


def test_now_is_the_current_time_in_utc_without_a_zone(own: Callable[[str], Finding], engine_name: str) -> None:
    function, type_name = {
        "duckdb": ("typeof", "TIMESTAMP"),
        "postgresql": ("pg_typeof", "timestamp without time zone"),
    }[engine_name]
    message = own(
        f"select :now as now, :now - interval '1 day' as before, {function}(:now) as kind, 'it:now' as text"
    ).message
    assert f"now 2026-03-15 00:00:00, before 2026-03-14 00:00:00, kind {type_name}, text it:now" in message


@pytest.mark.parametrize("quoted", ["' :now'", "'it''s :now'", "e'it\\'s :now'", "$$it's :now$$", "$a$ $$ :now$a$"])
def test_now_inside_a_string_a_name_or_a_comment_is_not_replaced(own: Callable[[str], Finding], quoted: str) -> None:
    comments = "-- it's :now\n/* don't, :now */"
    finding = own(f'select {quoted} as x, {comments} :now as y from (select 1 as ":now") where ":now" = 1')
    assert ":now, y 2026-03-15 00:00:00" in finding.message


ENDLESS = "generate_series(1, 300000) as a(n), generate_series(1, 300000) as b(n)"


@pytest.mark.parametrize(
    "sql",
    [
        f"select count(*) from {ENDLESS} where a.n + b.n = 3",
        "with recursive t as (select 1 as n union all select n + 1 from t) select max(n) from t",
        f"select 'other' as account from {ENDLESS}",
    ],
    ids=["join", "recursion", "rows of another account"],
)
def test_an_endless_check_of_the_user_is_stopped(
    two_accounts: Insert, own: Callable[[str], Finding], folder: Path, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    monkeypatch.setattr(checks, "MAX_SECONDS", 0.2)
    finding = own(sql)
    assert (finding.check, finding.severity) == ("my own check", Severity.WARNING)
    assert "can be run: it was stopped after 0.2 seconds; fix its file" in finding.message


@pytest.mark.parametrize("kind", ["date", "timestamp"])
def test_the_day_column_may_be_a_date_or_a_timestamp(own: Callable[[str], Finding], kind: str) -> None:
    finding = own(f"select cast('{DAY}' as {kind}) as day")
    assert finding.day == DAY
    assert type(finding.day) is date


def test_a_day_column_of_text_is_shown_like_other_columns(own: Callable[[str], Finding]) -> None:
    finding = own("select 'Monday' as day, chr(27) || '[2J' as steered")
    assert finding.day is None
    assert "day Monday, steered \\x1b[2J" in finding.message


def test_only_the_rows_a_finding_needs_are_read(own: Callable[[str], Finding]) -> None:
    assert f"more than {checks.MAX_ROWS:,} rows, n 0, " in own(f"select 0 as n from {ENDLESS}").message


@pytest.mark.parametrize(
    ("sql", "in_a_file", "on_a_server"),
    [
        ("select * from nowhere", "Table with name nowhere does not exist", 'relation "nowhere" does not exist'),
        ("selec 1", "syntax error", "SELEC is not allowed"),
        ("select 1 +", "syntax error", "syntax error"),
        ("", "the SQL is empty", "an empty query is not allowed"),
        ("select 1; select 2", "expected one statement, got 2", "multiple commands"),
        ("-- severity: fatal\nselect 1", *["severity 'fatal' is none of note, warning, blocking"] * 2),
        ("select cast(name as integer) from internal.accounts", "Could not convert string", "invalid input syntax"),
        ("delete from internal.accounts", *["DELETE is not allowed"] * 2),
        ("copy accounts to 'stolen.csv'", *["COPY is not allowed"] * 2),
        ("create table mine as select 1", *["CREATE is not allowed"] * 2),
        ("explain analyze delete from internal.accounts", *["read-only"] * 2),
        ("with gone as (delete from internal.accounts returning *) select * from gone", "read-only", "data-modifying"),
        ("select * from read_csv('/etc/passwd')", "disabled by configuration", "does not exist"),
        ("set enable_external_access = true", *["SET is not allowed"] * 2),
    ],
)
def test_sql_that_is_wrong_or_writes_is_a_warning_and_the_other_checks_still_run(
    two_accounts: Insert,
    own: Callable[[str], Finding],
    folder: Path,
    warehouse: sa.Engine,
    engine_name: str,
    sql: str,
    in_a_file: str,
    on_a_server: str,
) -> None:
    finding = own(sql)
    assert (finding.check, finding.severity) == ("my own check", Severity.WARNING)
    assert {"duckdb": in_a_file, "postgresql": on_a_server}[engine_name] in finding.message
    assert "\n" not in finding.message
    (folder / "z.sql").write_text("-- blocking or not\n-- severity: blocking\nselect 1 as one")
    two_accounts(day_coverage, day(14))
    two_accounts(over_allocated_hours, exceeding(14, 1))
    names = [finding.check for finding in found(warehouse, "default", folder)]
    assert names == ["members are within the total", "my own check", "z"]


def test_files_run_in_order_of_name_and_other_files_are_ignored(
    two_accounts: Insert, warehouse: sa.Engine, folder: Path
) -> None:
    for name in ("b.sql", "a.sql", ".a.sql", "c.sql~", "README"):
        (folder / name).write_text("select 1 as one")
    (folder / "d.sql").mkdir()
    (folder / "e.sql").write_bytes(b"\xff")
    checked = [finding.check for finding in found(warehouse, None, folder)]
    assert checked == ["a", "b", "d", "e"]


def test_a_missing_checks_folder_is_a_warning(two_accounts: Insert, warehouse: sa.Engine, folder: Path) -> None:
    (finding,) = found(warehouse, None, folder / "gone")
    assert finding.severity is Severity.WARNING
    assert f"{folder / 'gone'}" in finding.message
    assert "correct checks_folder" in finding.message
