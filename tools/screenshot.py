"""Take the picture of the demo's report that README and documentation show: ``make screenshot``."""

import sys
import tempfile
from pathlib import Path

from etl.cli import run
from etl.config import Environment
from tests.extended.browser import CHROMIUM, DRIVER, MISSING, Browser

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "report.png"
WIDTH = 1280


def main() -> int:
    if not (CHROMIUM and DRIVER):
        print(f"The picture {MISSING}.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        environment = Environment({}, folder)
        report = folder / "report.html"
        code = run(["demo", "--keep", "demo"], environment)
        code = code or run(["report", "--warehouse", "demo/warehouse.duckdb", "-o", str(report)], environment)
        if code:
            return code
        with Browser() as browser:
            browser.look(WIDTH, dark=False)
            browser.command("Emulation.setScrollbarsHidden", hidden=True)
            browser.open(report)
            browser.wait_for("return document.documentElement.dataset.chartsDrawn > 0")
            PICTURE.parent.mkdir(exist_ok=True)
            PICTURE.write_bytes(browser.picture())
    print(f"wrote {PICTURE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
