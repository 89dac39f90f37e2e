"""Write ``deploy/superset/anticaptcha_etl/``: a dashboard that Superset 6 imports, over a published copy.

The files are JSON, which is also YAML, so Superset reads them and no package is needed to write them.
"""

import json
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from etl.outputs import cookbook
from etl.warehouse import views

FOLDER = Path(__file__).resolve().parents[1] / "deploy" / "superset" / "anticaptcha_etl"

URI = "duckdb:////srv/bi/warehouse.duckdb?access_mode=read_only"
"""The published copy of the documentation. Superset asks for no password with it."""

VERSION = "1.0.0"
"""Superset's version of the format."""

TITLE = "Anti-Captcha spending"
DATABASE = "Anti-Captcha published copy"
"""Superset replaces a connection of the same name when it imports the bundle, so no other has this name."""
FORECAST = "month_to_date_with_forecast"
TIMES = ("day", "newest_day", "month")

Json = dict[str, Any]

MONEY = "$,.2f"
PRICE = "$,.4f"

METRICS: dict[str, dict[str, tuple[str, str, str]]] = {
    "spending_daily": {
        "spend": ("sum(money)", "Spend", MONEY),
        "tasks": ("sum(volume)", "Tasks", ",d"),
        "price_per_1000": ("1000 * sum(money) / nullif(sum(volume), 0)", "Price per 1000", PRICE),
    },
    "coverage_daily": {
        "spend": ("sum(money)", "Spend", MONEY),
        "unattributed": ("sum(unattributed_money)", "Unattributed", MONEY),
        "unattributed_share": ("sum(unattributed_money) / nullif(sum(money), 0)", "Unattributed share", ".2%"),
        "days": ("count(*)", "Days", ",d"),
        "days_to_repair": (
            "count(case when status in ('missing', 'failed') then 1 end)",
            "Days to sync again",
            ",d",
        ),
    },
    FORECAST: {
        "spend_so_far": ("sum(money_so_far)", "Month so far", MONEY),
        "forecast_sum": ("case when count(forecast) = count(*) then sum(forecast) end", "Month forecast", MONEY),
    },
}
"""Metrics by dataset and name: SQL, label, number format."""

FORECAST_MONEY = ("money_so_far", "forecast_low", "forecast", "forecast_high")
FORECAST_COLUMNS = {
    "account": "the account's name",
    "month": "first day of the newest month with data, UTC",
    "newest_day": "newest UTC day that was read; it may still be running",
    "money_so_far": "US dollars of the month so far, exact",
    "forecast_low": "US dollars of the whole month if each coming day is as cheap as one in ten",
    "forecast": "US dollars of the whole month if each coming day is as usual; null if a weekday has no data",
    "forecast_high": "US dollars of the whole month if each coming day is as expensive as one in ten",
}

COLORS = {"final": "#4e79a7", "open": "#a0cbe8", "missing": "#f28e2b", "failed": "#e15759", "(unattributed)": "#b0b0b0"}


class Chart(NamedTuple):
    """A chart: its place in the dashboard's grid of 12 columns, its dataset, and Superset's own parameters."""

    name: str
    width: int
    height: int
    dataset: str
    kind: str
    params: Json


TIME_RANGE = {
    "clause": "WHERE",
    "expressionType": "SIMPLE",
    "subject": "day",
    "operator": "TEMPORAL_RANGE",
    "comparator": "No filter",
}
"""A filter that the dashboard's time filter replaces."""

ATTRIBUTED = {"clause": "WHERE", "expressionType": "SQL", "sqlExpression": "queue <> '(unattributed)'"}

BARS, LINES = "echarts_timeseries_bar", "echarts_timeseries_line"


def _tile(name: str, dataset: str, metric: str, subtitle: str) -> Chart:
    params = {
        "metric": metric,
        "y_axis_format": METRICS[dataset][metric][2],
        "subtitle": subtitle,
        "adhoc_filters": [] if dataset == FORECAST else [TIME_RANGE],
        "header_font_size": 0.4,
        "subtitle_font_size": 0.15,
    }
    return Chart(name, 3, 18, dataset, "big_number_total", params)


def _over_time(metric: str, by: list[str], grain: str, axis: str, number_format: str, **more: object) -> Json:
    return {
        "x_axis": "day",
        "time_grain_sqla": grain,
        "metrics": [metric],
        "groupby": by,
        "stack": "Stack" if by else None,
        "row_limit": 50_000,
        "show_legend": True,
        "legendOrientation": "top",
        "rich_tooltip": True,
        "x_axis_time_format": "%Y-%m-%d",
        "tooltipTimeFormat": "%Y-%m-%d",
        "truncateYAxis": False,
        "y_axis_title": axis,
        "y_axis_title_margin": 60,
        "y_axis_title_position": "Left",
        "y_axis_format": number_format,
        "adhoc_filters": [TIME_RANGE],
        **more,
    }


