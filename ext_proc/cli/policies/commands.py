"""`tbms policies`: the two commands and their options."""

from pathlib import Path
from typing import Annotated

import typer

from ext_proc.cli.operating import AsJson

app = typer.Typer(
    name="policies", help="Policies for a Kuma mesh.", no_args_is_help=True, pretty_exceptions_enable=False
)


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of manifests, with or without subfolders for Kuma versions.")],
    kuma: Annotated[list[str] | None, typer.Option(help="Kuma version, such as 2.14; may be repeated.")] = None,
    crds: Annotated[Path | None, typer.Option(help="Kuma's CRDs, and openapi.yaml: a folder, or one file.")] = None,
    config: Annotated[
        list[Path] | None,
        typer.Option(help="Configuration of a sidecar (GET .../_config), or a folder of them; may be repeated."),
    ] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(help="Folder with other manifests, which may lay files; may be repeated.")
    ] = None,
    laid: Annotated[
        list[str] | None, typer.Option(help="A file that is there before Envoy starts; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge policies without a control plane. Exit status: 0 no errors, 1 errors, 2 they could not be judged."""
    from ext_proc.cli.policies import check as judging
    from ext_proc.kuma.checking.report import Evidence

    evidence = Evidence(crds, tuple(config or ()), tuple(beside or ()), frozenset(laid or ()))
    raise typer.Exit(judging.run(folder, kuma or ["2.14"], evidence, as_json=as_json))


@app.command()
def render(
    kuma: Annotated[str, typer.Option(help="Version of Kuma: 2.13, 2.14 or 3.0.")],
    environment: Annotated[str, typer.Option(help="Where the zone keeps its resources: kubernetes or universal.")],
    mesh: Annotated[str, typer.Option(help="The mesh.")] = "default",
    zone: Annotated[str, typer.Option(help="The zone of the clients; `default` where there is only one.")] = "default",
    namespace: Annotated[str, typer.Option(help="Kubernetes: the namespace of the model servers.")] = "",
    service: Annotated[str, typer.Option(help="The (Mesh)Service of the model servers.")] = "models",
    port: Annotated[
        list[str] | None,
        typer.Option(
            help="name:number:http|grpc[:port of the model server]; may be repeated. http:8501 and grpc:8500."
        ),
    ] = None,
    naming: Annotated[
        str | None, typer.Option(help="How proxies' resources are named: legacy or kri. As this Kuma does by default.")
    ] = None,
    edge_labels: Annotated[str, typer.Option(help="key=value,...: labels of clients' Dataplanes.")] = "app=client",
    node_labels: Annotated[str, typer.Option(help="key=value,...: of model servers' Dataplanes.")] = "app=models",
    caller: Annotated[
        list[str] | None,
        typer.Option(help="Who may call: a workload, or [namespace/]service account; may be repeated. `client`."),
    ] = None,
    trust_domain: Annotated[str, typer.Option(help="SPIFFE trust domain. <mesh>.<zone>.mesh.local.")] = "",
    local_node: Annotated[
        list[str] | None, typer.Option(help="A node of this zone that other zones may name; may be repeated.")
    ] = None,
    remote_node: Annotated[
        list[str] | None, typer.Option(help="node=zone: a node of another zone; may be repeated.")
    ] = None,
    gateway: Annotated[
        str | None, typer.Option(help="A MeshGateway to patch; with 3.0 the `app` label of a delegated one.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="The configuration of the edges: socket, map, models, limits come from it.")
    ] = None,
    node_config: Annotated[
        Path | None, typer.Option(help="That of the nodes: how long calls are held, which are batched, and the map.")
    ] = None,
    known: Annotated[bool, typer.Option("--known/--no-known", help="With the map of known calls, or without.")] = True,
    egress: Annotated[
        bool,
        typer.Option(
            "--egress/--no-egress", help="With the listener for races at clients, or (one edge a host) without."
        ),
    ] = True,
    collector: Annotated[
        str | None, typer.Option(help="host:port of an OpenTelemetry collector: metrics, traces and access logs.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="A file to leave out, such as mesh-identity; may be repeated.")
    ] = None,
    system_namespace: Annotated[str, typer.Option(help="Kubernetes: that of the control plane.")] = "kuma-system",
    out: Annotated[Path | None, typer.Option(help="A folder for the files; without it they are printed.")] = None,
) -> None:
    """Write Kuma's policies for a mesh: patches of sidecars, timeouts, retries, permissions, routes."""
    from ext_proc.cli.policies import render as rendering

    wishes = rendering.Wishes(
        kuma=kuma,
        environment=environment,
        mesh=mesh,
        zone=zone,
        namespace=namespace,
        service=service,
        ports=tuple(port or ()),
        naming=naming,
        edge_labels=edge_labels,
        node_labels=node_labels,
        callers=tuple(caller or ()),
        trust_domain=trust_domain,
        local_nodes=tuple(local_node or ()),
        remote_nodes=tuple(remote_node or ()),
        gateway=gateway,
        config=config,
        node_config=node_config,
        known=known,
        egress=egress,
        collector=collector,
        without=tuple(without or ()),
        system_namespace=system_namespace,
    )
    typer.echo(rendering.run(wishes, out), nl=False)
