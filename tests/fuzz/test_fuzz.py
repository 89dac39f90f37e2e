"""A few thousand random inputs of each door, others every day; ``make fuzz`` checks many more."""

from datetime import UTC, datetime

import pytest

from tests.fuzz.runs import DOORS, run

SEED = int(datetime.now(UTC).strftime("%Y%m%d")) * 1_000_000


@pytest.mark.parametrize("name", DOORS)
def test_no_input_crashes_the_program_or_breaks_a_promise(name: str) -> None:
    outcomes, failure = run(name, SEED, 1_500)
    assert failure is None, f"python -m tests.fuzz {name} --count 1 --seed {failure.seed}: {failure.reason}"
    assert outcomes.total() == 1_500
    assert len(outcomes) > 1
