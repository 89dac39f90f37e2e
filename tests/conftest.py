"""For every test: how long an example takes is no promise, and on a busy machine no fact; and no test hears less than the next."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("house", deadline=None)
settings.load_profile("house")


@pytest.fixture(autouse=True)
def _levels_of_logs() -> Iterator[None]:
    """A command that a test runs in this process may have been a quiet one."""
    loggers = [logging.getLogger(), logging.getLogger("etl")]
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)
