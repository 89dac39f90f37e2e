"""No locked dependency has a known vulnerability, as far as anybody could be asked."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.extended

ROOT = Path(__file__).resolve().parents[2]
AUDITOR = Path(sys.prefix) / "audit" / "bin" / "pip-audit"


@pytest.mark.parametrize("lock", sorted(file.name for file in ROOT.glob("requirements*.lock")))
def test_no_locked_dependency_has_a_known_vulnerability(lock: str) -> None:
    if not AUDITOR.exists():
        pytest.skip("the auditor is not installed: make extended does it")
    words = ["--disable-pip", "--require-hashes", "--format", "json", "--progress-spinner", "off", "--timeout", "30"]
    done = subprocess.run(
        [AUDITOR, *words, "-r", ROOT / lock], capture_output=True, text=True, check=False, timeout=600
    )
    if not done.stdout and re.search(r"connect|resol|timed? ?out|service", done.stderr, re.IGNORECASE):
        pytest.skip(f"nobody could be asked: {done.stderr.strip().splitlines()[-1]}")
    assert done.stdout, done.stderr
    looked_at = json.loads(done.stdout)["dependencies"]
    assert looked_at
    vulnerable = {one["name"]: [found["id"] for found in one["vulns"]] for one in looked_at if one.get("vulns")}
    assert vulnerable == {}
    if unknown := [one["name"] for one in looked_at if "skip_reason" in one]:
        pytest.skip(
            f"{len(unknown)} of {len(looked_at)} packages are not known where it was asked, which may be a mirror"
        )
