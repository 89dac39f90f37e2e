"""Every night all accounts of the TOML, in parts that run side by side, then the checks: a file for Airflow's folder of DAGs.

Workers need the program, and of its settings ANTICAPTCHA_WAREHOUSE, ANTICAPTCHA_CONFIG and the variables or files of the keys. An
account stays in its part when others come.
"""

import os
import subprocess
from datetime import UTC, datetime, timedelta

from airflow.exceptions import AirflowException, AirflowFailException
from airflow.sdk import dag, task

PARTS = 4
FOR_A_PERSON = {
    2: "usage or configuration",
    3: "an account is refused",
    5: "a blocking check: look before trusting the numbers",
}
"""Exit codes that another try does not mend; 1 and 4 it may."""


def run(*words: str, **environ: str) -> None:
    code = subprocess.run(["anticaptcha-etl", *words], env={**os.environ, **environ}, check=False).returncode
    if code in FOR_A_PERSON:
        raise AirflowFailException(
            f"anticaptcha-etl {' '.join(words)}: {FOR_A_PERSON[code]} (exit code {code}); see the log above"
        )
    if code:
        raise AirflowException(f"anticaptcha-etl {' '.join(words)} ended with exit code {code}; it is tried again")


@dag(
    schedule="20 1 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["spending"],
)
def anticaptcha_spending() -> None:
    @task(retries=3, retry_delay=timedelta(minutes=10))
    def sync(part: int) -> None:
        run("sync", "--all", "--quiet", ANTICAPTCHA_SHARD=f"{part}/{PARTS}")

    @task(trigger_rule="all_done")
    def check() -> None:
        run("check")

    sync.expand(part=list(range(PARTS))) >> check()


anticaptcha_spending()
