"""A headless Chromium without network, driven through its WebDriver protocol without a package."""

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

_TIMEOUT_SECONDS = 60
_ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
]


class Browser:
    """One window, open inside a ``with`` block. It reaches no other machine, but files and servers of this one."""

    def __init__(self) -> None:
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            driver = resources.enter_context(
                subprocess.Popen(
                    [str(DRIVER), "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
                )
            )
            resources.callback(driver.terminate)
            port = next(
                found[1] for line in driver.stdout or () if (found := re.search(r"successfully on port (\d+)", line))
            )
            base = f"http://127.0.0.1:{port}"
            self._http = resources.enter_context(httpx.Client(base_url=base, timeout=_TIMEOUT_SECONDS, trust_env=False))
            options = {
                "binary": CHROMIUM,
                "args": [*_ARGUMENTS, "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
            }
            log_levels = {"browser": "ALL", "performance": "ALL"}
            capabilities = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": log_levels}
            response = self._http.post("/session", json={"capabilities": {"alwaysMatch": capabilities}}).json()
            self._session = f"/session/{response['value']['sessionId']}"
            resources.callback(self._http.delete, self._session)
            self._closing = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def _post(self, path: str, body: object) -> Any:
        response = self._http.post(self._session + path, json=body)
        assert response.status_code == 200, response.text
        return response.json()["value"]

    def command(self, name: str, **parameters: object) -> Any:
        """Run a command of the DevTools protocol."""
        return self._post("/goog/cdp/execute", {"cmd": name, "params": parameters})

    def look(self, width: int, *, dark: bool) -> None:
        """Use a screen of this width in pixels and this color scheme."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, file: Path) -> None:
        self._post("/url", {"url": file.as_uri()})

    def open_url(self, url: str) -> None:
        self._post("/url", {"url": url})

    def evaluate(self, script: str) -> Any:
        """Run the body of a JavaScript function and return its value."""
        return self._post("/execute/sync", {"script": script, "args": []})

    def wait_for(self, script: str) -> None:
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while not self.evaluate(script):
            assert time.monotonic() < deadline, f"never true: {script}; console: {self.log('browser')}"
            threading.Event().wait(0.05)

    def move_to(self, x: float, y: float) -> None:
        """Move the pointer to a point of the window."""
        self.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def log(self, kind: str) -> list[str]:
        """Return new messages: ``browser`` is the console, ``performance`` the DevTools events as JSON."""
        return [entry["message"] for entry in self._post("/se/log", {"type": kind})]

    def picture(self) -> bytes:
        return base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"])
