"""The files in ``deploy/`` are valid for systemd and cron, and their commands work under the same restrictions."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etl.config import PREFIX, SETTINGS
from etl.sandbox.dataset import Dataset
from tests.e2e.world import WITHOUT_RETRIES, World

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
SERVICE = DEPLOY / "systemd" / "anticaptcha-etl.service"
TIMER = SERVICE.with_suffix(".timer")
CRON = DEPLOY / "anticaptcha-etl.cron"
CONTAINER = DEPLOY / "Containerfile"
PROGRAM = Path(sys.executable).with_name("anticaptcha-etl")
INSTALLED = "/opt/anticaptcha-etl/bin/anticaptcha-etl"
SECRET = "Qz7-unmistakable-client-key-9f3K"

DENY_WRITE_EXECUTE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1
if libc.prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0):
    sys.exit("this kernel cannot deny memory that is written to and run")
os.execv(sys.argv[1], sys.argv[1:])
"""


def needs(command: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(command) is None, reason=f"{command} is not installed here")


def setting_values(unit: Path, name: str) -> list[str]:
    """Return the values of a setting of a unit, in order."""
    lines = [line.partition("=") for line in unit.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return [value for key, _, value in lines if key == name]


def environ(folder: Path, key: Path) -> dict[str, str]:
    """Return the service's environment with systemd's specifiers filled in."""
    pairs = (line.split("=", 1) for line in setting_values(SERVICE, "Environment"))
    filled = {
        name: value.replace("%S/anticaptcha-etl", str(folder)).replace("%d", str(key.parent)) for name, value in pairs
    }
    assert not any("%" in value for value in filled.values())
    return filled


# ---------------------------------------------------------------- systemd


@needs("systemd-analyze")
def test_systemd_accepts_the_service_and_the_timer(tmp_path: Path) -> None:
    for unit in (SERVICE, TIMER):
        (tmp_path / unit.name).write_text(unit.read_text().replace(INSTALLED, str(PROGRAM)))
    arguments = ["systemd-analyze", "verify", "--man=no", str(tmp_path / SERVICE.name), str(tmp_path / TIMER.name)]
    finished = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if "Failed to" in finished.stderr and "unit" not in finished.stderr:
        pytest.skip(f"systemd-analyze cannot look at units here: {finished.stderr.strip()}")
    assert (finished.returncode, finished.stderr) == (0, "")


@needs("systemd-analyze")
def test_service_has_a_low_exposure_score() -> None:
    arguments = ["systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", str(SERVICE)]
    finished = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if "unrecognized option" in finished.stderr:
        pytest.skip("this systemd-analyze cannot look at a file that is not installed")
    assert finished.returncode == 0, finished.stdout + finished.stderr


@needs("systemd-analyze")
def test_timer_runs_at_a_utc_time() -> None:
    [when] = setting_values(TIMER, "OnCalendar")
    finished = subprocess.run(["systemd-analyze", "calendar", when], capture_output=True, text=True, check=True)
    assert re.search(r"Normalized form: \*-\*-\* 03:15:00 UTC", finished.stdout)


@pytest.mark.parametrize(
    "name", ["NoNewPrivileges", "PrivateTmp", "ProtectHome", "MemoryDenyWriteExecute", "DynamicUser"]
)
def test_service_hardening_options_are_on(name: str) -> None:
    assert setting_values(SERVICE, name) == ["yes"]
    assert setting_values(SERVICE, "ProtectSystem") == ["strict"]


def test_service_retries_only_what_may_be_temporary() -> None:
    assert setting_values(SERVICE, "RestartPreventExitStatus") == ["2 3 5"]
    assert setting_values(SERVICE, "SuccessExitStatus") == ["130"]  # not 1: a crash of the program also ends with 1


@pytest.mark.parametrize(
    "setting", [*setting_values(SERVICE, "Environment"), *re.findall(rf"^{PREFIX}.*", CRON.read_text(), re.MULTILINE)]
)
def test_every_variable_in_deploy_is_a_setting(setting: str) -> None:
    known = {one.variable for one in SETTINGS.values()} | {f"{PREFIX}CLIENT_KEY_FILE"}
    assert setting.partition("=")[0] in known


# ---------------------------------------------------------------- commands


def run(world: World, arguments: list[str], variables: Mapping[str, str]) -> "subprocess.CompletedProcess[bytes]":
    variables = {
        **variables,
        "ANTICAPTCHA_API_URL": world.sandbox.url,
        "ANTICAPTCHA_RATE": "0",
        "ANTICAPTCHA_EMPTY_DAYS": "3",
    }
    alone: dict[str, Any] = {"stdin": subprocess.DEVNULL, "start_new_session": True}  # no terminal
    return subprocess.run(
        arguments, capture_output=True, env=variables, cwd=world.folder, timeout=120, check=False, **alone
    )


def world_today(folder: Path) -> World:
    """Return a world at the current time, which subprocesses use."""
    now = datetime.now(UTC)
    return World(
        folder, Dataset.always_active(begins=now.date() - timedelta(days=2), queues=2), WITHOUT_RETRIES, now=now
    )


def key_in(folder: Path) -> Path:
    folder.mkdir()
    key = folder / "client-key"
    key.write_text(f"{SECRET}\n")
    key.chmod(0o400)
    return key


def test_service_command_works_with_its_own_environment_only(tmp_path: Path) -> None:
    [command] = setting_values(SERVICE, "ExecStart")
    program, *arguments = shlex.split(command)
    assert program == INSTALLED
    state = tmp_path / "state"
    state.mkdir()
    key = key_in(tmp_path / "credentials")
    with world_today(state) as world:
        finished = run(world, [str(PROGRAM), *arguments], environ(state, key))
        assert finished.returncode == 0, finished.stderr
        assert world.one("select count(*) from spending_hourly") > 0
        assert b"ignored" not in finished.stderr


@needs("setpriv")
@needs("unshare")
def test_commands_work_without_privileges_on_a_read_only_system(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    key = key_in(tmp_path / "credentials")
    mounts = [
        "mount --make-rprivate /",
        f"mount --bind {state} {state}",
        "mount -o remount,bind,ro /",
        f"cd {state}",
        "umask 077",
    ]
    prepare = f"{' && '.join(mounts)} && exec "
    restricted = [
        "setpriv",
        "--no-new-privs",
        "--bounding-set=-all",
        "--inh-caps=-all",
        sys.executable,
        "-c",
        DENY_WRITE_EXECUTE,
    ]
    in_namespace = ["unshare", "--mount", "--ipc", "sh", "-c"]
    trial = subprocess.run(
        [*in_namespace, f"{prepare} {shlex.join([*restricted, '/bin/true'])}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if trial.returncode:
        pytest.skip(f"namespaces are not available here: {trial.stderr.strip()}")
    with world_today(state) as world:
        for arguments in (
            ["sync"],
            ["sync"],
            ["status"],
            ["check"],
            ["query", "select count(*) from internal.day_coverage", "-o", "days.csv"],
        ):
            finished = run(
                world,
                [*in_namespace, prepare + shlex.join([*restricted, str(PROGRAM), *arguments])],
                environ(state, key),
            )
            assert finished.returncode == 0, finished.stderr
        assert world.one("select count(*) from spending_hourly") > 0


# ---------------------------------------------------------------- cron and the container


def test_cron_file_is_valid_and_its_command_works(tmp_path: Path) -> None:
    text = CRON.read_text()
    assert text.endswith("\n")  # cron ignores a last line without a newline
    [line] = [
        line for line in text.splitlines() if line and not line.startswith("#") and not re.match(r"[A-Z_]+=", line)
    ]
    fields = line.split(maxsplit=6)
    assert all(re.fullmatch(r"\*|\d+", field) for field in fields[:5])
    assert fields[5] == "etl"
    command = fields[6]
    assert "%" not in command  # cron turns it into a newline
    assert "--quiet" in command
    key = key_in(tmp_path / "credentials")
    state = tmp_path / "state"
    state.mkdir()
    with world_today(state) as world:
        installed = command.replace("/srv/anticaptcha", str(state)).replace(INSTALLED, str(PROGRAM))
        variables = {"ANTICAPTCHA_CLIENT_KEY_FILE": str(key), "ANTICAPTCHA_WAREHOUSE": str(state / "warehouse.duckdb")}
        finished = run(world, ["/bin/sh", "-c", installed], variables)
        assert (finished.returncode, finished.stdout, finished.stderr) == (0, b"", b"")
        assert world.one("select count(*) from spending_hourly") > 0


def test_container_runs_unprivileged_with_locked_dependencies() -> None:
    text = CONTAINER.read_text()
    assert "--require-hashes -r requirements.lock" in text
    assert re.search(r"^USER (?!0|root)\d+", text, re.MULTILINE)
    assert text.index("USER ") < text.index("ENTRYPOINT")
    root = DEPLOY.parent
    for sources in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.MULTILINE):
        assert all((root / source).exists() for source in sources.split())
