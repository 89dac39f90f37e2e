import os
import pickle
from dataclasses import FrozenInstanceError
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from etl.cli import cli
from etl.config import SETTINGS, Accounts, Environment, Settings, Shard, accounts, load
from etl.errors import UsageError
from etl.secret import Secret

NOW = datetime(2026, 3, 10, 23, 59, tzinfo=UTC)


class Desk:
    """A folder with an environment and a TOML of its own."""

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
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


# ---------------------------------------------------------------- the ladder


def test_with_nothing_said_the_defaults_of_the_contract_hold(desk: Desk) -> None:
    settings = desk.load()
    assert (settings.account, settings.api_url) == ("default", "https://api.anti-captcha.com")
    assert settings.warehouse == f"duckdb:///{desk.folder}/warehouse.duckdb"
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


def test_each_step_of_the_ladder_beats_the_one_below_and_is_remembered(desk: Desk) -> None:
    config = desk.toml("lookback = 1\n")
    settings = desk.load()
    assert (settings.lookback, settings.sources["lookback"]) == (1, f"lookback in {config}")
    desk.toml("lookback = 1\n[accounts.default]\nlookback = 2\n")
    settings = desk.load()
    assert (settings.lookback, settings.sources["lookback"]) == (2, f"[accounts.default] lookback in {config}")
    desk.environ["ANTICAPTCHA_LOOKBACK"] = "4"
    settings = desk.load()
    assert (settings.lookback, settings.sources["lookback"]) == (4, "ANTICAPTCHA_LOOKBACK")
    settings = desk.load(lookback="5")
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
        ("concurrency", "64", 64),
        ("rate", "0.5", 0.5),
        ("keep_answers", "31", 31),
        ("max_requests", "1", 1),
        ("totals_only", "yes", True),
        ("key_changed", "1", True),
        ("max_age", "26", 26.0),
        ("checks_folder", "/srv/checks", Path("/srv/checks")),
        ("publish", "/srv/bi", Path("/srv/bi")),
        ("lock_wait", "0", 0.0),
        ("ping_url", "https://hc.example/token", Secret("https://hc.example/token")),
        ("quiet", "true", True),
        ("verbose", "on", True),
        ("log_format", "json", "json"),
        ("accounts_at_once", "64", 64),
        ("shard", "2/8", (2, 8)),
    ],
)
def test_every_setting_can_be_said_in_the_environment(desk: Desk, name: str, text: str, value: object) -> None:
    desk.environ[SETTINGS[name].variable] = text
    assert getattr(desk.load(), name) == value


def test_the_test_above_knows_every_setting() -> None:
    said = test_every_setting_can_be_said_in_the_environment.pytestmark[0].args[1]  # type: ignore[attr-defined]  # set by the decorator
    assert {row[0] for row in said} == set(SETTINGS)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("queues", "FunCaptcha", ("FunCaptcha",)),
        ("soft_ids", "1011", ("1011",)),
        ("ips", "192.0.2.10", ("192.0.2.10",)),
    ],
)
@pytest.mark.parametrize("letters", [slice(None), slice(-1)])
def test_a_list_is_said_in_one_variable_or_one_key_by_its_plural_or_its_singular(
    desk: Desk, name: str, text: str, value: object, letters: slice
) -> None:
    desk.environ[f"ANTICAPTCHA_{name[letters].upper()}"] = text
    assert getattr(desk.load(), name) == value
    desk.environ.clear()
    desk.toml(f"[accounts.default]\n{name[letters]} = '{text}'\n")
    assert getattr(desk.load(), name) == value


def test_an_empty_variable_says_nothing(desk: Desk) -> None:
    desk.environ["ANTICAPTCHA_SINCE"] = " "
    assert desk.load().since is None


def test_a_flag_of_the_toml_can_be_taken_back_by_the_environment(desk: Desk) -> None:
    desk.toml("totals_only = true\n")
    assert desk.load().totals_only
    desk.environ["ANTICAPTCHA_TOTALS_ONLY"] = "0"
    assert not desk.load().totals_only


