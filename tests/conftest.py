"""Settings and fixtures for all tests.

Tests marked ``contract`` run on a DuckDB file and on a PostgreSQL server; those also marked ``of_the_file`` only on the
file. On a server most of them are ``long``.
"""

import logging
from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import settings

from etl.load import accounts
from etl.secret import Secret

settings.register_profile("default_without_deadline", deadline=None)  # a busy machine makes any example slow
settings.load_profile("default_without_deadline")


RUN_ON_POSTGRESQL_BY_DEFAULT = (
    ".test_ledger",
    ".test_lock",
    ".test_nightly",
    ".test_report",
    ".test_status",
    ".test_vendor",
    ".test_views",
)
"""Modules that every test run also runs on PostgreSQL; `make test-postgres` runs all of them."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run contract tests that use a warehouse on each engine."""
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    if "contract" in marks and "engine_name" in metafunc.fixturenames:
        marks_for_server = [] if metafunc.module.__name__.endswith(RUN_ON_POSTGRESQL_BY_DEFAULT) else [pytest.mark.long]
        on_server = pytest.param("postgresql", marks=[pytest.mark.server, *marks_for_server])
        engines = ["duckdb"] if "of_the_file" in marks else ["duckdb", on_server]
        metafunc.parametrize("engine_name", engines, indirect=True)


@pytest.fixture
def engine_name(request: pytest.FixtureRequest) -> str:
    """The engine of the test's warehouse: ``duckdb`` or ``postgresql``."""
    return str(getattr(request, "param", "duckdb"))


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    """Undo the logging setup of a command that the test ran in this process."""
    loggers = [logging.getLogger(), logging.getLogger("etl")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    root = loggers[0]
    root.handlers = [handler for handler in root.handlers if handler.name != "etl.logging_setup"]
    logging.captureWarnings(capture=False)


@pytest.fixture(autouse=True, scope="session")
def _remember_hashes_of_keys() -> Iterator[None]:
    """A hash costs 50 ms on purpose, and the syncs of a test have the same key and salt."""
    hash_key = accounts.hash_key
    remembered = cache(lambda key, salt: hash_key(Secret(key), salt))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts, "hash_key", lambda key, salt: remembered(key.get_secret_value(), salt))
        yield
