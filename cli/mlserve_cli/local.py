"""`mlserve local`: the embedded development cluster."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

import click

from mlserve_cli.errors import CommandError
from mlserve_cli.output import console, output_option, print_json, table
from mlserve_local import up as cluster

data_dir_option = click.option(
    "--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Where its state lies; one cluster each."
)


def _report(text: str) -> None:
    click.echo(text, err=True)


@click.group()
def local() -> None:
    """A cluster of plain processes on this machine, for development and tests."""


@local.command()
@click.option("-d", "--detach", is_flag=True, help="Leave it running in the background.")
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Run only node, network and operator, against the API server and controllers of this cluster.",
)
@click.option(
    "--no-operator", is_flag=True, help="Without the operator and its definition, for example to install the chart."
)
@click.option("--crds", type=click.Path(path_type=Path, file_okay=False), help="Directory of definitions to apply.")
@click.option("--node-cpu", type=click.IntRange(0), default=0, help="Cores the node claims; 0 chooses.")
@click.option("--fake-gpus", type=click.IntRange(0), default=0, help="GPUs (nvidia.com/gpu) the node claims.")
@click.option("--image", "images", multiple=True, metavar="NAME=COMMAND", help="Run images of a name as a command.")
@data_dir_option
def up(
    data_dir: Path | None,
    kubeconfig: Path | None,
    crds: Path | None,
    node_cpu: int,
    fake_gpus: int,
    images: tuple[str, ...],
    *,
    detach: bool,
    no_operator: bool,
) -> None:
    """Start the cluster; print the line that points kubectl at it.

    In a shell: eval "$(mlserve local up --detach)"
    """
    options = cluster.UpOptions(
        data_dir=data_dir,
        kubeconfig=kubeconfig,
        operator=not no_operator,
        crds=crds,
        node_cpu=node_cpu,
        fake_gpus=fake_gpus,
        images=images,
    )
    # A CI job or a service manager says SIGTERM where a person types Ctrl-C: both end what was started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        running = cluster.up(options, _report)
    except cluster.ClusterError as error:
        raise CommandError(str(error)) from None
    with contextlib.suppress(KeyboardInterrupt):
        click.echo(running.export_line)
        if running.settings.with_operator:
            _report(f"operator: {running.settings.operator_url} (`mlserve status NAME` shows the address of a model)")
        if detach:
            return
        _report("Ctrl-C ends it")
        signal.pause()
    cluster.down(running.data_dir, _report)


@local.command()
@data_dir_option
def down(data_dir: Path | None) -> None:
    """End what `up` started and nothing else; the data stays."""
    cluster.down(data_dir, _report)


@local.command()
@data_dir_option
@output_option
def status(data_dir: Path | None, output: str) -> None:
    """Show what is running."""
    found = cluster.status(data_dir).to_dict()
    if output == "json":
        print_json(found)
        return
    console.print(table(("FIELD", "VALUE"), [(key, value) for key, value in found.items() if key != "parts"]))
    parts = [(part["name"], part["pid"], part["running"], part["restarts"]) for part in found["parts"]]
    console.print(table(("PART", "PID", "RUNNING", "RESTARTS"), parts))