def test_settings_of_another_account_do_not_leak(desk: Desk) -> None:
    desk.toml(
        "[accounts.a]\nrate = 1\nqueues = ['FunCaptcha']\nsoft_ids = [1011]\nips = ['::1']\n[accounts.b]\nrate = 2\n"
    )
    a, b = desk.load(account="a"), desk.load(account="b")
    assert (a.rate, a.queues, a.soft_ids, a.ips) == (1.0, ("FunCaptcha",), ("1011",), ("::1",))
    assert (b.rate, b.queues, b.soft_ids, b.ips) == (2.0, (), (), ())
    assert desk.load().rate == 5.0


def test_the_account_itself_may_stand_at_the_top_of_the_toml(desk: Desk) -> None:
    desk.toml("account = 'b'\n[accounts.b]\nlookback = 7\n")
    assert (desk.load().account, desk.load().lookback) == ("b", 7)


def test_the_config_is_found_by_option_then_by_variable(desk: Desk) -> None:
    desk.toml("lookback = 1\n")
    desk.toml("lookback = 2\n", "two.toml")
    desk.toml("lookback = 3\n", "three.toml")
    desk.environ["ANTICAPTCHA_CONFIG"] = "two.toml"
    assert desk.load().lookback == 2
    assert desk.load(config="three.toml").lookback == 3


def test_since_all_is_told_apart_from_nothing_said(desk: Desk) -> None:
    assert (desk.load(since="all").since, desk.load(since="all").since_all) == (None, True)
    assert not desk.load(since="2024-01-01").since_all


# ---------------------------------------------------------------- apps, IPs


def test_a_soft_id_is_its_digits_once_however_it_was_written(desk: Desk) -> None:
    assert desk.load(soft_ids=("1022", "+1011", " 01011", "2147483647")).soft_ids == ("1022", "1011", "2147483647")
    desk.toml("soft_ids = [1022, '1011', 1011]\n")
    assert desk.load().soft_ids == ("1022", "1011")


def test_an_address_is_its_canonical_text_once_however_it_was_written(desk: Desk) -> None:
    written = ("2001:DB8:0:0::1", " 192.0.2.10", "2001:db8::1", "::ffff:192.0.2.10", "::FFFF:C000:20A", "::1")
    assert desk.load(ips=written).ips == ("2001:db8::1", "192.0.2.10", "::1")


# ---------------------------------------------------------------- paths


def test_a_relative_warehouse_starts_where_it_was_said(desk: Desk) -> None:
    desk.toml("warehouse = 'held/w.duckdb'\n", "etc/a.toml")
    assert desk.load(config="etc/a.toml").warehouse == f"duckdb:///{desk.folder}/etc/held/w.duckdb"
    assert desk.load(config="etc/a.toml", warehouse="w.duckdb").warehouse == f"duckdb:///{desk.folder}/w.duckdb"


def test_a_relative_folder_of_checks_starts_where_it_was_said(desk: Desk) -> None:
    assert desk.load().checks_folder is None
    desk.toml("checks_folder = 'checks'\n", "etc/a.toml")
    assert desk.load(config="etc/a.toml").checks_folder == desk.folder / "etc" / "checks"
    assert desk.load(config="etc/a.toml", checks_folder="mine").checks_folder == desk.folder / "mine"


def test_a_url_of_a_warehouse_stays_as_it_is(desk: Desk) -> None:
    assert desk.load(warehouse="postgresql://u:p@h/d").warehouse == "postgresql://u:p@h/d"


def test_a_question_mark_in_a_warehouses_path_is_refused_before_it_cuts_the_name(desk: Desk) -> None:
    assert "question mark" in desk.refused(warehouse="what?.duckdb")


