"""A short form of `make lake`, on a local folder."""

from pathlib import Path

import pytest

from tests.chaos.lake import run


@pytest.mark.slow
def test_shards_that_are_killed_while_they_ship_leave_the_api_s_data_in_the_lake(tmp_path: Path) -> None:
    result = run(tmp_path, str(tmp_path / "lake"), 6, shards=3, nights=2, kills=4, seed=1)
    assert result.wrong == ()
    assert result.shipments >= 6
