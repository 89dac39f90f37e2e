"""Request windows from the API: planning, rate limit, HTTP, parsing of its JSON."""

import sys

# httpx imports its own command line, and with it rich and pygments: 0.1 of the 0.6 seconds of all imports (measured).
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
