"""A headless Chromium without network, spoken to in its own protocol: no package stands between."""

import base64
import re
import shutil
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
MISSING = "needs Chromium and its driver (Debian: apt install chromium chromium-driver)"

_SECONDS = 60
_ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
]


class Browser:
    """One window, from ``with`` to the end of the block. The network is off; files of this machine can be opened."""

    def __init__(self) -> None:
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            driver = opened.enter_context(
                subprocess.Popen(
                    [str(DRIVER), "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
                )
            )
            opened.callback(driver.terminate)
            port = next(
                found[1] for line in driver.stdout or () if (found := re.search(r"successfully on port (\d+)", line))
            )
            base = f"http://127.0.0.1:{port}"
            self._http = opened.enter_context(httpx.Client(base_url=base, timeout=_SECONDS, trust_env=False))
            options = {"binary": CHROMIUM, "args": [*_ARGUMENTS, "--host-resolver-rules=MAP * ~NOTFOUND"]}
            logging_setup = {"browser": "ALL", "performance": "ALL"}
            wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": logging_setup}
            answer = self._http.post("/session", json={"capabilities": {"alwaysMatch": wanted}}).json()
            self._session = f"/session/{answer['value']['sessionId']}"
            opened.callback(self._http.delete, self._session)
            self._closing = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def _do(self, path: str, body: object) -> Any:
        answer = self._http.post(self._session + path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]

    def command(self, name: str, **given: object) -> Any:
        """A command of the DevTools protocol."""
        return self._do("/goog/cdp/execute", {"cmd": name, "params": given})

    def look(self, width: int, *, dark: bool) -> None:
        """From now on through a screen of that width."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, file: Path) -> None:
        self._do("/url", {"url": file.as_uri()})

    def ask(self, script: str) -> Any:
        """What a function body of JavaScript returns."""
        return self._do("/execute/sync", {"script": script, "args": []})

    def wait_for(self, script: str) -> None:
        until = time.monotonic() + _SECONDS
        while not self.ask(script):
            assert time.monotonic() < until, f"never came true: {script}; the console says {self.log('browser')}"
            threading.Event().wait(0.05)

    def move_to(self, x: float, y: float) -> None:
        """The pointer, over a point of the window."""
        self.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def log(self, kind: str) -> list[str]:
        """What was said since last asked: ``browser`` is the console, ``performance`` the DevTools events as JSON."""
        return [entry["message"] for entry in self._do("/se/log", {"type": kind})]

    def picture(self) -> bytes:
        return base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"])
