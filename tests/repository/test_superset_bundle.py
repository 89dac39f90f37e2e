"""The files of the Superset dashboard are generated."""

from tools import superset_bundle as bundle


def test_the_files_of_the_bundle_are_those_that_the_program_writes() -> None:
    files = {path: path.read_text("utf-8") for path in bundle.FOLDER.rglob("*.yaml")}
    assert files == bundle.files(), "run `make reference`"
