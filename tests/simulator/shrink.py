"""Find the shortest life that fails in the same way: fewer nights, then fewer events."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from tests.simulator.life import LifeError, play
from tests.simulator.nights import EVENTS, Life, account_of, night_of

Play = Callable[[Life], object]


def failure_of(life: Life, run: Play = play) -> LifeError | None:
    try:
        run(life)
    except LifeError as error:
        return error
    return None


def shrink(error: LifeError, run: Play = play, most: int = 150) -> LifeError:
    """Return the failure of the shortest life found; at most ``most`` lives are played."""
    best, left = error, [most]

    def still_fails(life: Life) -> bool:
        nonlocal best
        if left[0] <= 0:
            return False
        left[0] -= 1
        found = failure_of(life, run)
        if found is None or found.kind != error.kind:
            return False
        best = found
        return True

    life = error.life
    if error.night <= life.nights:  # what comes after the failure is not needed
        life = replace(life, nights=error.night, undisturbed=0)
        if not still_fails(life):
            life = error.life
    life = _without(life, [f"{number}:all" for number in range(1, min(error.night, life.nights))], still_fails)
    _without(life, _events(life), still_fails)
    return best


def _events(life: Life) -> list[str]:
    """The events of the nights that are left."""
    account = account_of(life)
    found = []
    for number in range(1, life.nights + 1):
        if f"{number}:all" not in life.without:
            night = night_of(life, account, number)
            names = (f"{number}:{event}" for event in EVENTS)
            found += [name for name in names if night_of(_with(life, [name]), account, number) != night]
    return found


def _with(life: Life, names: Iterable[str]) -> Life:
    return replace(life, without=life.without | {*names})


def _without(life: Life, names: Sequence[str], still_fails: Callable[[Life], bool]) -> Life:
    """Leave out as many as possible: halves first, then smaller parts."""
    size = len(names)
    remaining = list(names)
    while size:
        for start in range(0, len(remaining), size):
            part = remaining[start : start + size]
            if part and still_fails(_with(life, part)):
                life = _with(life, part)
        remaining = [name for name in remaining if name not in life.without]
        size //= 2
    return life
