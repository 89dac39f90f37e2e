"""Asking the service: what next, at what pace, and what came."""

import sys

# httpx would bring a command line of its own, and with that rich and pygments: 0.1 of the 0.6 seconds that imports
# take.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
