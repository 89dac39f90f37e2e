"""Cost of ``--help`` and of a sync with nothing new, as whole processes."""

import sys
import tempfile
from collections.abc import Iterator

from benchmarks.cost import cost, in_turn, python
from benchmarks.figure import Figure
from benchmarks.service import Account, serving

BARE_CLICK = (
    "import click; click.Group('bare', commands=[click.Command(name) for name in 'abcdefghijklmn'])(['--help'])"
)


def measure(*, short: bool) -> Iterator[Figure]:
    rounds = 3 if short else 9
    bare, ours = in_turn(
        rounds,
        lambda: cost(sys.executable, "-c", BARE_CLICK).cpu,
        lambda: cost(sys.executable, "-m", "etl", "--help").cpu,
    )
    yield Figure("--help, processor time", ours / bare, None, floor="bare click", of="s")
    yield Figure("--help, processor time", ours, 0.15, "s")
    account = Account(days=10 if short else 60, queues=5, at_once=5)
    with tempfile.TemporaryDirectory() as folder, serving(account) as url:
        arguments = (folder, url, 4, *account)
        python("sync_once", *arguments)
        again = [python("sync_once", *arguments) for _ in range(rounds)]
        assert {one.result["changed"] + one.result["inserted"] for one in again} == {0}
    imports = "import etl.sync.run"
    whole, importing = sorted(one.seconds for one in again)[rounds // 2], cost(sys.executable, "-c", imports).seconds
    yield Figure("sync with nothing new, whole process", whole, 1, "s")
    yield Figure("  its processor time", sorted(one.cpu for one in again)[rounds // 2], None, "s")
    yield Figure("  imports alone", importing, None, "s")
