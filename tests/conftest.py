"""For every test: how long an example takes is no promise, and on a busy machine no fact; and no test hears less than
the next.

Promises of the contract are kept by both engines: their tests are run on a DuckDB file and on a PostgreSQL server.
They say
``pytestmark = pytest.mark.contract``; what is about the file itself is marked ``of_the_file``. On a server most of them
are ``long``.
"""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("house", deadline=None)
settings.load_profile("house")


SHORT = (".test_ledger", ".test_lock", ".test_nightly", ".test_report", ".test_status", ".test_vendor", ".test_views")
"""Modules that every run of the tests sees on a server too; `make test-postgres` sees all."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """On the engines, where a test is of the contract and has a warehouse."""
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    if "contract" in marks and "kept_in" in metafunc.fixturenames:
        takes_long = [] if metafunc.module.__name__.endswith(SHORT) else [pytest.mark.long]
        on_a_server = pytest.param("postgresql", marks=[pytest.mark.server, *takes_long])
        engines = ["duckdb"] if "of_the_file" in marks else ["duckdb", on_a_server]
        metafunc.parametrize("kept_in", engines, indirect=True)


@pytest.fixture
def kept_in(request: pytest.FixtureRequest) -> str:
    """The engine that a test keeps its warehouse in."""
    return str(getattr(request, "param", "duckdb"))


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """A command that a test runs in this process sends its lines where they go now, and may have been a quiet one."""
    loggers = [logging.getLogger(), logging.getLogger("etl")]
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)
    root = loggers[0]
    root.handlers = [handler for handler in root.handlers if handler.name != "etl.logging_setup"]
    logging.captureWarnings(capture=False)
