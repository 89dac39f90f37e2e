"""Airflow DAG: a nightly sync of all configured accounts, in parallel shards, then the checks.

Workers need the program, ANTICAPTCHA_WAREHOUSE, ANTICAPTCHA_CONFIG and the accounts' keys. Adding accounts does not
move others to another shard. With a warehouse on a server all shards share one rate limit.
"""

import os
import subprocess
from datetime import UTC, datetime, timedelta

from airflow.exceptions import AirflowException, AirflowFailException
from airflow.sdk import dag, task

SHARDS = 4
NO_RETRY = {2: "usage or configuration error", 3: "account rejected by the API", 5: "a blocking check failed"}
"""Exit codes that a retry does not fix; 1 and 4 may be temporary."""


def run(*arguments: str, **environment: str) -> None:
    code = subprocess.run(["anticaptcha-etl", *arguments], env={**os.environ, **environment}, check=False).returncode
    command = f"anticaptcha-etl {' '.join(arguments)}"
    if code in NO_RETRY:
        raise AirflowFailException(f"{command}: {NO_RETRY[code]} (exit code {code}); see the log above")
    if code:
        raise AirflowException(f"{command}: exit code {code}; will be retried")


@dag(
    schedule="20 1 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["spending"],
)
def anticaptcha_spending() -> None:
    @task(retries=3, retry_delay=timedelta(minutes=10))
    def sync(shard: int) -> None:
        run("sync", "--all", "--quiet", ANTICAPTCHA_SHARD=f"{shard}/{SHARDS}")

    @task(trigger_rule="all_done")
    def check() -> None:
        run("check")

    sync.expand(shard=list(range(SHARDS))) >> check()


anticaptcha_spending()
