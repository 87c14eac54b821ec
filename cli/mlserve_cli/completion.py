"""Shell completion scripts."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    r"""Print the completion script of a shell.

    \b
    bash: source <(mlserve completion bash)
    zsh:  mlserve completion zsh > "${fpath[1]}/_mlserve"
    fish: mlserve completion fish > ~/.config/fish/completions/mlserve.fish
    """
    from mlserve_cli.main import main

    kind = get_completion_class(shell)
    if kind is None:  # pragma: no cover - click ships all three
        raise click.UsageError(f"no completion for {shell}")
    click.echo(kind(main, {}, "mlserve", "_MLSERVE_COMPLETE").source())
