"""SQL given to ``query``: it reads the warehouse and nothing else, and changes nothing."""

import hashlib
import os
import random
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar

import duckdb

from etl.warehouse.reading import Reader, SqlError, open_for_reading
from etl.warehouse.sql_guard import refusal
from tests.fuzz.door import Door, require
from tests.integration.sample_warehouse import FILLED
from tests.migrated_file import copy_migrated

SECRET = "canary-7d1f"
"""In a file, in a variable and in the name of a file outside the warehouse; no statement may show it."""

STATEMENTS_PER_OPENING = 500
MAX_ROWS = 200
MAX_SECONDS = 5.0

VIEWS = (
    "spending_hourly",
    "spending_daily",
    "coverage_daily",
    "spending_total_hourly",
    "internal.accounts",
    "internal.facts",
)
ATTACKS = (
    "read_csv('{file}')", "read_text('{file}')", "read_blob('{file}')", "'{file}'", "read_csv_auto(['{file}'])", "glob('{folder}/*')",
    "read_parquet('{file}')", "read_json('{file}')", "read_json_objects('{file}')", "parquet_metadata('{file}')", "sniff_csv('{file}')",
    "'{folder}/other.duckdb'", "read_csv('http://127.0.0.1:{port}/x')", "read_text('file://{file}')", "read_csv('/proc/self/environ')",
    "duckdb_secrets()", "pragma_database_list()", "duckdb_settings()", "sqlite_scan('{file}', 't')", "postgres_scan('host=127.0.0.1 port={port}', 'a', 'b')",
    "query('select * from read_text(''{file}'')')", "query_table('internal.accounts')", "duckdb_extensions()", "duckdb_logs()",
)  # fmt: skip
EXPRESSIONS = (
    "getenv('FUZZ_CANARY')", "getvariable('x')", "current_setting('home_directory')", "current_database()", "version()", "1 / 0", "'x'::date",
    "sum(money)", "count(*)", "max(day)", "repeat('x', 1000000)", "list_transform([1], x -> x)", "regexp_matches('a', '(')", "nextval('s')",
    "md5_number('x')", "row(1, 2)", "{{'a': 1}}", "map([1], [2])", "interval 1 hour", "date '9999-12-31' + 1", "9223372036854775807 + 1", "uuid()",
    "random()", "write_log('x')", "pg_read_file('{file}')", "error('x')", "cast('Corrupt' as integer)", "sleep_ms(1)", "txid_current()",
)  # fmt: skip
OTHERS = (
    "copy (select 1) to '{new}'", "copy internal.facts to '{new}'", "attach '{new}' as x", "attach '{folder}/other.duckdb' as x", "install httpfs",
    "load httpfs", "set enable_external_access = true", "reset enable_external_access", "set lock_configuration = false", "pragma database_list",
    "export database '{folder}/exported'", "import database '{folder}'", "create table t (i int)", "create temp table t as select 1", "drop view spending_daily",
    "delete from internal.facts", "update internal.accounts set name = 'x'", "insert into internal.facts select * from internal.facts", "truncate internal.facts",
    "checkpoint", "vacuum", "begin", "commit", "prepare p as select 1", "execute p", "deallocate p", "create secret (type s3)", "use memory", "detach warehouse",
    "call pragma_version()", "create macro m() as 1", "set variable x = 1", "explain analyze delete from internal.facts", "explain copy (select 1) to '{new}'",
    "with a as (delete from internal.facts returning *) select * from a", "merge into internal.facts using (select 1) on false when not matched then insert default values",
    "alter table internal.facts add column x int", "comment on table internal.facts is 'x'", "describe internal.facts", "show tables", "summarize spending_daily",
    "pragma enable_profiling", "set profiling_output = '{new}'", "set temp_directory = '{folder}'", "set log_query_path = '{new}'", "pivot spending_daily on queue using sum(money)",
    "from spending_daily", "values (1), (2)", "table spending_daily", "show databases", "pragma show_tables", "select * from spending_daily; drop view spending_daily", ";", "",
)  # fmt: skip
BEFORE = ("", "-- x", "/* ; */")
AFTER = (";", "; select 1", " -- end", "/*", "\0", "\u202e")
CORRECT = "select sum(volume), sum(money) from spending_hourly"


