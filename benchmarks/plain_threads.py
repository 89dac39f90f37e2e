"""The floor for a whole process: plain threads with http.client that read every response. Arguments: JOB CONCURRENCY.

The job is a JSON file: a URL and the bodies to send. Nothing else is imported, so that startup costs nothing.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit


def main(path: str, concurrency: str) -> None:
    job = json.loads(Path(path).read_text())
    address = urlsplit(job["url"])
    bodies = [json.dumps(body) for body in job["bodies"]]

    def request(number: int) -> int:
        connection = HTTPConnection(address.hostname or "", address.port)
        records = 0
        for body in bodies[number :: int(concurrency)]:
            connection.request("POST", "/getSpendingStats", body, {"Content-Type": "application/json"})
            records += len(json.loads(connection.getresponse().read())["data"])
        connection.close()
        return records

    with ThreadPoolExecutor(int(concurrency)) as pool:
        print(json.dumps({"records": sum(pool.map(request, range(int(concurrency))))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
