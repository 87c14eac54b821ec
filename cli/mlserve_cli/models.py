"""`mlserve validate`, `render` and `package`: everything about a ModelDeployment that needs no cluster."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml

from mlserve_cli.errors import CommandError
from mlserve_cli.output import output_option, print_json, show
from mlserve_core.api import v1alpha1 as api

Object = dict[str, Any]


def read_documents(path: str) -> list[Object]:
    """ModelDeployments of a YAML file (`-`: standard input).

    Raises:
        CommandError: No readable YAML, or no ModelDeployment in it.
    """
    from mlserve_local.apiserver.decoding import parse_documents

    try:
        documents = parse_documents(sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise CommandError(f"{path}: {error}") from None
    ours = [d for d in documents if isinstance(d, dict) and d.get("kind") == api.KIND]
    if not ours:
        kinds = sorted({str(d.get("kind")) for d in documents if isinstance(d, dict)})
        raise CommandError(f"{path} holds no {api.KIND} ({api.API_VERSION}); it holds {', '.join(kinds) or 'nothing'}")
    return ours


def problems(document: Object) -> Iterator[str]:
    """What an API server would refuse: unknown fields, schema, CEL rules; each with the field."""
    from mlserve_core.api.crd import custom_resource_definition
    from mlserve_local.apiserver.crd import compile_version
    from mlserve_local.apiserver.decoding import DecodeError, Problems
    from mlserve_local.apiserver.validation import metadata_errors

    if document.get("apiVersion") != api.API_VERSION:
        yield f"apiVersion: must be {api.API_VERSION}, not {document.get('apiVersion')!r}"
        return
    version = compile_version(custom_resource_definition()["spec"]["versions"][0])
    found = Problems()
    try:
        decoded = version.decode(document, found)
    except DecodeError as error:
        yield str(error)
        return
    yield from found.texts()
    metadata = decoded["metadata"]
    if prefix := metadata.get("generateName"):
        metadata.setdefault("name", f"{prefix}generated")
    yield from (error.message() for error in metadata_errors(metadata, f"{api.GROUP}/{api.PLURAL}"))
    # A missing name has been said; the rules that read it would only say that they cannot.
    metadata.setdefault("name", "unnamed")
    yield from (error.message() for error in version.errors(decoded, None))


def name_of(document: Object) -> str:
    """Name of a document, whatever shape it has."""
    metadata = document.get("metadata")
    return str(metadata.get("name") or "unnamed") if isinstance(metadata, dict) else "unnamed"


def artifact_problem(document: Object, root: Path | None) -> str:
    """What is wrong with an artifact that lies on this machine.

    Arguments:
        document: A ModelDeployment without problems.
        root: Where `file:///` begins. None: looked for below this directory and in the root of the file system; what is
            in neither may well be on the cluster's nodes, and is no problem.

    Returns:
        A sentence, or "" where the artifact is good or cannot be seen from here.
    """
    from mlserve_core.artifact import ArtifactError, load_artifact

    model = document["spec"]["model"]
    if not model["uri"].startswith("file://"):
        return ""
    below = model["uri"].removeprefix("file://").lstrip("/")
    places = [root / below] if root else [place for place in (Path.cwd() / below, Path("/", below)) if place.exists()]
    try:
        for place in places[:1]:
            load_artifact(place, model.get("digest", ""))
    except ArtifactError as error:
        return f"spec.model: {error}"
    return ""


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--file-root",
    envvar="MLSERVE_FILE_ROOT",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where file:/// URIs begin, as on the local cluster; by default this directory, then the file system's root.",
)
@output_option
def validate(files: tuple[str, ...], file_root: Path | None, output: str) -> None:
    """Check each FILE as the API server would (schema and rules), and artifacts that lie on this machine."""
    found = []
    for document in itertools.chain.from_iterable(read_documents(file) for file in files):
        name, texts = name_of(document), list(problems(document))
        if not texts and (artifact := artifact_problem(document, file_root)):
            texts = [artifact]
        found += [{"name": name, "problem": text} for text in texts]
        if not texts and output == "table":
            click.echo(f"{name}: valid")
    if output == "json":
        print_json({"valid": not found, "problems": found})
    elif found:
        show(output, found, ("NAME", "PROBLEM"), [(item["name"], item["problem"]) for item in found])
    if found:
        raise click.exceptions.Exit(1)


def render_objects(document: Object) -> list[Object]:
    """The objects the operator applies for a ModelDeployment that is new and whose pods are ready."""
    from mlserve_core.api.crd import custom_resource_definition
    from mlserve_local.apiserver.crd import compile_version
    from mlserve_local.apiserver.decoding import Problems
    from mlserve_operator.resources.children import Wanted, build_children
    from mlserve_operator.resources.pod import build_pod_template
    from mlserve_operator.resources.router import build_router, router_of
    from mlserve_operator.rollout.revisions import Snapshot, revision_name
    from mlserve_operator.rollout.state import RevisionPlan, Role, Route
    from mlserve_operator.settings import Settings
    from mlserve_operator.traffic import envoy
    from mlserve_operator.traffic.entry import Entry

    stored = compile_version(custom_resource_definition()["spec"]["versions"][0]).decode(document, Problems())
    metadata = {"namespace": "default", "uid": "00000000-0000-0000-0000-000000000000", **stored["metadata"]}
    metadata.setdefault("name", f"{metadata.get('generateName', '')}generated")
    owner = {**stored, "metadata": metadata}
    settings, spec = Settings(), api.ModelDeploymentSpec.model_validate(stored["spec"])
    name, namespace = metadata["name"], metadata["namespace"]
    revision = revision_name(name, stored["spec"])
    image = spec.runtime.image or settings.runtime_image
    template = build_pod_template(name=name, revision=revision, model=spec.model, runtime=spec.runtime, image=image)
    snapshot = Snapshot(revision=revision, number=1, model=spec.model, runtime=spec.runtime, template=template)
    replicas = spec.autoscaling.min_replicas if spec.autoscaling else spec.replicas
    port, route, router = envoy.free_port(set()), Route(weights={revision: 100}), router_of(name, spec)
    wanted = Wanted(
        owner=owner,
        spec=spec,
        plans=[RevisionPlan(revision=revision, role=Role.STABLE, replicas=replicas)],
        snapshots={revision: snapshot},
        route=route,
        router=router,
        port=port,
    )
    objects = build_children(wanted)
    if spec.traffic.mode is api.TrafficMode.ENVOY:
        entry = Entry(
            name=name,
            namespace=namespace,
            port=port,
            route=route,
            timeout_seconds=spec.traffic.timeout_seconds,
            sticky_header=spec.traffic.sticky_header,
        )
        objects += build_router(
            name=router,
            namespace=namespace,
            owners=[owner],
            files=envoy.files([entry], cluster_domain=settings.cluster_domain, dns_resolver=settings.dns_resolver),
            replicas=spec.traffic.router.replicas,
            resources=spec.traffic.router.resources,
            image=settings.router_image,
            log_level=settings.router_log_level,
        )
    return objects


@click.command()
@click.argument("file")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
def render(file: str, output: str) -> None:
    """Print the objects the operator would apply for FILE, as YAML or JSON."""
    documents = read_documents(file)
    for document in documents:
        if texts := list(problems(document)):
            raise CommandError(f"{file} would be refused: " + "; ".join(texts))
    objects = [item for document in documents for item in render_objects(document)]
    if output == "json":
        print_json(objects)
    else:
        click.echo(yaml.safe_dump_all(objects, sort_keys=False, width=120), nl=False)


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def package(arguments: tuple[str, ...]) -> None:
    """Check a model directory, profile and seal it, print its digest (runs `mlserve-runtime package`)."""
    program = Path(sys.executable).parent / "mlserve-runtime"
    if not program.exists():
        raise CommandError("packaging runs the model once and needs the runtime: pip install 'mlserve[runtime]'")
    raise click.exceptions.Exit(subprocess.run([program, "package", *arguments], check=False).returncode)
