"""The command line: parse options, call the program, print the result, return the exit code."""

from etl.cli.app import cli, main, run

__all__ = ["cli", "main", "run"]
