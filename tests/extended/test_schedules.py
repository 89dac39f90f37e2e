"""The files of ``deploy/`` for Kubernetes, Airflow and containers: checked by the schema, run by Airflow, run as a script."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_all import variables, world_today, write_config
from tests.extended.environment import environment
from tests.postgres import migrated, new_database, run_sql

pytestmark = pytest.mark.extended

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CONTAINER = DEPLOY / "Containerfile"
NAMES = ("shop", "lab", "archive", "studio")


@pytest.fixture(scope="module")
def programs() -> Path:
    return environment("schedules", (3, 10), (3, 13))


def test_kubernetes_accepts_the_manifest(programs: Path) -> None:
    command = [str(programs / "kubernetes-validate"), "--strict", str(DEPLOY / "kubernetes.yaml")]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_airflow_syncs_all_accounts_in_shards_and_checks_them(programs: Path, tmp_path: Path) -> None:
    warehouse = new_database(like=migrated())
    with world_today(tmp_path, days=3) as world:
        write_config(world, NAMES)
        path = os.pathsep.join((str(programs), str(Path(sys.executable).parent), os.defpath))
        airflow = {
            "PATH": path,
            "HOME": str(tmp_path),
            "AIRFLOW_HOME": str(tmp_path / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DEPLOY),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
            "ANTICAPTCHA_CONFIG": str(tmp_path / "anticaptcha-etl.toml"),
            "ANTICAPTCHA_WAREHOUSE": warehouse,
        }
        settings = variables(world, NAMES, **airflow)
        for command in ("db migrate", "dags test anticaptcha_spending 2026-11-20"):
            finished = subprocess.run(
                ["airflow", *command.split()], cwd=tmp_path, env=settings, capture_output=True, text=True, check=False
            )
            assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    assert "state=success" in finished.stdout + finished.stderr
    done = run_sql(warehouse, "select account from sync_runs where exit_code = 0 order by account")
    assert done == [(name,) for name in sorted(NAMES)]


def test_the_steps_of_the_container_give_a_program_that_works(tmp_path: Path) -> None:
    """Run the first stage of the Containerfile as a script, with its folders below ``tmp_path``."""
    source, target = tmp_path / "src", tmp_path / "opt"
    source.mkdir()
    first_stage = CONTAINER.read_text().split("\nFROM ")[1]
    path = os.pathsep.join((str(target / "bin"), str(Path(sys.executable).parent), os.defpath))
    for line in first_stage.replace("/opt/anticaptcha-etl", str(target)).splitlines():
        instruction, _, arguments = line.partition(" ")
        if instruction == "COPY":
            *names, place = arguments.split()
            for name in names:
                copied = source / (name if place != "./" else Path(name).name)
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, copied)
                else:
                    shutil.copy(ROOT / name, copied)
        elif instruction == "RUN":
            environment_ = {"PATH": path, "HOME": str(tmp_path), **_pip_settings()}
            finished = subprocess.run(
                arguments, shell=True, cwd=source, env=environment_, capture_output=True, text=True, check=False
            )
            assert finished.returncode == 0, f"{line}\n{finished.stdout}{finished.stderr}"
    shutil.rmtree(source)
    demo = [str(target / "bin" / "anticaptcha-etl"), "demo"]
    finished = subprocess.run(
        demo, env={"PATH": path, "HOME": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


def _pip_settings() -> dict[str, str]:
    """How pip reaches its packages on this machine."""
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