# ---------------------------------------------------------------- what is refused


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
            "--soft-id is '1011', 'x': 'x' is no softId, which is a whole number from 1 to 2147483647",
        ),
        ({"soft_ids": ("0",)}, "'0' is no softId"),
        ({"soft_ids": ("-7",)}, "'-7' is no softId"),
        ({"soft_ids": ("2147483648",)}, "'2147483648' is no softId"),
        ({"soft_ids": ("1011,1022",)}, "'1011,1022' is no softId"),
        ({"soft_ids": ("\u0661",)}, "is no softId"),
        (
            {"ips": ("192.0.2.10", "10.0.0.0/8")},
            "--ip is '192.0.2.10', '10.0.0.0/8': '10.0.0.0/8' is a network; name single",
        ),
        ({"ips": ("fe80::1%eth0",)}, "'fe80::1%eth0' has a zone"),
        ({"ips": ("192.0.2.010",)}, "'192.0.2.010' is no IP address"),
        ({"ips": ("192.0.2",)}, "'192.0.2' is no IP address, such as '192.0.2.10' or '2001:db8::1'"),
        ({"account": "a/b"}, "no slash"),
        ({"account": "a\nb"}, "nothing unprintable"),
        ({"log_format": "xml"}, "text or json"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_what_it_must_be(desk: Desk, given: dict[str, Any], must: str) -> None:
    assert must in desk.refused(**given)


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
        ("soft_ids = [1011.0]", "1011.0 is no softId"),
        ("soft_ids = [true]", "true is no softId"),
        ("trusted_soft_ids = [0]", "0 is no softId"),
        ("ips = ['192.0.2.10']", ""),
        ("ips = [3221225994]", "3221225994 is no IP address"),
        ("trusted_ips = ['192.0.2.0/24']", "is a network"),
        ("totals_only = 'perhaps'", "true or false"),
        ("keep_answers = false", "is false: it must"),
        ("lookback = 2024-01-01", "is 2024-01-01: it must"),
        ("since = 2024-01-01T00:00:00Z", "is 2024-01-01T00:00:00+00:00: it must"),
        ("queues = [['a', true], { a = 1 }]", "is ['a', true], {a = 1}: it must"),
        ("account = 7", "text"),
    ],
)
def test_the_types_of_the_toml_are_checked_too_and_shown_as_it_writes_them(desk: Desk, toml: str, must: str) -> None:
    desk.toml(toml)
    if must:
        assert must in desk.refused()
        assert "anticaptcha-etl.toml" in desk.refused()
    else:
        desk.load()


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
def test_the_help_that_is_pointed_to_explains_the_setting(desk: Desk, toml: str, hint: str) -> None:
    path = desk.toml(toml)
    assert desk.refused().endswith(f"| fix {toml.partition(' ')[0]} in {path}{hint}")


@pytest.mark.parametrize(
    "url", ["http://hc.example/token", "ftp://hc.example/token", "token", "https://[token", "http://127.1.evil/token"]
)
def test_a_ping_url_must_be_secure_and_is_shown_nowhere(desk: Desk, url: str) -> None:
    desk.toml(f"[accounts.default]\nping_url = '{url}'\n")
    assert "token" not in desk.refused()
    assert "ping_url in" in desk.refused()
    desk.toml("ping_url = 'http://127.0.0.1:8000/token'\n")
    assert "token" not in repr(desk.load())


def test_every_option_is_of_the_command_it_is_said_to_be_of() -> None:
    for setting in SETTINGS.values():
        commands = [
            name
            for name, command in cli.commands.items()
            if any(setting.flag in option.opts for option in command.params)
        ]
        assert setting.command in commands if setting.command else not commands


def test_several_in_one_option_are_told_to_be_repeated_but_only_there(desk: Desk) -> None:
    assert "repeat --ip for each of several" in desk.refused(ips=("192.0.2.1,192.0.2.2",))
    desk.environ["ANTICAPTCHA_IP"] = "192.0.2.1,x"
    assert "repeat" not in desk.refused()


