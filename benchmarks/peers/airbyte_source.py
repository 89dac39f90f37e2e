"""The backfill by PyAirbyte: a declarative source with concurrent partitions. Argument: the job, a JSON file."""

import json
import sys
from pathlib import Path
from typing import Any

import airbyte as ab
from airbyte.caches import DuckDBCache

ERROR = "{{ response.get('errorId') != 0 }}"


def manifest(job: dict[str, Any]) -> dict[str, Any]:
    """Return the source: days and queues are partitions, requested ``concurrency`` at a time."""
    retry = [{"type": "HttpResponseFilter", "action": "RETRY", "predicate": ERROR}] if job["checks_body"] else []
    handler = {"type": "DefaultErrorHandler", **({"response_filters": retry} if retry else {})}
    queue = "{{ stream_partition['queue'] }}"
    schema = {"queue": "string", "dateFrom": "integer", "dateTill": "integer", "volume": "integer", "money": "number"}
    return {
        "version": "7.0.0",
        "type": "DeclarativeSource",
        "check": {"type": "CheckStream", "stream_names": ["facts"]},
        "concurrency_level": {"type": "ConcurrencyLevel", "default_concurrency": job["concurrency"]},
        "spec": {"type": "Spec", "connection_specification": {"type": "object", "properties": {}}},
        "streams": [
            {
                "type": "DeclarativeStream",
                "name": "facts",
                "primary_key": ["queue", "dateFrom"],
                "retriever": {
                    "type": "SimpleRetriever",
                    "record_selector": {
                        "type": "RecordSelector",
                        "extractor": {"type": "DpathExtractor", "field_path": ["data"]},
                    },
                    "partition_router": [
                        {"type": "ListPartitionRouter", "cursor_field": name, "values": values}
                        for name, values in (("queue", job["queues"]), ("day", [str(day) for day in job["days"]]))
                    ],
                    "requester": {
                        "type": "HttpRequester",
                        "url_base": job["url"],
                        "path": "/getSpendingStats",
                        "http_method": "POST",
                        "request_body": {
                            "type": "RequestBodyJsonObject",
                            "value": {
                                "clientKey": "any",
                                "date": "{{ stream_partition['day'] | int }}",
                                "queue": "{{ stream_partition['queue'] or None }}",  # None is not sent
                            },
                        },
                        "error_handler": handler,
                    },
                },
                "transformations": [
                    {
                        "type": "AddFields",
                        "fields": [
                            {
                                "type": "AddedFieldDefinition",
                                "path": ["queue"],
                                "value": queue,
                                "value_type": "string",
                            }
                        ],
                    }
                ],
                "schema_loader": {
                    "type": "InlineSchemaLoader",
                    "schema": {
                        "type": "object",
                        "properties": {name: {"type": ["null", kind]} for name, kind in schema.items()},
                    },
                },
            }
        ],
    }


def main(path: str) -> None:
    job = json.loads(Path(path).read_text())
    source = ab.get_source("source-spending", config={}, source_manifest=manifest(job), streams=["facts"])
    cache = DuckDBCache(db_path=Path(path).with_name("warehouse.duckdb"), cache_dir=Path(path).with_name("files"))
    source.read(cache, write_strategy="merge", skip_validation=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
