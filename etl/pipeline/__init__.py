"""The hall: three kinds of hands around one mind, and the only room that knows both ends.

    run      asks the walk what is next, takes answers in, folds them, tells the walk
    pool     threads of the client that only ask: one window out, one answer back
    write    one thread that only writes: commits what has come in, rows and ledger together

    side_by_side   every account of the TOML, each with a mind and hands of its own

Answers asked but not yet committed never exceed twice the concurrency; that is the most a crash repeats.
"""

from etl.pipeline.hall import plan, sync
from etl.pipeline.words import Ended, Forecast, Progress, ProgressOfAll, Summary, Together

__all__ = ["Ended", "Forecast", "Progress", "ProgressOfAll", "Summary", "Together", "plan", "sync"]