@pytest.mark.parametrize(
    "url",
    ["http://api.anti-captcha.com", "http://10.0.0.1:80", "http://127.evil.example", "ftp://x", "api.x", "https://"],
)
def test_the_key_never_travels_unencrypted_nor_to_no_host(desk: Desk, url: str) -> None:
    desk.environ["ANTICAPTCHA_API_URL"] = url
    assert "ANTICAPTCHA_API_URL" in desk.refused()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8484", "http://localhost:1", "http://[::1]:1", "https://proxy.example/api"]
)
def test_plain_http_is_for_this_machine(desk: Desk, url: str) -> None:
    desk.environ["ANTICAPTCHA_API_URL"] = url
    assert desk.load().api_url == url


def test_a_misspelt_key_of_the_toml_is_refused_with_what_was_meant(desk: Desk) -> None:
    desk.toml("lookbak = 3\n")
    assert "lookbak" in desk.refused()
    assert "did you mean lookback?" in desk.refused()
    desk.toml("[accounts.b]\nempty-days = 3\n")
    assert "[accounts.b] empty-days" in desk.refused()
    assert "did you mean empty_days?" in desk.refused()


def test_an_account_within_an_account_is_refused(desk: Desk) -> None:
    desk.toml("[accounts.b]\naccount = 'c'\n")
    assert "[accounts.b] account" in desk.refused()


@pytest.mark.parametrize("text", ["lookback = ", "accounts = 3\n", "[accounts]\nb = 3\n"])
def test_a_broken_toml_is_a_usage_error_that_names_the_file(desk: Desk, text: str) -> None:
    path = desk.toml(text)
    assert str(path) in desk.refused()


def test_a_toml_in_another_encoding_gets_a_hint_about_the_encoding(desk: Desk) -> None:
    path = desk.toml("")
    path.write_bytes("lookback = 3\n".encode("utf-16"))
    with pytest.raises(UsageError, match="is not UTF-8 text") as caught:
        desk.load()
    assert str(path) in caught.value.message
    assert caught.value.hint == "save the file with the encoding UTF-8"


def test_a_toml_that_was_asked_for_must_be_there(desk: Desk) -> None:
    assert "nowhere.toml" in desk.refused(config="nowhere.toml")


def test_a_password_in_the_warehouse_is_not_printed(desk: Desk) -> None:
    assert "hunter2" not in repr(desk.load(warehouse="postgresql://u:hunter2@h/d"))


# ---------------------------------------------------------------- variables that are no settings


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
        ("ANTICAPTCHA_BALANCE_ALERT", "ANTICAPTCHA_BALANCE_ALERT is not a setting and is ignored"),
    ],
)
def test_a_variable_that_is_no_setting_is_told_of_with_what_was_meant(desk: Desk, variable: str, sentence: str) -> None:
    desk.environ[variable] = "7"
    assert desk.load().ignored == (sentence,)


def test_a_misspelt_variable_of_the_key_is_told_of_without_its_value(desk: Desk) -> None:
    desk.environ |= {"ANTICAPTCHA_CLIENTKEY": "0123abcd", "ANTICAPTCHA_CLIENT_KEY": "4567"}
    settings = desk.load(needs_key=True)
    assert settings.ignored == (
        "ANTICAPTCHA_CLIENTKEY is not a setting and is ignored; did you mean ANTICAPTCHA_CLIENT_KEY?",
    )
    assert "0123abcd" not in repr(settings)


def test_nothing_is_told_of_variables_that_are_known_empty_or_another_programs(desk: Desk) -> None:
    desk.toml(
        "client_key_env = 'ANTICAPTCHA_MINE'\n[accounts.b]\nclient_key_env = 'ANTICAPTCHA_KEY_OF_B'\n", "two.toml"
    )
    desk.environ |= {setting.variable: "" for setting in SETTINGS.values()}
    desk.environ |= {"ANTICAPTCHA_QUEUES": "FunCaptcha", "ANTICAPTCHA_CONFIG": "two.toml", "ANTICAPTCHA_QUEU": " "}
    desk.environ |= {"ANTICAPTCHA_CLIENT_KEY": "a", "ANTICAPTCHA_CLIENT_KEY_FILE": "key", "PATH": "/bin", "QUEU": "a"}
    desk.environ |= {"ANTICAPTCHA_MINE": "a", "ANTICAPTCHA_KEY_OF_B": "b"}
    assert desk.load().ignored == ()


