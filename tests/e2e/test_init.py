"""Set-up by questions or options: files that work at once, a key that only its owner reads, nothing half done."""

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from jsonschema import Draft202012Validator

from etl.maintenance import first_setup
from etl.sandbox.behaviour import Fault, FaultKind
from tests.e2e.test_all import world_today
from tests.e2e.world import World
from tools.json_schemas import SCHEMAS

KEY = "a-key-that-must-stay-secret-0123456789"
PROGRAM = Path(sys.executable).with_name("anticaptcha-etl")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with world_today(tmp_path, days=3) as world:
        yield world


def init(world: World, monkeypatch: pytest.MonkeyPatch, *options: str, key: str = KEY) -> int:
    """``init --yes`` with a key on standard input and none in the environment."""
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{key}\n"))
    return world.run("init", "--yes", *options, ANTICAPTCHA_CLIENT_KEY="", ANTICAPTCHA_WAREHOUSE="")


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_options_write_a_configuration_and_a_key_file_that_a_sync_can_use(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(world, monkeypatch, "--account", "shop", "--timezone", "Asia/Kolkata", "--sync") == 0
    shown = capsys.readouterr()
    assert KEY not in shown.out + shown.err
    assert "The API accepts the key." in shown.out
    assert "Synced shop" in shown.out
    assert (world.folder / "shop.key").read_text() == f"{KEY}\n"
    assert (world.folder / "shop.key").stat().st_mode & 0o777 == 0o600
    assert tomllib.loads((world.folder / "anticaptcha-etl.toml").read_text()) == {
        "account": "shop",
        "warehouse": "warehouse.duckdb",
        "timezone": "Asia/Kolkata",
        "api_url": world.sandbox.url,
        "accounts": {"shop": {"client_key_file": "shop.key"}},
    }
    assert world.run("sync", ANTICAPTCHA_CLIENT_KEY="", ANTICAPTCHA_WAREHOUSE="") == 0


def test_the_result_as_json(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(world, monkeypatch, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    Draft202012Validator(SCHEMAS["init"]).validate(found)
    assert (found["account"], found["sync_exit_code"]) == ("default", None)


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [("", 2, "is empty"), ("two words", 2, "contains a space"), ('"quoted"', 2, "in quotes")],
)
def test_a_text_that_is_no_key_is_refused_before_anything_is_written(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    code: int,
    message: str,
) -> None:
    assert init(world, monkeypatch, key=text) == code
    assert message in capsys.readouterr().err
    assert files(world.folder) == set()


def test_a_key_that_the_api_refuses_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with world_today(tmp_path, days=1) as world:
        world.sandbox.faults = (Fault(FaultKind.REFUSE_KEY, rate=1),)
        assert init(world, monkeypatch) == 3
        assert "ERROR_KEY_DOES_NOT_EXIST" in capsys.readouterr().err
        assert files(tmp_path) == set()
        assert len(world.sandbox.requests) == 1


def test_without_a_network_nothing_is_written_unless_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with world_today(tmp_path, days=1) as world:
        pass
    assert init(world, monkeypatch) == 2
    assert "--no-check" in capsys.readouterr().err
    assert files(tmp_path) == set()
    assert init(world, monkeypatch, "--no-check") == 0
    assert files(tmp_path) == {"anticaptcha-etl.toml", "default.key"}


def test_nothing_is_overwritten_without_force(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (world.folder / "default.key").write_text("mine")
    assert init(world, monkeypatch) == 2
    assert "hint: edit it, or replace it with --force" in capsys.readouterr().err
    assert files(world.folder) == {"default.key"}
    assert init(world, monkeypatch, "--force") == 0
    assert (world.folder / "default.key").read_text() == f"{KEY}\n"


def test_a_folder_that_cannot_be_written_leaves_no_file(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (world.folder / "file").write_text("")
    assert init(world, monkeypatch, "--key-file", "file/key") == 2
    assert "cannot write" in capsys.readouterr().err
    assert files(world.folder) == {"file"}


@pytest.mark.parametrize("name", ["данные", 'with "quotes"', "a b", "back\\slash"])
def test_any_account_name_works(world: World, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert init(world, monkeypatch, "--account", name, "--sync") == 0


def test_paths_are_right_from_another_folder(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert init(world, monkeypatch, "--config", "etc/etl.toml", "--warehouse", "data.duckdb", "--sync") == 0
    assert (world.folder / "data.duckdb").is_file()
    assert (world.folder / "etc" / "default.key").is_file()


def test_a_replaced_configuration_keeps_what_is_not_answered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert init(world, monkeypatch, "--account", "shop", "--warehouse", "data.duckdb", "--sync") == 0
    assert init(world, monkeypatch, "--force", "--sync") == 0
    assert tomllib.loads((world.folder / "anticaptcha-etl.toml").read_text())["account"] == "shop"
    assert not (world.folder / "warehouse.duckdb").exists()


@pytest.mark.parametrize("is_systemd", [True, False])
def test_the_nightly_lines_are_for_the_scheduler_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_systemd: bool
) -> None:
    monkeypatch.setattr(first_setup, "_SYSTEMD", tmp_path if is_systemd else tmp_path / "missing")
    scheduler, lines = first_setup.nightly_lines("/opt/100 %/etl", Path("/srv/a b/etl.toml"))
    assert ("systemctl --user enable --now" in lines) is is_systemd
    assert ("ExecStart='/opt/100 %%/etl' --config '/srv/a b/etl.toml'" in lines) is is_systemd
    if not is_systemd:
        assert lines == r"15 3 * * * '/opt/100 \%/etl' --config '/srv/a b/etl.toml' sync --quiet"
    assert scheduler.split()[0] == ("systemd" if is_systemd else "cron")


class Dialogue:
    """The program in a terminal."""

    def __init__(self, world: World) -> None:
        self.primary, secondary = pty.openpty()
        environment = {"HOME": str(world.folder), "ANTICAPTCHA_API_URL": world.sandbox.url, "PATH": os.defpath}
        self.process = subprocess.Popen(
            [PROGRAM, "init"], cwd=world.folder, env=environment, stdin=secondary, stdout=secondary, stderr=secondary
        )
        os.close(secondary)
        self.shown = ""

    def wait_for(self, text: str) -> None:
        until = time.monotonic() + 60
        while text not in self.shown:
            assert time.monotonic() < until, self.shown
            if select.select([self.primary], [], [], 0.1)[0]:
                self.shown += os.read(self.primary, 4096).decode()

    def answer(self, question: str, text: str) -> None:
        self.wait_for(question)
        os.write(self.primary, text.encode())


def test_questions_appear_in_a_terminal_and_the_key_is_not_shown(world: World) -> None:
    dialogue = Dialogue(world)
    dialogue.answer("Account name [default]: ", "\n")
    dialogue.answer("not shown): ", f"{KEY}\n")
    dialogue.answer("[warehouse.duckdb]: ", "\n")
    dialogue.answer("want to see [", "Mars/Base\n")
    dialogue.answer("IANA", "Europe/Istanbul\n")
    dialogue.answer("first sync now? [Y/n]: ", "\n")
    dialogue.wait_for("next: anticaptcha-etl status\r\n\r\nTo sync")
    dialogue.wait_for("sync --quiet")
    assert dialogue.process.wait(30) == 0
    assert KEY not in dialogue.shown
    assert re.search(r"Plan for default: \d+ days", dialogue.shown)
    assert files(world.folder) >= {"anticaptcha-etl.toml", "default.key", "warehouse.duckdb"}


@pytest.mark.parametrize("question", ["Account name", "not shown): ", "want to see ["])
def test_ctrl_c_leaves_nothing(world: World, question: str) -> None:
    dialogue = Dialogue(world)
    for one, text in (
        ("Account name", "\n"),
        ("not shown): ", f"{KEY}\n"),
        ("[warehouse.duckdb]: ", "\n"),
        ("want to see [", "\n"),
    ):
        if one == question:
            dialogue.wait_for(one)
            threading.Event().wait(0.5)  # a signal that arrives before the program reads would have to wait for a key
            dialogue.process.send_signal(signal.SIGINT)
            break
        dialogue.answer(one, text)
    assert dialogue.process.wait(30) == 130
    assert files(world.folder) == set()
    assert urlsplit(world.sandbox.url).port
    assert world.sandbox.requests == ()
