"""What to look at: money without a queue, findings, what the API changed later, and how the last syncs went."""

from etl.outputs.report.markup import NONE, Column, Html, a_day, count, join, section, share, table, tag, tasks, usd
from etl.outputs.report.queries import Found, ReportData
from etl.outputs.report.view import View

_RESTS_SHOWN = 10


def unattributed(view: View) -> Html:
    title = "Unattributed"
    unattributed = next((line for line in view.lines if line.kind == "rest"), None)
    if unattributed is None:
        return section(title, "Nothing: every dollar of this period is in a queue.")
    days = [
        row
        for row in view.held.coverage
        if row.day >= view.period.first and (row.unattributed_money or row.unattributed_volume)
    ]
    days.sort(key=lambda row: (-abs(row.unattributed_money), row.day, row.account))
    lead = join(
        usd(unattributed.money),
        f", {share(unattributed.money, view.spent) or NONE} of this period, "
        f"{count(unattributed.volume, 'task')}, on {count(len(days), 'day')}:"
        " money that no known queue explains. If you know a name that is not listed, ",
        tag("code", "anticaptcha-etl sync --queue NAME"),
        " books it.",
        f" The {_RESTS_SHOWN} days with most of it:" if len(days) > _RESTS_SHOWN else None,
    )
    has_many = len(view.held.accounts) > 1
    columns = [Column("day"), *([Column("account")] if has_many else []), Column("USD", True), Column("tasks", True)]
    rows = [
        (
            a_day(row.day),
            *([tag("bdi", row.account)] if has_many else []),
            usd(row.unattributed_money),
            tasks(row.unattributed_volume),
        )
        for row in days[:_RESTS_SHOWN]
    ]
    caption = "The days with most unattributed money"
    return section(title, lead, table(caption, columns, rows) if rows else None)


def findings(held: ReportData) -> Html:
    title = "Findings"
    refused = (
        f" {count(held.refused, 'record')} of this period {'was' if held.refused == 1 else 'were'} refused; the view"
        " spending_rejections has the reasons."
        if held.refused
        else ""
    )
    if not held.findings:
        return section(title, f"The last sync that came to its end found nothing to look at.{refused}")
    items = (
        tag("li", tag("strong", finding.severity, class_=finding.severity), " ", _said(finding, held))
        for finding in held.findings
    )
    return section(
        title,
        f"Of the last sync that came to its end, the gravest first.{refused}",
        tag("ul", *items, class_="findings"),
    )


def _said(finding: Found, held: ReportData) -> Html:
    where = [finding.account] if len(held.accounts) > 1 else []
    return tag("bdi", ": ".join([*where, finding.message]))


def revisions(held: ReportData) -> Html:
    title = "Revisions"
    if not held.corrections:
        return section(title, "The API has changed no closed hour yet.")
    lead = f"Closed hours that the API changed later: {held.corrected:,} since {a_day(held.period.first)}."
    if len(held.corrections) > 1:
        lead += f" The last {len(held.corrections)} changes, newest first; (total) is the account's total."
    has_many = len(held.accounts) > 1
    columns = [
        *(Column("hour, UTC"), Column("queue"), *([Column("account")] if has_many else [])),
        *(Column("USD before", True), Column("USD after", True), Column("change", True), Column("tasks before", True)),
        *(Column("tasks after", True), Column("seen, UTC")),
    ]
    rows = [
        (
            *(
                f"{row.hour_start:%Y-%m-%d %H:%M}",
                tag("bdi", row.queue),
                *([tag("bdi", row.account)] if has_many else []),
            ),
            *(usd(row.money_before), usd(row.money_after), usd(row.money_after - row.money_before)),
            *(tasks(row.volume_before), tasks(row.volume_after), f"{row.seen_at:%Y-%m-%d %H:%M}"),
        )
        for row in held.corrections
    ]
    return section(title, lead, table("The last revisions", columns, rows))


def runs(held: ReportData) -> Html:
    title = "Runs"
    if not held.syncs:
        return section(title, "No sync is remembered.")
    has_many = len(held.accounts) > 1
    numbers = ("exit", "requests", "good", "failed", "new facts", "changed", "rejected")
    columns = [
        Column("started, UTC"),
        *([Column("account")] if has_many else []),
        *(Column(name, True) for name in numbers),
    ]
    rows = [
        (
            f"{run.started_at:%Y-%m-%d %H:%M}",
            *([tag("bdi", run.account)] if has_many else []),
            NONE if run.exit_code is None else str(run.exit_code),
            *map(
                tasks,
                (
                    run.requests,
                    run.windows_good,
                    run.windows_failed,
                    run.facts_inserted,
                    run.facts_changed,
                    run.rejections,
                ),
            ),
        )
        for run in held.syncs
    ]
    lead = f"The last syncs, newest first. Exit 0: everything asked for is held; {NONE}: still running, or killed."
    return section(title, lead, table("The last runs", columns, rows))