# ---------------------------------------------------------------- the key


def test_the_key_is_read_only_for_commands_that_need_it(desk: Desk) -> None:
    desk.environ["ANTICAPTCHA_CLIENT_KEY_FILE"] = "missing"
    assert desk.load().key is None
    assert "missing" in desk.refused(needs_key=True)


def test_a_missing_key_says_every_way_to_give_one(desk: Desk) -> None:
    said = desk.refused(needs_key=True, account="b")
    for way in (
        "account 'b'",
        "ANTICAPTCHA_CLIENT_KEY=",
        "ANTICAPTCHA_CLIENT_KEY_FILE=",
        "client_key_file =",
        "[accounts.b]",
        "demo",
    ):
        assert way in said


def test_a_variable_that_almost_names_the_key_is_pointed_out_without_its_value(desk: Desk) -> None:
    desk.environ["ANTICAPTCHA_KEY"] = "0123abcd"
    assert "ANTICAPTCHA_KEY is set, but" in desk.refused(needs_key=True)
    assert "0123abcd" not in desk.refused(needs_key=True)


def test_the_key_is_stripped_and_its_place_remembered(desk: Desk) -> None:
    desk.environ["ANTICAPTCHA_CLIENT_KEY"] = " 0123abcd\n"
    settings = desk.load(needs_key=True)
    assert (settings.key, settings.sources["key"]) == (Secret("0123abcd"), "ANTICAPTCHA_CLIENT_KEY")


def test_a_key_file_is_read_from_the_working_directory(desk: Desk) -> None:
    (desk.folder / "key").write_text("\ufeff0123abcd\r\n")
    desk.environ["ANTICAPTCHA_CLIENT_KEY_FILE"] = "key"
    assert desk.key() == "0123abcd"


@pytest.mark.parametrize(
    ("mode", "exposed"), [(0o400, False), (0o640, False), (0o660, False), (0o644, True), (0o444, True)]
)
def test_a_key_file_that_everybody_can_read_is_told_of(desk: Desk, mode: int, exposed: bool) -> None:
    (desk.folder / "key").write_text("0123abcd")
    (desk.folder / "key").chmod(mode)
    desk.environ["ANTICAPTCHA_CLIENT_KEY_FILE"] = "key"
    said = desk.load(needs_key=True).exposed
    assert (said is not None) is exposed
    assert said is None or "chmod 600" in said.hint
    assert desk.load().exposed is None
    assert "0123abcd" not in f"{said}"