def _table(mode: str, **params: object) -> Json:
    return {"query_mode": mode, "show_cell_bars": False, "row_limit": 1000, **params}


PRICES = {"stack": None, "y_axis_bounds": [0, None], "adhoc_filters": [TIME_RANGE, ATTRIBUTED]}
QUEUES = _table(
    "aggregate",
    groupby=["account", "queue"],
    metrics=["spend", "tasks", "price_per_1000"],
    timeseries_limit_metric="spend",
    order_desc=True,
    adhoc_filters=[TIME_RANGE],
)
MONTHS = _table(
    "raw",
    all_columns=[*FORECAST_COLUMNS],
    order_by_cols=['["money_so_far", false]'],
    table_timestamp_format="%Y-%m-%d",
    column_config={column: {"d3NumberFormat": MONEY} for column in FORECAST_MONEY},
    adhoc_filters=[],
)
DAILY, WEEKLY = "P1D", "P1W"

CHARTS = [
    _tile("Month so far", FORECAST, "spend_so_far", "spent in the newest month"),
    _tile("Month forecast", FORECAST, "forecast_sum", "expected for the whole month"),
    _tile("Unattributed", "coverage_daily", "unattributed_share", "of the spend has no known queue"),
    _tile("Days to sync again", "coverage_daily", "days_to_repair", "missing or failed"),
    Chart(
        *("Spend by queue", 12, 50, "spending_daily", BARS),
        _over_time("spend", ["queue"], DAILY, "US dollars a day", "$,.0f"),
    ),
    Chart(
        *("Price per 1000 tasks", 6, 50, "spending_daily", LINES),
        _over_time("price_per_1000", ["queue"], WEEKLY, "US dollars, by week", "$,.2f", **PRICES),
    ),
    Chart("Queues", 6, 50, "spending_daily", "table", QUEUES),
    Chart("Month to date, with forecast", 12, 26, FORECAST, "table", MONTHS),
    Chart(
        *("Unattributed spend", 6, 40, "coverage_daily", BARS),
        _over_time("unattributed", [], DAILY, "US dollars a day", "$,.2~f"),
    ),
    Chart(
        *("Coverage", 6, 40, "coverage_daily", BARS),
        _over_time("days", ["status"], WEEKLY, "days in a week, all accounts", ",d"),
    ),
]
"""In the order of the dashboard; rows are filled from the left."""


def files() -> dict[Path, str]:
    """The bundle's files by path."""
    everything: dict[str, Json] = {
        "metadata": {"version": VERSION, "type": "Dashboard", "timestamp": "2026-11-28T00:00:00+00:00"},
        f"databases/{_file(DATABASE)}": _database(),
        f"dashboards/{_file(TITLE)}": _dashboard(),
    }
    for name in METRICS:
        everything[f"datasets/{_file(DATABASE)}/{name}"] = _dataset(name)
    for chart in CHARTS:
        everything[f"charts/{_file(chart.name)}"] = _chart(chart)
    return {FOLDER / f"{path}.yaml": json.dumps(body, indent=2) + "\n" for path, body in everything.items()}


def _file(name: str) -> str:
    return name.lower().replace(",", "").replace(" ", "_").replace("-", "_")


