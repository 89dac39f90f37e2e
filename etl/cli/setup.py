"""The commands ``config show``, ``completion`` and ``mcp``."""

import click

from etl.cli.context import CliContext
from etl.cli.options import COMPLETE_VARIABLE, NAME, common
from etl.cli.output import show


@click.group()
def config() -> None:
    """Show the settings in effect.

    \b
    anticaptcha-etl config show
    """


@config.command("show")
@common
@click.pass_obj
def config_show(context: CliContext) -> None:
    """Show every setting in effect and where it comes from.

    Secrets are not shown: URLs are without passwords, and of the key only its place is.

    \b
    anticaptcha-etl config show
    anticaptcha-etl config show --json
    """
    from etl.config import key_place
    from etl.maintenance.effective_settings import EffectiveSetting, effective_settings
    from etl.outputs.text_tables import printable, table

    settings = context.settings()
    found = [*effective_settings(settings)]
    place = key_place(settings.account, context.given, context.environment)
    found.append(EffectiveSetting("client_key", "set" if place else "", place or "not set"))
    rows = [[printable(cell) for cell in one] for one in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    show(context, found, table(rows, widths).rstrip())


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common
@click.pass_obj
def completion(context: CliContext, shell: str) -> None:
    """Print the script that completes commands, options and names.

    \b
    eval "$(anticaptcha-etl completion bash)"       in ~/.bashrc
    eval "$(anticaptcha-etl completion zsh)"        in ~/.zshrc
    anticaptcha-etl completion fish | source        in ~/.config/fish/config.fish
    """
    from click import shell_completion

    from etl.cli.app import cli

    classes = {
        "bash": shell_completion.BashComplete,
        "zsh": shell_completion.ZshComplete,
        "fish": shell_completion.FishComplete,
    }
    script = classes[shell](cli, {}, NAME, COMPLETE_VARIABLE).source()
    if shell == "bash":
        script += "COMP_WORDBREAKS=${COMP_WORDBREAKS//@/}  # so that @cookbook/NAME is one word\n"
    show(context, {"shell": shell, "script": script}, script)


@click.command()
@common
@click.pass_obj
def mcp(context: CliContext) -> None:
    """Answer questions of assistants (Model Context Protocol, standard input and output).

    Read-only: assistants list the views, run one query at a time (at most 1,000 rows and 30 seconds) and the saved
    queries of the cookbook. Requires the extra `mcp`: pip install '.[mcp]'

    \b
    anticaptcha-etl mcp --warehouse /srv/bi/spending.duckdb
    """
    from etl.outputs.assistant import serve
    from etl.warehouse.engine import warehouse_url

    settings = context.settings()
    serve(warehouse_url(settings.warehouse), wait=settings.lock_wait, clock=context.clock)
