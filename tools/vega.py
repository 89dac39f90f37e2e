"""Write ``vega.js``, which draws the report's charts: Vega, Vega-Lite and vega-embed in one script that loads nothing.

It is part of the package so that a report needs neither a network nor the tool that bundles the script.
"""

from pathlib import Path

import vl_convert

FILE = Path(__file__).parent.parent / "etl" / "outputs" / "report" / "vega.js"


def bundle() -> str:
    """The script. It defines ``vegaEmbed``."""
    return vl_convert.javascript_bundle("globalThis.vegaEmbed = vegaEmbed;")


if __name__ == "__main__":
    FILE.write_text(bundle(), "utf-8")
