"""Settings from the command line, the environment and a TOML file: the only package that reads them.

A value on the command line wins over the environment, then ``[accounts.NAME]`` in the file, then the top of the file,
then the default. The client key is separate: it is never an option and never in the file, and it is read only for
commands that use the API.

The command line imports this package for ``--help``, so modules that are slow to import are imported where needed.
"""

from etl.config.environment import CONFIG_NAME, PREFIX, Environment
from etl.config.permissions import FilePermissionWarning
from etl.config.resolve import Accounts, accounts, key_file, key_place, load
from etl.config.settings import SETTINGS, Setting, Settings
from etl.config.toml_file import config_path
from etl.config.values import Shard

__all__ = [
    "CONFIG_NAME",
    "PREFIX",
    "SETTINGS",
    "Accounts",
    "Environment",
    "FilePermissionWarning",
    "Setting",
    "Settings",
    "Shard",
    "accounts",
    "config_path",
    "key_file",
    "key_place",
    "load",
]
