"""Render a report as one HTML page.

The page's content security policy allows its own script and nothing else: should markup from the data ever get in, the
browser would neither run nor load anything.
"""

import hashlib
from base64 import b64encode
from collections.abc import Callable
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from etl import __version__
from etl.outputs.report import formatting
from etl.outputs.report.chart_data import HEAT_COLORS, QUEUE_COLORS, chart_json
from etl.outputs.report.data import ReportData
from etl.outputs.report.metrics import STATUSES, price_per_1000
from etl.outputs.report.view import MAX_UNATTRIBUTED_DAYS, WEEKDAYS, build_view, week_hour_label

_FOLDER = Path(__file__).parent
_FILTERS = (
    formatting.exact,
    formatting.usd,
    formatting.price,
    formatting.change,
    formatting.share,
    formatting.long_date,
    formatting.moment,
    formatting.hour,
    formatting.count,
    formatting.date_ranges,
)


def read_script() -> str:
    """Everything that draws the charts: one script that loads nothing."""
    return _read("vega.js") + _read("charts.js")


def _read(name: str) -> str:
    return (_FOLDER / name).read_text("utf-8")


def render_page(data: ReportData, make_script: Callable[[], str] = read_script) -> str:
    """The whole page. ``make_script`` returns the script that draws the charts; without data there is none."""
    view = build_view(data)
    has_data = bool(data.coverage)
    script = make_script() if has_data else ""
    template = _environment().get_template("page.html.j2")
    return template.render(
        data=data,
        view=view,
        version=__version__,
        policy=_policy(script),
        style=Markup(_read("style.css")),  # noqa: S704, a file of this package
        script=Markup(script),  # noqa: S704, files of this package
        chart_json=Markup(chart_json(view)) if has_data else "",  # noqa: S704, escaped for a script element
    )


def _policy(script: str) -> str:
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"'sha256-{digest}'" if script else "'none'"
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src {allowed}; base-uri 'none'; form-action 'none'"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {function.__name__: function for function in _FILTERS}
    environment.filters["price_per_1000"] = price_per_1000
    environment.globals |= {
        "dash": formatting.DASH,
        "heat_colors": HEAT_COLORS,
        "max_unattributed_days": MAX_UNATTRIBUTED_DAYS,
        "queue_colors": QUEUE_COLORS,
        "statuses": STATUSES,
        "week_hour_label": week_hour_label,
        "weekdays": WEEKDAYS,
    }
    return environment
