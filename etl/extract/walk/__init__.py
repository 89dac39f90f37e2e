"""What to ask next: the mind of the program, pure.

    state = begin(wishes, held)
    state, step = next(state, room)            what to ask now; or wait for an answer; or done
    state = judge(state, reading, verdict)     what the answer says of its name
    state = tell(state, reading, verdict)      what the answer, and the fold of its day, taught

Of answers that came at one moment, ``together`` says which are judged and told on one fold.

The walk goes backward, newest day first, one UTC day a window. Each question has its file:

    course     which day is next, and when is it over?
    day        what does this day want to ask now?
    names      which queues, apps and addresses are worth asking, likely, believed?
    state      the words: Wishes, Held, Plan, State and the steps
    forecast   what would a run ask?

The first request of an account's life is a total. Once a total holds spend, a queue that cannot exist is asked, before any
that may; and before the first app or address one that cannot exist. Each of these goes alone.
"""

from etl.extract.walk.course import ALIKE, FAILED, begin, is_lesson, judge, lost, next, see_anew, tell, together
from etl.extract.walk.forecast import Expected, forecast
from etl.extract.walk.names import CATALOGUE, NO_SUCH, Names, tells_price, with_day, with_trust
from etl.extract.walk.state import FLOOR, NO_SPEND_FACTOR, Ask, Done, Held, Plan, State, Step, Wait, Why, Wishes

__all__ = [
    "ALIKE", "CATALOGUE", "FAILED", "FLOOR", "NO_SPEND_FACTOR", "NO_SUCH", "Ask", "Done", "Expected", "Held", "Names",
    "Plan", "State", "Step", "Wait", "Why", "Wishes", "begin", "forecast", "is_lesson", "judge", "lost", "next", "see_anew",
    "tell", "tells_price", "together", "with_day", "with_trust",
]  # fmt: skip
