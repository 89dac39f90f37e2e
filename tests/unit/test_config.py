import os
import pickle
from dataclasses import FrozenInstanceError
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click
import pytest

from etl.cli import cli
from etl.config import SETTINGS, Accounts, Environment, Settings, Shard, accounts, load
from etl.errors import UsageError
from etl.secret import Secret

NOW = datetime(2026, 3, 10, 23, 59, tzinfo=UTC)


class Workspace:
    """A working directory with its own variables and configuration file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ: dict[str, str] = {}

    def toml(self, text: str, name: str = "anticaptcha-etl.toml") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def load(self, *, needs_key: bool = False, **given: object) -> Settings:
        return load(given, NOW, Environment(self.environ, self.folder), needs_key=needs_key)

    def key(self, **given: object) -> str:
        key = self.load(needs_key=True, **given).key
        assert key is not None
        return key.get_secret_value()

    def refused(self, *, needs_key: bool = False, **given: object) -> str:
        with pytest.raises(UsageError) as caught:
            self.load(needs_key=needs_key, **given)
        assert caught.value.hint
        return f"{caught.value.message} | {caught.value.hint}"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


# ---------------------------------------------------------------- precedence


def test_without_any_configuration_the_documented_defaults_apply(workspace: Workspace) -> None:
    settings = workspace.load()
    assert (settings.account, settings.api_url) == ("default", "https://api.anti-captcha.com")
    assert settings.warehouse == f"duckdb:///{workspace.folder}/warehouse.duckdb"
    assert (settings.lookback, settings.empty_days, settings.concurrency, settings.rate) == (3, 90, 4, 5.0)
    assert (settings.since, settings.since_all, settings.until, settings.max_requests, settings.max_age) == (
        None,
        False,
        None,
        None,
        None,
    )
    assert (settings.queues, settings.soft_ids, settings.ips, settings.log_format) == ((), (), (), "text")
    assert (settings.trusted_queues, settings.trusted_soft_ids, settings.trusted_ips) == ((), (), ())
    assert not any((settings.totals_only, settings.quiet, settings.verbose, settings.key_changed))
    assert (settings.lock_wait, settings.ping_url) == (60.0, None)
    assert set(settings.sources.values()) == {"default"}


def test_option_beats_variable_beats_account_table_beats_top_of_the_file(workspace: Workspace) -> None:
    config = workspace.toml("lookback = 1\n")
    settings = workspace.load()
    assert (settings.lookback, settings.sources["lookback"]) == (1, f"lookback in {config}")
    workspace.toml("lookback = 1\n[accounts.default]\nlookback = 2\n")
    settings = workspace.load()
    assert (settings.lookback, settings.sources["lookback"]) == (2, f"[accounts.default] lookback in {config}")
    workspace.environ["ANTICAPTCHA_LOOKBACK"] = "4"
    settings = workspace.load()
    assert (settings.lookback, settings.sources["lookback"]) == (4, "ANTICAPTCHA_LOOKBACK")
    settings = workspace.load(lookback="5")
    assert (settings.lookback, settings.sources["lookback"]) == (5, "--lookback")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("account", "b", "b"),
        ("api_url", "https://example.org/", "https://example.org"),
        ("warehouse", "/srv/w.duckdb", "duckdb:////srv/w.duckdb"),
        ("since", "2024-02-29", date(2024, 2, 29)),
        ("until", "2026-03-10", date(2026, 3, 10)),
        ("queues", "FunCaptcha, GeeTest Proxyless", ("FunCaptcha", "GeeTest Proxyless")),
        ("soft_ids", "1011, 1022", ("1011", "1022")),
        ("ips", "192.0.2.10, 2001:db8::1", ("192.0.2.10", "2001:db8::1")),
        ("trusted_queues", "FunCaptcha", ("FunCaptcha",)),
        ("trusted_soft_ids", "1011", ("1011",)),
        ("trusted_ips", "192.0.2.10", ("192.0.2.10",)),
        ("lookback", "0", 0),
        ("empty_days", "3650", 3650),
        ("spot_checks", "7", 7),
        ("balance", "off", False),
        ("concurrency", "64", 64),
        ("rate", "0.5", 0.5),
        ("raw_retention_days", "31", 31),
        ("max_requests", "1", 1),
        ("totals_only", "yes", True),
        ("key_changed", "1", True),
        ("max_age", "26", 26.0),
        ("checks_folder", "/srv/checks", Path("/srv/checks")),
        ("publish", "/srv/bi", Path("/srv/bi")),
        ("lake", "s3://bucket/spending", "s3://bucket/spending"),
        ("state_folder", "/srv/state", Path("/srv/state")),
        ("lock_wait", "0", 0.0),
        ("ping_url", "https://hc.example/token", Secret("https://hc.example/token")),
        ("notify", "json://hook.example/token", (Secret("json://hook.example/token"),)),
        ("quiet", "true", True),
        ("verbose", "on", True),
        ("log_format", "json", "json"),
        ("timezone", "Europe/Istanbul", "Europe/Istanbul"),
        ("accounts_at_once", "64", 64),
        ("shard", "2/8", (2, 8)),
    ],
)
def test_every_setting_can_be_set_by_a_variable(workspace: Workspace, name: str, text: str, value: object) -> None:
    workspace.environ[SETTINGS[name].variable] = text
    assert getattr(workspace.load(), name) == value


def test_the_test_above_covers_every_setting() -> None:
    rows = test_every_setting_can_be_set_by_a_variable.pytestmark[0].args[1]  # type: ignore[attr-defined]  # set by the decorator
    assert {row[0] for row in rows} == set(SETTINGS)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("queues", "FunCaptcha", ("FunCaptcha",)),
        ("soft_ids", "1011", ("1011",)),
        ("ips", "192.0.2.10", ("192.0.2.10",)),
    ],
)
@pytest.mark.parametrize("letters", [slice(None), slice(-1)])
def test_a_list_setting_has_a_plural_and_a_singular_name(
    workspace: Workspace, name: str, text: str, value: object, letters: slice
) -> None:
    workspace.environ[f"ANTICAPTCHA_{name[letters].upper()}"] = text
    assert getattr(workspace.load(), name) == value
    workspace.environ.clear()
    workspace.toml(f"[accounts.default]\n{name[letters]} = '{text}'\n")
    assert getattr(workspace.load(), name) == value


OLD_NAMES = [(setting.name, setting.old_name) for setting in SETTINGS.values() if setting.old_name]


@pytest.mark.parametrize(("name", "old_name"), OLD_NAMES)
def test_an_old_name_is_accepted_everywhere_and_the_new_name_wins(
    workspace: Workspace, name: str, old_name: str
) -> None:
    path = workspace.toml(f"{old_name} = 31\n")
    assert (getattr(workspace.load(), name), workspace.load().sources[name]) == (31, f"{old_name} in {path}")
    workspace.environ[f"ANTICAPTCHA_{old_name.upper()}"] = "32"
    assert getattr(workspace.load(), name) == 32
    given: dict[str, Any] = {old_name: "33"}
    assert getattr(workspace.load(**given), name) == 33
    assert getattr(workspace.load(**(given | {name: "34"})), name) == 34
    given[old_name] = "1"
    assert f"--{old_name.replace('_', '-')} is '1'" in workspace.refused(**given)
    assert workspace.load().ignored == ()


def test_an_empty_variable_counts_as_unset(workspace: Workspace) -> None:
    workspace.environ["ANTICAPTCHA_SINCE"] = " "
    assert workspace.load().since is None


def test_a_variable_can_turn_off_a_flag_of_the_file(workspace: Workspace) -> None:
    workspace.toml("totals_only = true\n")
    assert workspace.load().totals_only
    workspace.environ["ANTICAPTCHA_TOTALS_ONLY"] = "0"
    assert not workspace.load().totals_only


def test_an_account_does_not_get_settings_of_another_account(workspace: Workspace) -> None:
    workspace.toml(
        "[accounts.a]\nrate = 1\nqueues = ['FunCaptcha']\nsoft_ids = [1011]\nips = ['::1']\n[accounts.b]\nrate = 2\n"
    )
    a, b = workspace.load(account="a"), workspace.load(account="b")
    assert (a.rate, a.queues, a.soft_ids, a.ips) == (1.0, ("FunCaptcha",), ("1011",), ("::1",))
    assert (b.rate, b.queues, b.soft_ids, b.ips) == (2.0, (), (), ())
    assert workspace.load().rate == 5.0


def test_the_top_of_the_file_can_select_the_account(workspace: Workspace) -> None:
    workspace.toml("account = 'b'\n[accounts.b]\nlookback = 7\n")
    assert (workspace.load().account, workspace.load().lookback) == ("b", 7)


def test_the_config_option_beats_the_config_variable(workspace: Workspace) -> None:
    workspace.toml("lookback = 1\n")
    workspace.toml("lookback = 2\n", "two.toml")
    workspace.toml("lookback = 3\n", "three.toml")
    workspace.environ["ANTICAPTCHA_CONFIG"] = "two.toml"
    assert workspace.load().lookback == 2
    assert workspace.load(config="three.toml").lookback == 3


def test_since_all_differs_from_an_unset_since(workspace: Workspace) -> None:
    assert (workspace.load(since="all").since, workspace.load(since="all").since_all) == (None, True)
    assert not workspace.load(since="2024-01-01").since_all


# ---------------------------------------------------------------- apps, IPs


def test_soft_ids_are_normalized_and_deduplicated(workspace: Workspace) -> None:
    assert workspace.load(soft_ids=("1022", "+1011", " 01011", "2147483647")).soft_ids == ("1022", "1011", "2147483647")
    workspace.toml("soft_ids = [1022, '1011', 1011]\n")
    assert workspace.load().soft_ids == ("1022", "1011")


def test_addresses_are_normalized_and_deduplicated(workspace: Workspace) -> None:
    written = ("2001:DB8:0:0::1", " 192.0.2.10", "2001:db8::1", "::ffff:192.0.2.10", "::FFFF:C000:20A", "::1")
    assert workspace.load(ips=written).ips == ("2001:db8::1", "192.0.2.10", "::1")


# ---------------------------------------------------------------- paths


def test_a_relative_warehouse_starts_at_the_folder_of_its_source(workspace: Workspace) -> None:
    workspace.toml("warehouse = 'data/w.duckdb'\n", "etc/a.toml")
    assert workspace.load(config="etc/a.toml").warehouse == f"duckdb:///{workspace.folder}/etc/data/w.duckdb"
    assert (
        workspace.load(config="etc/a.toml", warehouse="w.duckdb").warehouse == f"duckdb:///{workspace.folder}/w.duckdb"
    )


def test_a_relative_checks_folder_starts_at_the_folder_of_its_source(workspace: Workspace) -> None:
    assert workspace.load().checks_folder is None
    workspace.toml("checks_folder = 'checks'\n", "etc/a.toml")
    assert workspace.load(config="etc/a.toml").checks_folder == workspace.folder / "etc" / "checks"
    assert workspace.load(config="etc/a.toml", checks_folder="mine").checks_folder == workspace.folder / "mine"


def test_a_warehouse_url_is_unchanged(workspace: Workspace) -> None:
    assert workspace.load(warehouse="postgresql://u:p@h/d").warehouse == "postgresql://u:p@h/d"


def test_a_warehouse_path_with_a_question_mark_is_refused(workspace: Workspace) -> None:
    assert "question mark" in workspace.refused(warehouse="what?.duckdb")


# ---------------------------------------------------------------- invalid values


@pytest.mark.parametrize(
    ("given", "must"),
    [
        ({"lookback": "-1"}, "--lookback is '-1': it must be a whole number of days from 0 to 365"),
        ({"lookback": "366"}, "from 0 to 365"),
        ({"lookback": "3.5"}, "whole number"),
        ({"empty_days": "0"}, "from 1 to 3650"),
        ({"empty_days": "3651"}, "from 1 to 3650"),
        ({"concurrency": "0"}, "from 1 to 64"),
        ({"concurrency": "65"}, "from 1 to 64"),
        ({"rate": "-0.1"}, "0 or more"),
        ({"rate": "nan"}, "0 or more"),
        ({"rate": "inf"}, "0 or more"),
        ({"rate": "fast"}, "0 or more"),
        ({"max_requests": "0"}, "of at least 1"),
        ({"since": "yesterday"}, "YYYY-MM-DD, or all"),
        ({"since": "20240101"}, "YYYY-MM-DD"),
        ({"since": "2023-02-29"}, "there is no such day"),
        ({"until": "all"}, "YYYY-MM-DD"),
        ({"until": "2026-03-11"}, "--until is 2026-03-11, but today is 2026-03-10 (UTC)"),
        ({"since": "2026-03-11"}, "--since is 2026-03-11, but today is"),
        ({"since": "2024-01-02", "until": "2024-01-01"}, "which is after 2024-01-01 of --until"),
        (
            {"soft_ids": ("1011", "x")},
            "--soft-id is '1011', 'x': 'x' is not a softId (a whole number from 1 to 2147483647)",
        ),
        ({"soft_ids": ("0",)}, "'0' is not a softId"),
        ({"soft_ids": ("-7",)}, "'-7' is not a softId"),
        ({"soft_ids": ("2147483648",)}, "'2147483648' is not a softId"),
        ({"soft_ids": ("1011,1022",)}, "'1011,1022' is not a softId"),
        ({"soft_ids": ("\u0661",)}, "is not a softId"),
        (
            {"ips": ("192.0.2.10", "10.0.0.0/8")},
            "--ip is '192.0.2.10', '10.0.0.0/8': '10.0.0.0/8' is a network; list single",
        ),
        ({"ips": ("fe80::1%eth0",)}, "'fe80::1%eth0' has a zone"),
        ({"ips": ("192.0.2.010",)}, "'192.0.2.010' is not an IP address"),
        ({"ips": ("192.0.2",)}, "'192.0.2' is not an IP address like '192.0.2.10' or '2001:db8::1'"),
        ({"account": "a/b"}, "must not contain a slash"),
        ({"account": "a\nb"}, "control characters"),
        ({"log_format": "xml"}, "text or json"),
        ({"timezone": "Mars/Base"}, "IANA time zone database"),
        ({"timezone": "../etc/passwd"}, "IANA time zone database"),
    ],
)
def test_an_invalid_value_is_refused_with_what_it_must_be(
    workspace: Workspace, given: dict[str, Any], must: str
) -> None:
    assert must in workspace.refused(**given)


@pytest.mark.parametrize(
    ("toml", "must"),
    [
        ("lookback = '3'", ""),
        ("since = 2024-01-01", ""),
        ("rate = 2", ""),
        ("lookback = true", "whole number"),
        ("lookback = 3.0", "whole number"),
        ("rate = true", "0 or more"),
        ("rate = inf", "0 or more"),
        ("since = 2024-01-01T00:00:00Z", "YYYY-MM-DD"),
        ("queues = [1]", "text"),
        ("queues = { a = 1 }", "text"),
        ("soft_ids = [1011, '1022']", ""),
        ("soft_id = 1011", ""),
        ("soft_ids = [1011.0]", "1011.0 is not a softId"),
        ("soft_ids = [true]", "true is not a softId"),
        ("trusted_soft_ids = [0]", "0 is not a softId"),
        ("ips = ['192.0.2.10']", ""),
        ("ips = [3221225994]", "3221225994 is not an IP address"),
        ("trusted_ips = ['192.0.2.0/24']", "is a network"),
        ("totals_only = 'perhaps'", "true or false"),
        ("raw_retention_days = false", "is false: it must"),
        ("lookback = 2024-01-01", "is 2024-01-01: it must"),
        ("since = 2024-01-01T00:00:00Z", "is 2024-01-01T00:00:00+00:00: it must"),
        ("queues = [['a', true], { a = 1 }]", "is ['a', true], {a = 1}: it must"),
        ("account = 7", "text"),
    ],
)
def test_toml_types_are_checked_and_shown_in_toml_notation(workspace: Workspace, toml: str, must: str) -> None:
    workspace.toml(toml)
    if must:
        assert must in workspace.refused()
        assert "anticaptcha-etl.toml" in workspace.refused()
    else:
        workspace.load()


@pytest.mark.parametrize(
    ("toml", "hint"),
    [
        ("lookback = 'x'", "; see `anticaptcha-etl sync --help`"),
        ("max_age = 'x'", "; see `anticaptcha-etl status --help`"),
        ("checks_folder = 1", "; see `anticaptcha-etl check --help`"),
        ("api_url = 'x'", ""),  # no option, so no help has it
        ("trusted_ips = ['x']", ""),
    ],
)
def test_the_hint_names_the_help_that_describes_the_setting(workspace: Workspace, toml: str, hint: str) -> None:
    path = workspace.toml(toml)
    assert workspace.refused().endswith(f"| fix {toml.partition(' ')[0]} in {path}{hint}")


@pytest.mark.parametrize(
    "url", ["http://hc.example/token", "ftp://hc.example/token", "token", "https://[token", "http://127.1.evil/token"]
)
def test_a_ping_url_must_be_secure_and_is_never_printed(workspace: Workspace, url: str) -> None:
    workspace.toml(f"[accounts.default]\nping_url = '{url}'\n")
    assert "token" not in workspace.refused()
    assert "ping_url in" in workspace.refused()
    workspace.toml("ping_url = 'http://127.0.0.1:8000/token'\n")
    assert "token" not in repr(workspace.load())


def test_the_command_of_every_setting_has_its_option() -> None:
    found = dict(cli.commands)
    for name, group in cli.commands.items():
        if isinstance(group, click.Group):
            found |= {f"{name} {key}": command for key, command in group.commands.items()}
    for setting in SETTINGS.values():
        commands = [
            name for name, command in found.items() if any(setting.flag in option.opts for option in command.params)
        ]
        assert setting.command in commands if setting.command else not commands


def test_a_comma_in_a_repeatable_option_gets_a_hint_to_repeat_it(workspace: Workspace) -> None:
    assert "repeat --ip for each value" in workspace.refused(ips=("192.0.2.1,192.0.2.2",))
    workspace.environ["ANTICAPTCHA_IP"] = "192.0.2.1,x"
    assert "repeat" not in workspace.refused()


@pytest.mark.parametrize(
    "url",
    ["http://api.anti-captcha.com", "http://10.0.0.1:80", "http://127.evil.example", "ftp://x", "api.x", "https://"],
)
def test_an_api_url_without_encryption_or_host_is_refused(workspace: Workspace, url: str) -> None:
    workspace.environ["ANTICAPTCHA_API_URL"] = url
    assert "ANTICAPTCHA_API_URL" in workspace.refused()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8484", "http://localhost:1", "http://[::1]:1", "https://proxy.example/api"]
)
def test_plain_http_is_allowed_for_this_machine(workspace: Workspace, url: str) -> None:
    workspace.environ["ANTICAPTCHA_API_URL"] = url
    assert workspace.load().api_url == url


def test_an_unknown_toml_key_is_refused_with_a_suggestion(workspace: Workspace) -> None:
    workspace.toml("lookbak = 3\n")
    assert "lookbak" in workspace.refused()
    assert "did you mean lookback?" in workspace.refused()
    workspace.toml("[accounts.b]\nempty-days = 3\n")
    assert "[accounts.b] empty-days" in workspace.refused()
    assert "did you mean empty_days?" in workspace.refused()


def test_an_account_table_cannot_select_another_account(workspace: Workspace) -> None:
    workspace.toml("[accounts.b]\naccount = 'c'\n")
    assert "[accounts.b] account" in workspace.refused()


@pytest.mark.parametrize("text", ["lookback = ", "accounts = 3\n", "[accounts]\nb = 3\n"])
def test_invalid_toml_is_a_usage_error_with_the_file_name(workspace: Workspace, text: str) -> None:
    path = workspace.toml(text)
    assert str(path) in workspace.refused()


def test_toml_in_another_encoding_gets_a_hint(workspace: Workspace) -> None:
    path = workspace.toml("")
    path.write_bytes("lookback = 3\n".encode("utf-16"))
    with pytest.raises(UsageError, match="is not UTF-8 text") as caught:
        workspace.load()
    assert str(path) in caught.value.message
    assert caught.value.hint == "save it in the encoding UTF-8"


def test_a_named_configuration_file_must_exist(workspace: Workspace) -> None:
    assert "nowhere.toml" in workspace.refused(config="nowhere.toml")


def test_a_password_in_the_warehouse_is_not_printed(workspace: Workspace) -> None:
    assert "hunter2" not in repr(workspace.load(warehouse="postgresql://u:hunter2@h/d"))


# ---------------------------------------------------------------- unknown variables


@pytest.mark.parametrize(
    ("variable", "sentence"),
    [
        ("ANTICAPTCHA_QUEU", "ANTICAPTCHA_QUEU is not a setting and is ignored; did you mean ANTICAPTCHA_QUEUE?"),
        ("ANTICAPTCHA_SOFTID", "ANTICAPTCHA_SOFTID is not a setting and is ignored; did you mean ANTICAPTCHA_SOFT_ID?"),
        (
            "ANTICAPTCHA_WAREHOSE",
            "ANTICAPTCHA_WAREHOSE is not a setting and is ignored; did you mean ANTICAPTCHA_WAREHOUSE?",
        ),
        ("ANTICAPTCHA_CONF", "ANTICAPTCHA_CONF is not a setting and is ignored; did you mean ANTICAPTCHA_CONFIG?"),
        (
            "ANTICAPTCHA_BALANCE_ALERT",
            "ANTICAPTCHA_BALANCE_ALERT is not a setting and is ignored; did you mean ANTICAPTCHA_BALANCE?",
        ),
    ],
)
def test_an_unknown_variable_is_reported_with_a_suggestion(workspace: Workspace, variable: str, sentence: str) -> None:
    workspace.environ[variable] = "7"
    assert workspace.load().ignored == (sentence,)


def test_a_misspelt_key_variable_is_reported_without_its_value(workspace: Workspace) -> None:
    workspace.environ |= {"ANTICAPTCHA_CLIENTKEY": "0123abcd", "ANTICAPTCHA_CLIENT_KEY": "4567"}
    settings = workspace.load(needs_key=True)
    assert settings.ignored == (
        "ANTICAPTCHA_CLIENTKEY is not a setting and is ignored; did you mean ANTICAPTCHA_CLIENT_KEY?",
    )
    assert "0123abcd" not in repr(settings)


def test_known_empty_and_foreign_variables_are_not_reported(workspace: Workspace) -> None:
    workspace.toml(
        "client_key_env = 'ANTICAPTCHA_MINE'\n[accounts.b]\nclient_key_env = 'ANTICAPTCHA_KEY_OF_B'\n", "two.toml"
    )
    workspace.environ |= {setting.variable: "" for setting in SETTINGS.values()}
    workspace.environ |= {"ANTICAPTCHA_QUEUES": "FunCaptcha", "ANTICAPTCHA_CONFIG": "two.toml", "ANTICAPTCHA_QUEU": " "}
    workspace.environ |= {
        "ANTICAPTCHA_CLIENT_KEY": "a",
        "ANTICAPTCHA_CLIENT_KEY_FILE": "key",
        "PATH": "/bin",
        "QUEU": "a",
    }
    workspace.environ |= {"ANTICAPTCHA_MINE": "a", "ANTICAPTCHA_KEY_OF_B": "b"}
    assert workspace.load().ignored == ()


# ---------------------------------------------------------------- the key


def test_the_key_is_not_read_unless_the_command_needs_it(workspace: Workspace) -> None:
    workspace.environ["ANTICAPTCHA_CLIENT_KEY_FILE"] = "missing"
    assert workspace.load().key is None
    assert "missing" in workspace.refused(needs_key=True)


def test_a_missing_key_lists_every_way_to_set_one(workspace: Workspace) -> None:
    message = workspace.refused(needs_key=True, account="b")
    for way in (
        "account 'b'",
        "ANTICAPTCHA_CLIENT_KEY=",
        "ANTICAPTCHA_CLIENT_KEY_FILE=",
        "client_key_file =",
        "[accounts.b]",
        "demo",
    ):
        assert way in message


def test_a_missing_key_mentions_a_similar_variable_without_its_value(workspace: Workspace) -> None:
    workspace.environ["ANTICAPTCHA_KEY"] = "0123abcd"
    assert "ANTICAPTCHA_KEY is set, but" in workspace.refused(needs_key=True)
    assert "0123abcd" not in workspace.refused(needs_key=True)


def test_the_key_is_stripped_and_its_source_recorded(workspace: Workspace) -> None:
    workspace.environ["ANTICAPTCHA_CLIENT_KEY"] = " 0123abcd\n"
    settings = workspace.load(needs_key=True)
    assert (settings.key, settings.sources["key"]) == (Secret("0123abcd"), "ANTICAPTCHA_CLIENT_KEY")


def test_the_state_folder_is_the_users_own_by_default(workspace: Workspace) -> None:
    workspace.environ["HOME"] = "/home/me"
    assert workspace.load().state_folder == Path("/home/me/.local/state/anticaptcha-etl")
    workspace.environ["XDG_STATE_HOME"] = "relative"  # the specification says to ignore it
    assert workspace.load().state_folder == Path("/home/me/.local/state/anticaptcha-etl")
    workspace.environ["XDG_STATE_HOME"] = "/state"
    assert workspace.load().state_folder == Path("/state/anticaptcha-etl")
    assert workspace.load().sources["state_folder"] == "default"


def test_without_any_home_the_state_folder_is_absolute(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 2)  # a container's user that no file names
    assert workspace.load().state_folder.is_absolute()


def test_a_relative_state_folder_starts_at_the_folder_of_its_source(workspace: Workspace) -> None:
    workspace.toml("state_folder = 'state'\n", "etc/a.toml")
    assert workspace.load(config="etc/a.toml").state_folder == workspace.folder / "etc" / "state"
    assert workspace.load(config="etc/a.toml", state_folder="mine").state_folder == workspace.folder / "mine"


def test_a_key_file_in_a_variable_is_relative_to_the_working_directory(workspace: Workspace) -> None:
    (workspace.folder / "key").write_text("\ufeff0123abcd\r\n")
    workspace.environ["ANTICAPTCHA_CLIENT_KEY_FILE"] = "key"
    assert workspace.key() == "0123abcd"


@pytest.mark.parametrize(
    ("mode", "exposed"), [(0o400, False), (0o640, False), (0o660, False), (0o644, True), (0o444, True)]
)
def test_a_key_file_that_everyone_can_read_gets_a_warning(workspace: Workspace, mode: int, exposed: bool) -> None:
    (workspace.folder / "key").write_text("0123abcd")
    (workspace.folder / "key").chmod(mode)
    workspace.environ["ANTICAPTCHA_CLIENT_KEY_FILE"] = "key"
    said = workspace.load(needs_key=True).exposed
    assert (said is not None) is exposed
    assert said is None or "chmod 600" in said.hint
    assert workspace.load().exposed is None
    assert "0123abcd" not in f"{said}"


def test_file_modes_of_mounted_secrets_are_not_checked(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    (workspace.folder / "key").write_text("0123abcd")
    (workspace.folder / "key").chmod(0o444)
    workspace.environ["ANTICAPTCHA_CLIENT_KEY_FILE"] = "key"
    assert workspace.load(needs_key=True).exposed
    monkeypatch.setattr("etl.config.permissions.SECRET_MOUNTS", (workspace.folder,))
    assert workspace.load(needs_key=True).exposed is None
    (workspace.folder / "key").chmod(0o777)  # as a drive without modes shows every file
    workspace.toml("lookback = 5\n").chmod(0o777)
    settings = workspace.load(needs_key=True)
    assert (settings.lookback, settings.exposed) == (5, None)


@pytest.mark.parametrize("mode", [0o666, 0o602])
def test_a_key_file_that_everyone_can_write_is_refused(workspace: Workspace, mode: int) -> None:
    (workspace.folder / "key").write_text("0123abcd")
    (workspace.folder / "key").chmod(mode)
    workspace.environ["ANTICAPTCHA_CLIENT_KEY_FILE"] = "key"
    assert "chmod 600" in workspace.refused(needs_key=True)


def test_a_configuration_file_that_everyone_can_write_is_refused(workspace: Workspace) -> None:
    workspace.toml("lookback = 5\n").chmod(0o664)
    assert workspace.load().lookback == 5
    workspace.toml("lookback = 5\n").chmod(0o666)
    assert "chmod 644" in workspace.refused()
    assert "chmod 644" in workspace.refused(config="anticaptcha-etl.toml")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_configuration_file_is_read_only_if_it_is_named(workspace: Workspace) -> None:
    config = workspace.toml("lookback = 5\n")
    os.chown(config, 65534, -1)
    assert "another user" in workspace.refused()
    assert workspace.load(config=str(config)).lookback == 5
    os.chown(workspace.folder, 65534, -1)  # the folder belongs to the same user
    assert workspace.load().lookback == 5


def test_two_key_variables_are_refused(workspace: Workspace) -> None:
    workspace.environ |= {"ANTICAPTCHA_CLIENT_KEY": "a", "ANTICAPTCHA_CLIENT_KEY_FILE": "key"}
    assert "both set" in workspace.refused(needs_key=True)


def test_an_accounts_own_key_beats_the_general_variable(workspace: Workspace) -> None:
    workspace.toml(
        "[accounts.b]\nclient_key_env = 'KEY_OF_B'\n[accounts.c]\nclient_key_file = 'key-of-c'\n", "etc/a.toml"
    )
    (workspace.folder / "etc/key-of-c").write_text("ccc")
    workspace.environ |= {"ANTICAPTCHA_CLIENT_KEY": "aaa", "KEY_OF_B": "bbb"}
    assert workspace.key(config="etc/a.toml") == "aaa"
    assert workspace.key(config="etc/a.toml", account="b") == "bbb"
    assert workspace.key(config="etc/a.toml", account="c") == "ccc"


def test_an_unset_account_variable_never_falls_back_to_another_key(workspace: Workspace) -> None:
    workspace.toml("[accounts.b]\nclient_key_env = 'KEY_OF_B'\n")
    workspace.environ["ANTICAPTCHA_CLIENT_KEY"] = "aaa"
    assert "KEY_OF_B, which is not set" in workspace.refused(needs_key=True, account="b")


def test_the_key_variable_beats_the_top_of_the_file(workspace: Workspace) -> None:
    workspace.toml("client_key_env = 'MINE'\n")
    workspace.environ["MINE"] = "mmm"
    assert workspace.key() == "mmm"
    workspace.environ["ANTICAPTCHA_CLIENT_KEY"] = "aaa"
    assert workspace.key() == "aaa"


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "empty"), ("  \n", "empty"), ("01 23", "space"), ("a\nb", "space"), ("a\x00b", "control"), ('"a"', "quotes")],
)
def test_an_invalid_key_is_refused_and_never_printed(workspace: Workspace, text: str, why: str) -> None:
    workspace.environ["ANTICAPTCHA_CLIENT_KEY"] = text
    said = workspace.refused(needs_key=True)
    assert "ANTICAPTCHA_CLIENT_KEY" in said
    assert why in said
    assert not text.strip() or text.strip() not in said


def test_a_binary_key_file_is_refused_and_never_printed(workspace: Workspace) -> None:
    (workspace.folder / "key").write_bytes(b"secret\xff")
    workspace.environ["ANTICAPTCHA_CLIENT_KEY_FILE"] = "key"
    with pytest.raises(UsageError, match="not a text") as caught:
        workspace.load(needs_key=True)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "toml", ["client_key = '0123abcd'", "[accounts.b]\nclient_key = '0123abcd'", "[accounts.b]\nkey = '0123abcd'"]
)
def test_a_key_in_the_configuration_file_is_refused(workspace: Workspace, toml: str) -> None:
    workspace.toml(toml)
    assert "client_key_file" in workspace.refused()
    assert "0123abcd" not in workspace.refused()


def test_two_key_locations_of_one_account_are_refused(workspace: Workspace) -> None:
    workspace.toml("[accounts.b]\nclient_key_env = 'B'\nclient_key_file = 'b'\n")
    assert "both" in workspace.refused(needs_key=True, account="b")


# ---------------------------------------------------------------- all accounts


def all_accounts(workspace: Workspace, **given: object) -> Accounts:
    return accounts(given, Environment(workspace.environ, workspace.folder))


def test_each_account_gets_the_settings_of_its_name(workspace: Workspace) -> None:
    workspace.toml("rate = 3\n[accounts.shop]\nrate = 1\nclient_key_env = 'S'\n[accounts.lab]\n")
    workspace.environ |= {"S": "sss", "ANTICAPTCHA_CLIENT_KEY": "ggg"}
    both = all_accounts(workspace, lookback="7")
    assert both.names == ("shop", "lab")
    for name in both.names:
        assert both.settings(name, NOW) == workspace.load(account=name, lookback="7")
    keys = [both.settings(name, NOW, needs_key=True).key for name in both.names]
    assert [key.get_secret_value() for key in keys if key] == ["sss", "ggg"]
    assert both.general(NOW).rate == 3


def test_general_settings_ignore_account_tables(workspace: Workspace) -> None:
    workspace.toml("[accounts.default]\nrate = 'fast'\n")
    assert all_accounts(workspace).general(NOW).rate == 5
    with pytest.raises(UsageError, match="fast"):
        all_accounts(workspace).settings("default", NOW)


def test_all_accounts_and_a_selected_account_are_refused(workspace: Workspace) -> None:
    workspace.toml("account = 'shop'\n[accounts.shop]\n")
    assert all_accounts(workspace).names == ("shop",)  # it selects the account of a sync without --all
    with pytest.raises(UsageError, match="--account is one"):
        all_accounts(workspace, account="shop")
    workspace.environ["ANTICAPTCHA_ACCOUNT"] = "shop"
    with pytest.raises(UsageError, match="ANTICAPTCHA_ACCOUNT is one"):
        all_accounts(workspace)


@pytest.mark.parametrize("toml", [None, "rate = 1\n"])
def test_all_accounts_without_any_table_are_refused(workspace: Workspace, toml: str | None) -> None:
    if toml:
        workspace.toml(toml)
    with pytest.raises(UsageError, match="has none") as caught:
        all_accounts(workspace)
    assert "[accounts.NAME]" in caught.value.hint


def test_every_account_is_in_exactly_one_shard() -> None:
    names = [f"account-{number}" for number in range(1000)]
    parts = [[name for name in names if Shard(part, 8).has(name)] for part in range(8)]
    assert sorted(name for part in parts for name in part) == sorted(names)
    assert all(90 < len(part) < 160 for part in parts)
    assert all(Shard(0, 1).has(name) for name in names)
    # Must never change: several machines share the accounts by it.
    assert [next(part for part in range(8) if Shard(part, 8).has(name)) for name in ("default", "shop", "lab")] == [
        7,
        0,
        7,
    ]


@pytest.mark.parametrize("text", ["8/8", "-1/8", "1", "1/0", "0/0", "a/b", "1/8/2", ""])
def test_an_invalid_shard_is_refused(workspace: Workspace, text: str) -> None:
    workspace.toml(f"shard = '{text}'\n")
    assert "from 0 to N-1" in workspace.refused()


# ---------------------------------------------------------------- secrecy


def test_settings_are_frozen_and_never_print_the_key(workspace: Workspace) -> None:
    workspace.environ["ANTICAPTCHA_CLIENT_KEY"] = "0123abcd"
    settings = workspace.load(needs_key=True)
    assert "0123abcd" not in f"{settings} {settings!r} {Environment(workspace.environ, workspace.folder)!r}"
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(settings.key)
    with pytest.raises(FrozenInstanceError):
        settings.account = "b"  # type: ignore[misc]  # assignment must fail


def test_a_lake_is_a_url_or_a_path_below_the_folder_of_its_setting(workspace: Workspace) -> None:
    workspace.toml("lake = 'lake'\n")
    assert workspace.load().lake == str(workspace.folder / "lake")
    workspace.environ["ANTICAPTCHA_LAKE"] = "s3://bucket/spending"
    assert workspace.load().lake == "s3://bucket/spending"


@pytest.mark.parametrize(
    ("url", "rate"), [("http://127.0.0.1:8484", 0.0), ("http://localhost", 0.0), ("https://api.anti-captcha.com", 5.0)]
)
def test_an_api_on_this_machine_has_no_rate_unless_one_is_set(workspace: Workspace, url: str, rate: float) -> None:
    workspace.environ["ANTICAPTCHA_API_URL"] = url
    assert workspace.load().rate == rate
    workspace.environ["ANTICAPTCHA_RATE"] = "7"
    assert workspace.load().rate == 7.0
