"""Locked dependencies have no known vulnerability. Skipped if the vulnerability database cannot be reached."""

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
        pytest.skip("pip-audit is not installed; make extended installs it")
    options = ["--disable-pip", "--require-hashes", "--format", "json", "--progress-spinner", "off", "--timeout", "30"]
    done = subprocess.run(
        [AUDITOR, *options, "-r", ROOT / lock], capture_output=True, text=True, check=False, timeout=600
    )
    if not done.stdout and re.search(r"connect|resol|timed? ?out|service", done.stderr, re.IGNORECASE):
        pytest.skip(f"the vulnerability database cannot be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.stdout, done.stderr
    packages = json.loads(done.stdout)["dependencies"]
    assert packages
    vulnerable = {
        one["name"]: [vulnerability["id"] for vulnerability in one["vulns"]] for one in packages if one.get("vulns")
    }
    assert vulnerable == {}
    if unknown := [one["name"] for one in packages if "skip_reason" in one]:
        pytest.skip(f"{len(unknown)} of {len(packages)} packages are unknown to the vulnerability database")