def test_where_containers_mount_secrets_files_are_nobody_elses_to_read_or_write(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    (desk.folder / "key").write_text("0123abcd")
    (desk.folder / "key").chmod(0o444)
    desk.environ["ANTICAPTCHA_CLIENT_KEY_FILE"] = "key"
    assert desk.load(needs_key=True).exposed
    monkeypatch.setattr("etl.config._SECRETS", (desk.folder,))
    assert desk.load(needs_key=True).exposed is None
    (desk.folder / "key").chmod(0o777)  # as a drive without modes shows every file
    desk.toml("lookback = 5\n").chmod(0o777)
    settings = desk.load(needs_key=True)
    assert (settings.lookback, settings.exposed) == (5, None)


@pytest.mark.parametrize("mode", [0o666, 0o602])
def test_a_key_file_that_everybody_can_write_to_is_refused(desk: Desk, mode: int) -> None:
    (desk.folder / "key").write_text("0123abcd")
    (desk.folder / "key").chmod(mode)
    desk.environ["ANTICAPTCHA_CLIENT_KEY_FILE"] = "key"
    assert "chmod 600" in desk.refused(needs_key=True)


def test_a_configuration_that_everybody_can_write_to_is_refused_for_it_says_where_the_key_goes(desk: Desk) -> None:
    desk.toml("lookback = 5\n").chmod(0o664)
    assert desk.load().lookback == 5
    desk.toml("lookback = 5\n").chmod(0o666)
    assert "chmod 644" in desk.refused()
    assert "chmod 644" in desk.refused(config="anticaptcha-etl.toml")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_configuration_that_a_stranger_put_there_counts_only_when_it_is_named(desk: Desk) -> None:
    config = desk.toml("lookback = 5\n")
    os.chown(config, 65534, -1)
    assert "another user" in desk.refused()
    assert desk.load(config=str(config)).lookback == 5
    os.chown(desk.folder, 65534, -1)  # the whole folder is his, and we are in it
    assert desk.load().lookback == 5


def test_two_general_keys_are_one_too_many(desk: Desk) -> None:
    desk.environ |= {"ANTICAPTCHA_CLIENT_KEY": "a", "ANTICAPTCHA_CLIENT_KEY_FILE": "key"}
    assert "both set" in desk.refused(needs_key=True)


def test_the_place_an_account_names_wins_over_the_general_variable(desk: Desk) -> None:
    desk.toml("[accounts.b]\nclient_key_env = 'KEY_OF_B'\n[accounts.c]\nclient_key_file = 'key-of-c'\n", "etc/a.toml")
    (desk.folder / "etc/key-of-c").write_text("ccc")
    desk.environ |= {"ANTICAPTCHA_CLIENT_KEY": "aaa", "KEY_OF_B": "bbb"}
    assert desk.key(config="etc/a.toml") == "aaa"
    assert desk.key(config="etc/a.toml", account="b") == "bbb"
    assert desk.key(config="etc/a.toml", account="c") == "ccc"


def test_an_accounts_variable_that_is_not_set_never_falls_back_to_another_key(desk: Desk) -> None:
    desk.toml("[accounts.b]\nclient_key_env = 'KEY_OF_B'\n")
    desk.environ["ANTICAPTCHA_CLIENT_KEY"] = "aaa"
    assert "KEY_OF_B, which is not set" in desk.refused(needs_key=True, account="b")


def test_the_environment_wins_over_the_top_of_the_toml(desk: Desk) -> None:
    desk.toml("client_key_env = 'MINE'\n")
    desk.environ["MINE"] = "mmm"
    assert desk.key() == "mmm"
    desk.environ["ANTICAPTCHA_CLIENT_KEY"] = "aaa"
    assert desk.key() == "aaa"


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "empty"), ("  \n", "empty"), ("01 23", "space"), ("a\nb", "space"), ("a\x00b", "control"), ('"a"', "quotes")],
)
def test_a_text_that_is_no_key_is_refused_and_never_quoted(desk: Desk, text: str, why: str) -> None:
    desk.environ["ANTICAPTCHA_CLIENT_KEY"] = text
    said = desk.refused(needs_key=True)
    assert "ANTICAPTCHA_CLIENT_KEY" in said
    assert why in said
    assert not text.strip() or text.strip() not in said


def test_a_key_file_that_is_not_a_text_is_refused_without_its_bytes(desk: Desk) -> None:
    (desk.folder / "key").write_bytes(b"secret\xff")
    desk.environ["ANTICAPTCHA_CLIENT_KEY_FILE"] = "key"
    with pytest.raises(UsageError, match="not a text") as caught:
        desk.load(needs_key=True)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "toml", ["client_key = '0123abcd'", "[accounts.b]\nclient_key = '0123abcd'", "[accounts.b]\nkey = '0123abcd'"]
)
def test_a_key_in_the_toml_is_refused_with_where_it_belongs(desk: Desk, toml: str) -> None:
    desk.toml(toml)
    assert "client_key_file" in desk.refused()
    assert "0123abcd" not in desk.refused()


