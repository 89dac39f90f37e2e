"""Tell a monitoring service how a sync ended. Nothing here can make a run fail."""

import logging
import threading

import httpx

from etl.secret import Secret

log = logging.getLogger(__name__)

TIMEOUT = 10.0
"""Seconds for everything, DNS included."""
MAX_CHARS = 10_000


def ping(url: Secret, exit_code: int, text: str, *, timeout: float = TIMEOUT) -> None:
    """POST ``text`` to ``url`` if ``exit_code`` is 0, otherwise to ``url``/fail (healthchecks.io's convention).

    Sent once; redirects are not followed, certificates are verified. Raises nothing: a failure is one line in the log,
    without the URL, because anyone with the URL can report success.
    """
    failures = ["no response in time"]

    def send() -> None:
        failures[:] = _post(url.get_secret_value(), "" if exit_code == 0 else "/fail", text, timeout)

    sender = threading.Thread(target=send, name="ping", daemon=True)  # socket timeouts do not cover DNS lookups
    try:
        sender.start()
        sender.join(timeout)
    except (KeyboardInterrupt, RuntimeError):  # the user wants to leave, or no thread can be started
        failures = ["interrupted"]
    for failure in failures:
        log.error("the ping was not delivered: %s; the sync itself is not affected", failure)


def _post(url: str, suffix: str, text: str, timeout: float) -> list[str]:
    """Return what went wrong, if anything."""
    try:
        target = httpx.URL(url)
        if suffix:
            target = target.copy_with(path=target.path.rstrip("/") + suffix)
        is_local = target.host in ("localhost", "::1") or target.host.startswith("127.")
        headers, content = {"Content-Type": "text/plain"}, text[:MAX_CHARS].encode()
        with (
            httpx.Client(timeout=timeout, follow_redirects=False, trust_env=not is_local) as http,
            http.stream("POST", target, content=content, headers=headers) as response,
        ):
            return [] if response.is_success else [f"HTTP {response.status_code}"]
    except httpx.TransportError as error:
        return [f"{type(error).__name__}: {error}"]
    except Exception as error:  # noqa: BLE001  # the sync is done whatever happens here; the text may quote the URL
        return [type(error).__name__]
