"""The page itself: headings, numbers, tables, and the places where charts are drawn.

A policy in its head lets its own script run and nothing be loaded: the browser would refuse what slipped through as
markup.
"""

import hashlib
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path

from etl.outputs.report import charts, data_quality, days, queues, top
from etl.outputs.report.markup import Html, join, tag
from etl.outputs.report.queries import ReportData
from etl.outputs.report.view import Drawn, view_of
from etl.outputs.serialize import as_json


def page(held: ReportData, script: Callable[[], str] = charts.script) -> str:
    """The whole file. ``script`` gives what draws the charts; a warehouse without a day has none."""
    view = view_of(held)
    if not held.coverage:
        return _document(join(top.header(view), top.nothing(), top.footer(held)), "")
    drawn = [*queues.spend_chart(view), *queues.price_charts(view), *days.week_chart(view)]
    body = join(
        top.header(view),
        top.notices(view),
        top.headline(view),
        queues.spend(view),
        queues.prices(view),
        tag("div", days.week(view), days.months(view), class_="pair"),
        days.coverage(view),
        tag("div", data_quality.unattributed(view), data_quality.findings(held), class_="pair"),
        data_quality.revisions(held),
        data_quality.runs(held),
        top.footer(held),
    )
    waiting = tag("script", Html(_safe(_told(drawn))), type="application/json", id="drawn")
    return _document(join(body, _HATCH, waiting, _WITHOUT), script())


def _told(drawn: Sequence[Drawn]) -> str:
    specs = {
        "spend": charts.spend(),
        "price": charts.price(),
        "week": charts.week(),
    }
    return as_json({"specs": specs, "charts": [chart._asdict() for chart in drawn]})


def _safe(json: str) -> str:
    """JSON inside of a script element: no ``<`` of its texts may end the element or open a comment."""
    return json.replace("<", "\\u003c")


def _document(body: Html, script: str) -> str:
    allowed = f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" if script else "'none'"
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {allowed}; base-uri 'none'; form-action 'none'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", "Anti-Captcha spending"),
        tag("style", Html(Path(__file__).with_name("style.css").read_text("utf-8"))),
    )
    draw = tag("script", Html(script)) if script else None
    return "<!doctype html>\n" + tag("html", head, tag("body", tag("main", body), draw), lang="en") + "\n"


_HATCH = Html(
    '<svg class="unseen" width="0" height="0" aria-hidden="true"><defs><pattern id="hatch" width="6" height="6"'
    ' patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="hatch" width="2" height="6"></rect>'
    "</pattern></defs></svg>"
)

_WITHOUT = tag(
    "noscript", tag("p", "Scripts are switched off here, so no chart is drawn; all numbers are in the tables.")
)
