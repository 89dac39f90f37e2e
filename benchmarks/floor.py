"""The floor for requests: threads of one httpx client and a Decimal parse; nothing planned, checked or stored."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import httpx

from benchmarks.service import Account


def main(url: str, concurrency: str, *account: str) -> int:
    account_ = Account(*map(int, account))
    limits = httpx.Limits(max_connections=int(concurrency), max_keepalive_connections=int(concurrency))
    with httpx.Client(limits=limits, trust_env=False) as client, ThreadPoolExecutor(int(concurrency)) as pool:

        def ask(question: dict[str, object]) -> int:
            answer = client.post(f"{url}/getSpendingStats", content=json.dumps(question))
            return len(json.loads(answer.content, parse_float=Decimal)["data"])

        midnights = [
            int((account_.now.replace(hour=0, minute=0) - timedelta(days=age)).timestamp())
            for age in range(account_.days)
        ]
        questions: list[dict[str, object]] = [{"clientKey": "any", "date": midnight} for midnight in midnights]
        questions += [{**total, "queue": name} for total in questions for name in account_.dataset.names]
        print(json.dumps({"requests": len(questions), "records": sum(pool.map(ask, questions))}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