def test_two_places_of_one_account_are_one_too_many(desk: Desk) -> None:
    desk.toml("[accounts.b]\nclient_key_env = 'B'\nclient_key_file = 'b'\n")
    assert "both" in desk.refused(needs_key=True, account="b")


# ---------------------------------------------------------------- every account


def every(desk: Desk, **given: object) -> Accounts:
    return accounts(given, Environment(desk.environ, desk.folder))


def test_every_account_of_the_toml_has_the_settings_that_its_name_would_give(desk: Desk) -> None:
    desk.toml("rate = 3\n[accounts.shop]\nrate = 1\nclient_key_env = 'S'\n[accounts.lab]\n")
    desk.environ |= {"S": "sss", "ANTICAPTCHA_CLIENT_KEY": "ggg"}
    both = every(desk, lookback="7")
    assert both.names == ("shop", "lab")
    for name in both.names:
        assert both.settings(name, NOW) == desk.load(account=name, lookback="7")
    keys = [both.settings(name, NOW, needs_key=True).key for name in both.names]
    assert [key.get_secret_value() for key in keys if key] == ["sss", "ggg"]
    assert both.general(NOW).rate == 3


def test_what_holds_in_general_is_no_account_s_not_even_the_default_one_s(desk: Desk) -> None:
    desk.toml("[accounts.default]\nrate = 'fast'\n")
    assert every(desk).general(NOW).rate == 5
    with pytest.raises(UsageError, match="fast"):
        every(desk).settings("default", NOW)


def test_every_account_and_one_account_contradict_each_other(desk: Desk) -> None:
    desk.toml("account = 'shop'\n[accounts.shop]\n")
    assert every(desk).names == ("shop",)  # which one a plain sync means
    with pytest.raises(UsageError, match="--account is one"):
        every(desk, account="shop")
    desk.environ["ANTICAPTCHA_ACCOUNT"] = "shop"
    with pytest.raises(UsageError, match="ANTICAPTCHA_ACCOUNT is one"):
        every(desk)


@pytest.mark.parametrize("toml", [None, "rate = 1\n"])
def test_without_a_table_there_is_no_account_to_sync_and_it_is_said_what_to_write(desk: Desk, toml: str | None) -> None:
    if toml:
        desk.toml(toml)
    with pytest.raises(UsageError, match="has none") as caught:
        every(desk)
    assert "[accounts.NAME]" in caught.value.hint


def test_every_account_is_in_one_shard_and_another_account_moves_none() -> None:
    names = [f"account-{number}" for number in range(1000)]
    parts = [[name for name in names if Shard(part, 8).has(name)] for part in range(8)]
    assert sorted(name for part in parts for name in part) == sorted(names)
    assert all(90 < len(part) < 160 for part in parts)
    assert all(Shard(0, 1).has(name) for name in names)
    # These are promises to those who have several machines at work.
    assert [next(part for part in range(8) if Shard(part, 8).has(name)) for name in ("default", "shop", "lab")] == [
        7,
        0,
        7,
    ]


@pytest.mark.parametrize("text", ["8/8", "-1/8", "1", "1/0", "0/0", "a/b", "1/8/2", ""])
def test_a_shard_is_a_part_of_several_counted_from_0(desk: Desk, text: str) -> None:
    desk.toml(f"shard = '{text}'\n")
    assert "from 0 to N-1" in desk.refused()


# ---------------------------------------------------------------- what comes out


def test_settings_are_frozen_and_show_no_key(desk: Desk) -> None:
    desk.environ["ANTICAPTCHA_CLIENT_KEY"] = "0123abcd"
    settings = desk.load(needs_key=True)
    assert "0123abcd" not in f"{settings} {settings!r} {Environment(desk.environ, desk.folder)!r}"
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(settings.key)
    with pytest.raises(FrozenInstanceError):
        settings.account = "b"  # type: ignore[misc]  # that it cannot be is the promise
