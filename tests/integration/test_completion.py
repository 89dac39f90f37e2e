"""Completion in the shells themselves. Shells that this machine lacks are skipped."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("anticaptcha-etl")

SHELLS = {
    "bash": (["--norc", "-i"], 'eval "$(anticaptcha-etl completion bash)"'),
    "zsh": (["-f", "-i"], 'autoload -Uz compinit; compinit -u; eval "$(anticaptcha-etl completion zsh)"'),
    "fish": (["--no-config", "-i"], "anticaptcha-etl completion fish | source"),
}


class Terminal:
    """An interactive shell with completion set up."""

    def __init__(self, shell: str, folder: Path) -> None:
        options, setup = SHELLS[shell]
        self.primary, secondary = pty.openpty()
        environment = {"PATH": f"{PROGRAM.parent}:/usr/bin:/bin", "HOME": str(folder), "TERM": "dumb"}
        command = ["setsid", "--ctty", shutil.which(shell) or shell, *options]  # fish needs a terminal of its own
        self.process = subprocess.Popen(
            command, stdin=secondary, stdout=secondary, stderr=secondary, cwd=folder, env=environment
        )
        os.close(secondary)
        os.write(self.primary, f"{setup}; echo rea''dy\n".encode())
        assert self.shows("ready", "")

    def shows(self, text: str, keys: str) -> bool:
        """Type ``keys`` and wait until the terminal shows ``text``."""
        os.write(self.primary, keys.encode())
        shown, until = "", time.monotonic() + 30
        while text not in shown and time.monotonic() < until:
            if select.select([self.primary], [], [], 0.1)[0]:
                shown += os.read(self.primary, 4096).decode(errors="replace")
        return text in shown

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.primary)


@pytest.fixture(params=SHELLS)
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    if not shutil.which(request.param):
        pytest.skip(f"{request.param} is not installed")
    (tmp_path / "anticaptcha-etl.toml").write_text("[accounts.agency-7]\nclient_key_file = 'key'\n")
    opened = Terminal(request.param, tmp_path)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("keys", "completed"),
    [
        ("anticaptcha-etl stat\t", "anticaptcha-etl status"),
        ("anticaptcha-etl export out --view spending_by_a\t", "spending_by_app_daily"),
        ("anticaptcha-etl query @cookbook/month_to_date_w\t", "@cookbook/month_to_date_with_forecast"),
        ("anticaptcha-etl status --account ag\t", "agency-7"),
    ],
)
def test_a_shell_completes_commands_views_queries_and_accounts(terminal: Terminal, keys: str, completed: str) -> None:
    assert terminal.shows(completed, keys)