def _uuid(kind: str, name: str) -> str:
    """The same for ever, so that a newer bundle replaces the objects of an older one."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"anticaptcha-etl/superset/{kind}/{name}"))


def _database() -> Json:
    return {
        "database_name": DATABASE,
        "sqlalchemy_uri": URI,
        "cache_timeout": None,
        "expose_in_sqllab": True,
        "allow_run_async": False,
        "allow_ctas": False,
        "allow_cvas": False,
        "allow_dml": False,
        "allow_file_upload": False,
        "extra": {"allows_virtual_table_explore": True},
        "uuid": _uuid("database", DATABASE),
        "version": VERSION,
    }


def _dataset(name: str) -> Json:
    sql = sql_of(name) if name == FORECAST else None
    return {
        "table_name": name,
        "main_dttm_col": None if sql else "day",
        "description": _description(name),
        "schema": "main",
        "sql": sql,
        "filter_select_enabled": True,
        "uuid": _uuid("dataset", name),
        "metrics": [
            {"metric_name": metric, "verbose_name": label, "expression": expression, "d3format": number_format}
            for metric, (expression, label, number_format) in METRICS[name].items()
        ],
        "columns": [
            {
                "column_name": column,
                "verbose_name": column.replace("_", " ").capitalize(),
                "description": comment,
                "type": "DATE" if column in TIMES else None,
                "is_dttm": column in TIMES,
                "is_active": True,
                "groupby": True,
                "filterable": True,
            }
            for column, comment in _columns(name).items()
        ],
        "database_uuid": _uuid("database", DATABASE),
        "version": VERSION,
    }


def sql_of(name: str) -> str:
    """A saved query, to be used within another."""
    return cookbook.find(name).sql.rstrip().removesuffix(";")


def _columns(name: str) -> Mapping[str, str]:
    return FORECAST_COLUMNS if name == FORECAST else _view(name).columns


def _description(name: str) -> str:
    return cookbook.find(name).grain if name == FORECAST else _view(name).comment


def _view(name: str) -> views.View:
    return next(view for view in views.public_views() if view.name == name)


def _chart(chart: Chart) -> Json:
    return {
        "slice_name": chart.name,
        "viz_type": chart.kind,
        "params": {"viz_type": chart.kind, **chart.params},
        "cache_timeout": None,
        "uuid": _uuid("chart", chart.name),
        "dataset_uuid": _uuid("dataset", chart.dataset),
        "version": VERSION,
    }


def _dashboard() -> Json:
    return {
        "dashboard_title": TITLE,
        "description": "UTC days, US dollars. The numbers are those of the published copy.",
        "slug": "anticaptcha",
        "published": True,
        "uuid": _uuid("dashboard", TITLE),
        "position": _positions(),
        "metadata": {
            "color_scheme": "supersetColors",
            "label_colors": COLORS,
            "cross_filters_enabled": True,
            "native_filter_configuration": [
                _native_filter("Days", "filter_time", {}, {"defaultToFirstItem": False}),
                _native_filter("Account", "filter_select", _target("account"), {"multiSelect": True}),
                _native_filter("Queue", "filter_select", _target("queue"), {"multiSelect": True}),
            ],
        },
        "version": VERSION,
    }


def _target(column: str) -> Json:
    return {"datasetUuid": _uuid("dataset", "spending_daily"), "column": {"name": column}}


def _native_filter(name: str, kind: str, target: Json, settings: Json) -> Json:
    return {
        "id": f"NATIVE_FILTER-{name.lower()}",
        "name": name,
        "filterType": kind,
        "type": "NATIVE_FILTER",
        "targets": [target],
        "scope": {"rootPath": ["ROOT_ID"], "excluded": []},
        "controlValues": {"enableEmptyFilter": False, **settings},
        "defaultDataMask": {"extraFormData": {}, "filterState": {}},
        "cascadeParentIds": [],
    }


def _positions() -> Json:
    places: Json = {
        "DASHBOARD_VERSION_KEY": "v2",
        "ROOT_ID": {"type": "ROOT", "id": "ROOT_ID", "children": ["GRID_ID"]},
        "HEADER_ID": {"type": "HEADER", "id": "HEADER_ID", "meta": {"text": TITLE}},
        "GRID_ID": {"type": "GRID", "id": "GRID_ID", "parents": ["ROOT_ID"], "children": []},
    }
    for place, row in enumerate(_rows()):
        row_id = f"ROW-{place}"
        parents = ["ROOT_ID", "GRID_ID"]
        charts = {f"CHART-{_file(chart.name)}": chart for chart in row}
        places["GRID_ID"]["children"].append(row_id)
        places[row_id] = {
            "type": "ROW",
            "id": row_id,
            "parents": parents,
            "children": [*charts],
            "meta": {"background": "BACKGROUND_TRANSPARENT"},
        }
        for chart_id, chart in charts.items():
            size = {"width": chart.width, "height": chart.height}
            number = CHARTS.index(chart) + 1  # Superset replaces it by the imported chart's
            meta = {**size, "sliceName": chart.name, "chartId": number, "uuid": _uuid("chart", chart.name)}
            places[chart_id] = {
                "type": "CHART",
                "id": chart_id,
                "parents": [*parents, row_id],
                "children": [],
                "meta": meta,
            }
    return places


def _rows() -> Iterable[list[Chart]]:
    row: list[Chart] = []
    for chart in CHARTS:
        row.append(chart)
        if sum(one.width for one in row) == 12:
            yield row
            row = []
    if row:
        raise ValueError(f"the last row is not full: {row}")


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
