"""What one command line carries: options given so far, environment, exit code."""

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from etl.clock import Clock
from etl.config import Accounts, Environment, Settings, accounts, load

if TYPE_CHECKING:
    from etl.logging_setup import TextStream
    from etl.secret import Secret


@dataclass(slots=True)
class CliContext:
    """State of one invocation."""

    environment: Environment
    clock: Clock = field(default_factory=Clock)
    given: dict[str, object] = field(default_factory=dict)
    """Options from the command line, by the names in ``SETTINGS``."""
    code: int = 0
    """Exit code so far."""
    as_json: bool = False
    """Print results and errors as JSON."""
    log_format: str = ""
    """Empty until the settings are loaded."""
    ping_url: "Secret | None" = None
    """Health check URL to call at the end; set by commands that use the API."""
    report_lines: list[str] = field(default_factory=list)
    """What the health check is sent."""
    file_mode: int = 0o600
    """Mode of files written for the user; follows the umask."""
    keeps_progress: bool = False
    """True for commands that continue where they were interrupted."""

    def settings(self, *, needs_key: bool = False, stream: "TextStream | None" = None) -> Settings:
        """Load the settings and send log lines to ``stream`` (default: standard error)."""
        settings = load(self.given, self.clock.now(), self.environment)
        self._configure_logging(settings, stream)
        if needs_key:
            self.ping_url = settings.ping_url  # a missing key is reported to the health check too
            settings = load(self.given, self.clock.now(), self.environment, needs_key=True)
        _log_warnings(settings)
        return settings

    def accounts(self, *, stream: "TextStream | None" = None) -> tuple[Accounts, Settings]:
        """Load all accounts of the configuration file and the settings they share."""
        every = accounts(self.given, self.environment)
        defaults = every.general(self.clock.now())
        self._configure_logging(defaults, stream, fleet=True)
        _log_warnings(defaults)
        return every, defaults

    def _configure_logging(self, settings: Settings, stream: "TextStream | None", *, fleet: bool = False) -> None:
        from etl import logging_setup

        self.log_format = settings.log_format
        logging_setup.configure_logging(
            stream or sys.stderr,
            form=settings.log_format,
            quiet=settings.quiet,
            verbose=settings.verbose,
            fleet=fleet,
        )


def _log_warnings(settings: Settings) -> None:
    if settings.ignored or settings.exposed:
        import logging

        log = logging.getLogger("etl.cli")
        for text in settings.ignored:
            log.warning("%s", text)
        if settings.exposed:
            log.error("%s", settings.exposed)  # also with --quiet: someone must fix it


def selected_account(settings: Settings) -> str | None:
    """The account named by the user; None: all accounts of the warehouse."""
    return None if settings.sources["account"] == "default" else settings.account
