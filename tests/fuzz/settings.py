"""The configuration file: every text gives settings, or an error that says what, where and how to fix it."""

import random
from datetime import UTC, datetime
from typing import ClassVar

from etl import config
from etl.config.settings import SETTING_BY_NAME
from etl.errors import UsageError
from tests.fuzz.door import KEY, Door, damaged, require

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
NAMES = (
    *SETTING_BY_NAME,
    "client_key",
    "key",
    "client_key_file",
    "client_key_env",
    "accounts",
    "rat",
    "QUEUES",
    "",
    "a.b",
    "x" * 300,
)
SECRET_SETTINGS = ("client_key", "key", "warehouse", "ping_url")
"""Where the key may stand by mistake; messages must not show it."""

VALUES = (
    "0", "1", "-1", "4", "16", "9" * 30, "0x10", "1_000", "-0", "1.5", "1e308", "1e999", "inf", "-inf", "nan", "true", "false",
    "2026-01-01", "2026-13-01", "0001-01-01", "9999-12-31", "2027-01-01", "2026-01-01T00:00:00Z", "07:32:00", '""', '" "',
    '"all"', '"2026-01-01"', '"text"', '"duckdb:///x.duckdb"', '"postgresql://u:p@h/d"', '"~/x"', '"a?b"', '"\\u0000"', '"\\u202e"',
    '"é"', "'''\nlines\n'''", '"""a"""', "[]", "[[]]", '["FunCaptcha"]', '["FunCaptcha", 7]', "[1, 2]", '["a", "a"]', '["", " "]',
    "{}", "{a = 1}", "[{a = 1}]", '"1/4"', '"5/4"', '"json"', '["192.0.2.1"]', '["999.0.0.1"]', '"https://ping.example/x"', '"ftp://x"',
    '"/"', '"/dev/null"', '"."', "", "=", '"unclosed', "[", "nothing",
)  # fmt: skip


VALID = {
    "queues": ('["FunCaptcha"]', '["A", "B"]', "[]"), "soft_ids": ("[7]", '["7"]'), "ips": ('["192.0.2.1"]',), "rate": ("0", "2.5", "20"),
    "concurrency": ("1", "16"), "lookback": ("0", "3"), "empty_days": ("1", "90"), "since": ('"all"', '"2026-01-01"', "2026-01-01"),
    "until": ('"2026-11-01"',), "warehouse": ('"w.duckdb"', '"postgresql://u:p@h/d"'), "account": ('"shop"',), "lock_wait": ("0", "30"),
    "totals_only": ("true", "false"), "max_requests": ("1", "100"), "raw_retention_days": ("31", "400"), "trusted_queues": ('["A"]',),
}  # fmt: skip


class Settings(Door):
    name: ClassVar = "settings"
    default_count: ClassVar = 100_000

    def make(self, source: random.Random) -> bytes:
        lines = [self._line(source) for _ in range(source.choice((1, 1, 2, 3, 8)))]
        content = source.choice(("\n", "\n", "\r\n", "\r", " ")).join(lines).encode(errors="surrogatepass")
        if source.random() < 0.05:
            content = source.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\x00")) + content
        return damaged(source, content) if source.random() < 0.3 else content

    def _line(self, source: random.Random) -> str:
        kind = source.randrange(12)
        if kind == 0:
            name = source.choice(
                ("accounts", "accounts.a", 'accounts."b c"', "accounts.a.b", "other", "[accounts]", "accounts.'é'")
            )
            return f"[{name}]"
        if kind == 1:
            return source.choice(("# comment", "", "   ", "\x07", "accounts = 3", 'accounts.a = "x"', "queues.a = 1"))
        name = source.choice([*VALID]) if source.random() < 0.7 else source.choice(NAMES)
        value = source.choice(VALID[name] if name in VALID and source.random() < 0.8 else VALUES)
        if name in SECRET_SETTINGS and source.random() < 0.5:
            value = source.choice(
                (f'"{KEY}"', f'"postgresql://user:{KEY}@host:x/db"', f'["{KEY}"]', f'"https://{KEY}/"')
            )
        quoted = f'"{name}"' if not name or source.random() < 0.1 else name
        return f"{quoted}{source.choice((' = ', '=', ' = ', ' : '))}{value}"

    def check(self, content: bytes) -> str:
        path = self.folder / "anticaptcha-etl.toml"
        path.write_bytes(content)
        environment = config.Environment({"ANTICAPTCHA_CLIENT_KEY": "other-key-of-this-test"}, self.folder)
        try:
            config.load({}, NOW, environment, needs_key=True)
            if b"[accounts" in content:
                config.accounts({}, environment)
        except UsageError as error:
            shown = f"{error.message}\n{error.hint}"
            require(error.message and error.hint, "an error says what happened and what to do")
            require(KEY not in shown, "an error does not show a key")
            return "UsageError"
        return "settings"