class Sql(Door):
    name: ClassVar = "sql"
    default_count: ClassVar = 100_000

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._outside = folder / "outside"
        self._outside.mkdir()
        self._secret_file = self._outside / "secret.csv"
        self._secret_file.write_text(f"a,b\n{SECRET},2\n", "utf-8")
        self._file = copy_migrated(folder / "warehouse.duckdb")
        self._fill()
        shutil.copy(self._file, self._outside / "other.duckdb")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        os.environ["FUZZ_CANARY"] = SECRET  # noqa: TID251 - SQL tries to read it
        self._places = {
            "file": self._secret_file, "folder": self._outside, "new": self._outside / "new.csv", "port": self._listener.getsockname()[1],
        }  # fmt: skip
        self._state = self._look()
        self._stack = ExitStack()
        self._reader: Reader | None = None
        self._left = 0

    def _fill(self) -> None:
        with duckdb.connect(self._file) as connection:
            connection.execute(FILLED)

    def _look(self) -> dict[str, str]:
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    # -- inputs

    def make(self, source: random.Random) -> bytes:
        kind = source.randrange(10)
        if kind == 0:
            return CORRECT.encode()
        text = self._select(source, 2) if kind < 7 else source.choice(OTHERS)
        for name, place in self._places.items():
            text = text.replace("{" + name + "}", str(place))
        text = text.replace("{{", "{").replace("}}", "}")
        if source.random() < 0.15:
            text = f"{source.choice(BEFORE)}\n{text}{source.choice(AFTER)}"
        if source.random() < 0.25:
            words = text.split(" ")
            at, other = source.randrange(len(words)), source.randrange(len(words))
            words[at], words[other] = source.choice((words[other], "", "(", "select", "null")), words[at]
            text = " ".join(words)
        return text.encode(errors="surrogatepass")

    def _select(self, source: random.Random, depth: int) -> str:
        columns = ", ".join(source.choice(("*", *EXPRESSIONS)) for _ in range(source.choice((1, 1, 2))))
        if source.random() < 0.15:
            return f"select {columns}"
        table = source.choice((*VIEWS, *ATTACKS))
        if depth and source.random() < 0.3:
            table = f"({self._select(source, depth - 1)}) as t{depth}"
        end = source.choice(
            ("", "", " limit 3", " where true", " group by all", " order by 1", f" union all {self._select(source, 0)}")
        )
        return f"{source.choice(('', '', 'with x as (select 1) ', 'explain ', 'from x '))}select {columns} from {table}{end}"

    # -- what must be true

    def check(self, content: bytes) -> str:
        sql = content.decode(errors="surrogatepass")
        reader = self._open()
        if refusal(sql, reader):
            return "refused"
        try:
            with _limited(reader), reader.stream(sql) as result:
                rows = result.fetch(MAX_ROWS)
        except SqlError as error:
            require(SECRET not in str(error) or SECRET in sql, "an error shows nothing from outside the warehouse")
            reader.recover()
            return "error"
        require(SECRET not in repr(rows), "no byte from outside the warehouse is read")
        if sql == CORRECT:
            require(tuple(map(str, rows[0])) == ("432", "144.000000144"), "a correct query returns the right sums")
        return "rows"

    def _open(self) -> Reader:
        if self._left <= 0 or self._reader is None:
            self.finish()
            self._reader = self._stack.enter_context(open_for_reading(f"duckdb:///{self._file}"))
            self._left = STATEMENTS_PER_OPENING
        self._left -= 1
        return self._reader

    def finish(self) -> None:
        self._stack.close()
        self._reader = None
        require(self._look() == self._state, "no file is created or changed")
        try:
            self._listener.accept()
        except BlockingIOError:
            return
        require(condition=False, promise="no connection is made")

    def close(self) -> None:
        self._stack.close()
        self._listener.close()


@contextmanager
def _limited(reader: Reader) -> Iterator[None]:
    timer = threading.Timer(MAX_SECONDS, reader.stop)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
