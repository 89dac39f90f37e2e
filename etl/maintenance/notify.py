"""Tells a monitor how a sync ended: the second door to the network, and none through which a run can fail."""

import logging
import threading

import httpx

from etl.models import Secret

log = logging.getLogger(__name__)

MOST_SECONDS = 10.0
"""From the name's look-up to the answer's status, however slowly they come."""

MOST_CHARS = 10_000


def ping(url: Secret, exit_code: int, text: str, *, seconds: float = MOST_SECONDS) -> None:
    """POSTs ``text`` to ``url`` when ``exit_code`` is 0, else to ``url``/fail, as healthchecks and its like expect it.

    Asked once, redirects are not followed, certificates are verified. Raises nothing: what goes wrong is one warning, without
    the URL, for who knows it can say that all is well.
    """
    troubles = ["no answer in time"]

    def ask() -> None:
        troubles[:] = _asked(url.get_secret_value(), "" if exit_code == 0 else "/fail", text, seconds)

    asking = threading.Thread(target=ask, name="ping", daemon=True)  # no deadline of a socket covers a name's look-up
    try:
        asking.start()
        asking.join(seconds)
    except (KeyboardInterrupt, RuntimeError):  # whoever interrupts now wants to leave; or there are no more threads
        troubles = ["it was broken off"]
    for failure in troubles:
        log.warning("the ping was not delivered: %s; the sync itself is not touched by that", failure)


def _asked(url: str, signal: str, text: str, seconds: float) -> list[str]:
    """What went wrong, if anything did."""
    try:
        place = httpx.URL(url)
        if signal:
            place = place.copy_with(path=place.path.rstrip("/") + signal)
        is_here = place.host in ("localhost", "::1") or place.host.startswith("127.")
        with (
            httpx.Client(timeout=seconds, follow_redirects=False, trust_env=not is_here) as http,
            http.stream(
                "POST", place, content=text[:MOST_CHARS].encode(), headers={"Content-Type": "text/plain"}
            ) as response,
        ):
            return [] if response.is_success else [f"it was answered with HTTP {response.status_code}"]
    except httpx.TransportError as error:
        return [f"{type(error).__name__}: {error}"]
    except Exception as error:  # noqa: BLE001  # whatever it is, the sync is done; its text may quote the URL
        return [type(error).__name__]
