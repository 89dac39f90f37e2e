"""A Superset server on loopback, with its metadata in a folder of the test, used through its REST API."""

import os
import re
import subprocess
import threading
import time
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

_TIMEOUT_SECONDS = 300
_CONFIG = """
SECRET_KEY = "for one test on one machine; protects nothing"
SQLALCHEMY_DATABASE_URI = "sqlite:///{folder}/superset.db"
WTF_CSRF_ENABLED = False
TALISMAN_ENABLED = False
JWT_ACCESS_TOKEN_EXPIRES = 86400
"""
ADMIN = {
    "username": "admin",
    "password": "for one test",
    "firstname": "A",
    "lastname": "Person",
    "email": "admin@localhost",
}


class Superset:
    """One server process with several threads, running inside a ``with`` block, in the time zone of New York."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        config = self._folder / "superset_config.py"
        config.write_text(_CONFIG.format(folder=self._folder))
        environ = {"HOME": str(self._folder), "SUPERSET_HOME": str(self._folder), "SUPERSET_CONFIG_PATH": str(config)}
        environ |= {"FLASK_APP": "superset.app:create_app()", "TZ": "America/New_York", "PATH": os.defpath}
        for arguments in (["db", "upgrade"], ["fab", "create-admin", *_options()], ["init"]):
            command = [str(self._programs / "superset"), *arguments]
            done = subprocess.run(
                command,
                cwd=self._folder,
                env=environ,
                check=False,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_SECONDS,
            )
            assert done.returncode == 0, done.stderr
        with ExitStack() as resources:
            log = self._folder / "log"
            command = [str(self._programs / "gunicorn"), "--bind=127.0.0.1:0", "--worker-class=gthread", "--threads=4"]
            server = subprocess.Popen(
                [*command, f"--timeout={_TIMEOUT_SECONDS}", environ["FLASK_APP"]],
                cwd=self._folder,
                env=environ,
                stdout=subprocess.DEVNULL,
                stderr=resources.enter_context(log.open("w")),
            )
            resources.callback(server.wait)
            resources.callback(server.terminate)
            self._http = resources.enter_context(
                httpx.Client(base_url=_address(log), timeout=_TIMEOUT_SECONDS, trust_env=False)
            )
            credentials = {"username": ADMIN["username"], "password": ADMIN["password"], "provider": "db"}
            self._http.headers["Authorization"] = f"Bearer {self.post('security/login', credentials)['access_token']}"
            self._closing = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def post(self, path: str, body: object) -> Any:
        return self._json(self._http.post(path, json=body))

    def upload(self, path: str, field: str, archive: bytes, **fields: str) -> Any:
        """Import a ZIP archive."""
        return self._json(self.try_upload(path, field, archive, **fields))

    def try_upload(self, path: str, field: str, archive: bytes, **fields: str) -> httpx.Response:
        return self._http.post(path, files={field: ("bundle.zip", archive)}, data=fields)

    def delete(self, path: str) -> Any:
        return self._json(self._http.delete(path))

    def put(self, path: str, body: object) -> Any:
        return self._json(self._http.put(path, json=body))

    @property
    def address(self) -> str:
        """Of its pages, without a slash at the end."""
        return str(self._http.base_url).removesuffix("/api/v1/")

    def try_post(self, path: str, body: object) -> httpx.Response:
        return self._http.post(path, json=body)

    def get(self, path: str) -> Any:
        return self._json(self._http.get(path))

    def _json(self, response: httpx.Response) -> Any:
        assert response.is_success, f"{response.request.url}: {response.status_code} {response.text}"
        return response.json(parse_float=Decimal)


def _options() -> list[str]:
    return [word for name, value in ADMIN.items() for word in (f"--{name}", value)]


def _address(log: Path) -> str:
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while not (found := re.search(r"Listening at: (http://127\.0\.0\.1:\d+)", log.read_text())):
        assert time.monotonic() < deadline, log.read_text()
        threading.Event().wait(0.1)
    return f"{found[1]}/api/v1/"
