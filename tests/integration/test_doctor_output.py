"""The output of doctor as text and JSON; it contains no secrets."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from etl.clock import Clock
from etl.maintenance.doctor_output import as_text, to_json
from etl.sandbox.behaviour import Behaviour
from tests.e2e.world import KEY, World
from tests.integration.doctor_world import diagnose, new_world

# ---------------------------------------------------------------- secrets


def test_no_secret_is_printed_or_exported(loaded: World) -> None:
    file = loaded.folder / "secret-place"
    file.write_text(KEY)
    environ = {"ANTICAPTCHA_CLIENT_KEY_FILE": str(file), "ANTICAPTCHA_API_URL": loaded.sandbox.url}
    output = "".join(
        show(diagnose(loaded, probe=probe, environ=environ)) for show in (as_text, to_json) for probe in (True, False)
    )
    [(salt, digest)] = loaded.rows("select key_salt, key_hash from internal.accounts")
    rows = repr(loaded.rows("select * from internal.probes"))
    assert not [
        trace for trace in (KEY, salt.hex(), digest.hex(), repr(salt), "secret-place") if trace in output + rows
    ]


def test_password_in_the_api_url_is_not_shown(tmp_path: Path) -> None:
    with new_world(tmp_path) as world:
        found = diagnose(
            world, environ={"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": "https://me:hush-hush@127.0.0.1:9"}
        )
        assert found.exit_code == 2
        assert "hush-hush" not in to_json(found) + as_text(found)


@pytest.mark.parametrize("arguments", [("-v",), ("--json", "-v"), ("--log-format", "json")])
def test_rejected_key_is_not_shown_in_any_output_mode(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with new_world(tmp_path, Behaviour(refused_keys=frozenset({KEY}))) as world:
        with world.command("doctor", "--probe", *arguments) as process:
            out, err = process.communicate(timeout=60)
        assert process.returncode == 3
        assert "ERROR_KEY_DOES_NOT_EXIST" in out
        assert KEY not in out + err


def test_traceback_does_not_contain_the_key(tmp_path: Path) -> None:
    program = "import etl.extract.protocol as protocol\nprotocol.encode_probe = lambda *_: 1 / 0\nfrom etl.cli import main\nmain()"
    with new_world(tmp_path) as world:
        environ = {"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": world.sandbox.url}
        command = [sys.executable, "-c", program, "doctor", "--probe"]
        process = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert process.returncode == 1
        assert "ZeroDivisionError" in process.stderr
        assert KEY not in process.stdout + process.stderr


# ---------------------------------------------------------------- output


def test_text_output_fits_80_columns_without_control_characters(tmp_path: Path) -> None:
    with new_world(tmp_path) as world:
        environ = {
            "ANTICAPTCHA_CLIENT_KEY": KEY,
            "ANTICAPTCHA_API_URL": world.sandbox.url,
            "ANTICAPTCHA_QUEUE": "a\x1b[31mred",
        }
        output = as_text(diagnose(world, probe=True, environ=environ))
        assert max(map(len, output.splitlines())) <= 80
        assert all(character.isprintable() or character == "\n" for character in output)


def test_json_has_every_setting_with_its_source_except_the_key(tmp_path: Path) -> None:
    (tmp_path / "anticaptcha-etl.toml").write_text("rate = 2\n")
    with new_world(tmp_path) as world:
        output = json.loads(to_json(diagnose(world, account="shop")))
        assert output["settings"]["rate"] == {"value": "2.0", "source": f"rate in {tmp_path}/anticaptcha-etl.toml"}
        assert output["settings"]["account"] == {"value": "shop", "source": "--account"}
        assert output["settings"]["lookback"] == {"value": "3", "source": "default"}
        assert "key" not in output["settings"]
        assert output["exit_code"] == 0
        assert set(output["advice"][0]) == {"name", "state", "found", "remedy", "exit_code"}


def test_quiet_prints_only_problems_that_need_attention(tmp_path: Path) -> None:
    with new_world(tmp_path) as world:
        world.now = Clock().now()  # a command has the machine's own clock
        with world.command("doctor", "--quiet") as process:
            assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 0
        with world.command("doctor", "--quiet", key=None) as process:
            assert "no client key" in process.communicate(timeout=60)[0]
        assert process.returncode == 2
