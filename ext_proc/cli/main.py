"""The `tbms` command. Each subcommand imports what it needs when it runs."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ext_proc.broker.plan import AnswerMode
from ext_proc.cli import operating
from ext_proc.cli.exits import Exit, status_of
from ext_proc.cli.operating import AsJson
from ext_proc.errors import TbmsError
from mesh.errors import MeshError

if TYPE_CHECKING:
    from ext_proc.planning.fleet.change import FleetChange

app = typer.Typer(
    name="tbms",
    help="Time-based model serving inside the mesh.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(operating.app)

ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="The YAML configuration file.")]


@app.command()
def serve(config: ConfigFile) -> None:
    """Run the external processor beside an Envoy."""
    from ext_proc.process.app import App

    _run(App(config).run())


@app.command()
def check(config: ConfigFile, as_json: AsJson = False) -> None:
    """Validate a configuration file."""
    from ext_proc.cli.output import console, print_json
    from ext_proc.config import load

    try:
        loaded = load(config)
    except TbmsError as error:
        if not as_json:
            raise
        print_json(console(), {"config": str(config), "ok": False, "errors": str(error).splitlines()})
        raise typer.Exit(Exit.FAILED) from None
    if as_json:
        role = "edge" if loaded.node is None else "node"
        print_json(console(), {"config": str(config), "ok": True, "role": role, "admin": loaded.admin})
    else:
        typer.echo(f"{config}: ok")


@app.command("envoy-config")
def envoy_config(
    config: ConfigFile,
    envoy_version: Annotated[str, typer.Option(help="The Envoy that will read it: 1.36 or newer.")] = "1.40",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, which Envoy reads as well as YAML.")] = False,
) -> None:
    """Print an Envoy bootstrap that fits the configuration file, and see that its map of known calls exists."""
    from ext_proc.cli.envoy_config import as_json_text, bootstrap_for, lay_map
    from ext_proc.config import load

    loaded = load(config)
    bootstrap = bootstrap_for(loaded, envoy_version)
    typer.echo(as_json_text(bootstrap) if as_json else bootstrap, nl=False)
    if (warning := lay_map(loaded)) is not None:
        typer.echo(warning, err=True)


@app.command("known-map")
def known_map(config: ConfigFile) -> None:
    """Lay an empty map of known calls where there is none yet: Envoy has to find it when it starts."""
    from ext_proc.cli.envoy_config import laid_map
    from ext_proc.config import load

    typer.echo(laid_map(load(config)))


@app.command("model-server")
def model_server(
    repository: Annotated[Path, typer.Option(help="Folder of <name>/<version>/model.onnx.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option(help="TF Serving and V2 gRPC; 0 takes a free port.")] = 8500,
    rest_port: Annotated[int, typer.Option(help="TF Serving and V2 REST; 0 takes a free port.")] = 8501,
    load: Annotated[str, typer.Option(help="Models to load at start: all, none, or names with commas.")] = "all",
    threads: Annotated[int, typer.Option(help="Inferences that run at once.")] = 2,
    delay_ms: Annotated[float, typer.Option(help="Simulation: added to each inference.")] = 0.0,
    load_delay_ms: Annotated[float, typer.Option(help="Simulation: added to each load.")] = 0.0,
) -> None:
    """Serve ONNX models over the TF Serving and V2 APIs."""
    from ext_proc.process.heap import settle_heap
    from ext_proc.process.lifecycle import Stop
    from mesh.model_server.server import ModelServerSettings, serve

    settings = ModelServerSettings(
        repository=repository,
        host=host,
        grpc_port=grpc_port,
        rest_port=rest_port,
        load="all" if load == "all" else "none" if load == "none" else tuple(load.split(",")),
        threads=threads,
        delay_ms=delay_ms,
        load_delay_ms=load_delay_ms,
    )

    def ready(grpc: int, rest: int) -> None:
        settle_heap()
        typer.echo(f"grpc {host}:{grpc}  rest {host}:{rest}", err=True)

    async def run() -> None:
        await serve(settings, ready, Stop().asked)

    _run(run())


@app.command()
def replay(
    recorded: Annotated[
        list[Path],
        typer.Argument(help="A server's log of JSON lines; or recordings of calls: folders, or files, of each edge."),
    ],
    nodes: Annotated[
        str | None, typer.Option(help="Calls: another number of nodes, or more or fewer: 4, +1, -1.")
    ] = None,
    without: Annotated[list[str] | None, typer.Option(help="Calls: a node that is not there; may be repeated.")] = None,
    slots: Annotated[str | None, typer.Option(help="Calls: places for models of each node: 50, +50, -10.")] = None,
    replicas: Annotated[int | None, typer.Option(min=1, max=64, help="Calls: another `routing.replicas`.")] = None,
    max_replicas: Annotated[
        int | None, typer.Option(min=1, max=64, help="Calls: another `routing.max_replicas`.")
    ] = None,
    what_if: Annotated[
        list[str] | None,
        typer.Option(help="Calls: one more changed fleet, as 'nodes=-1 slots=+50 limit-ms=80'; may be repeated."),
    ] = None,
    limit_ms: Annotated[float | None, typer.Option(min=0, help="Another limit for every race.")] = None,
    margin_ms: Annotated[float | None, typer.Option(min=0, help="Another margin before the limit.")] = None,
    answer: Annotated[AnswerMode | None, typer.Option(help="Another policy.")] = None,
    estimate: Annotated[
        list[str] | None, typer.Option(help="Log: model=ms, another estimate; may be repeated.")
    ] = None,
    hedge_share: Annotated[float | None, typer.Option(min=0, max=1, help="Another hedge budget.")] = None,
    hedge_burst_ms: Annotated[
        float | None, typer.Option(min=0.001, help="Another bound on what the hedge budget saves up.")
    ] = None,
    backups: Annotated[bool, typer.Option(help="With or without backups.")] = True,
    accuracy: Annotated[
        list[str] | None, typer.Option(help="Log: rank=share right, from 0 to 1; may be repeated.")
    ] = None,
    warm_up: Annotated[float, typer.Option(min=0, help="Calls: seconds at the beginning that do not count.")] = 0.0,
    node_config: Annotated[
        Path | None, typer.Option(help="Calls: a node's configuration, for the rules of its cache and of batches.")
    ] = None,
    curve: Annotated[
        list[str] | None,
        typer.Option(help="Calls: model=FILE, batch times that `tbms plan --save-curve` wrote; may be repeated."),
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Calls: draw hit share against slots; takes matplotlib.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run recorded races, or recorded calls before a whole fleet, again: as they were, and under other rules."""
    from ext_proc.cli import replay_fleet
    from ext_proc.cli.output import console
    from ext_proc.planning.fleet.change import FleetChange, read_amount
    from ext_proc.recording.files import is_recording

    change = FleetChange(
        nodes=None if nodes is None else read_amount(nodes, "--nodes"),
        without=tuple(without or ()),
        slots=None if slots is None else read_amount(slots, "--slots"),
        replicas=replicas,
        max_replicas=max_replicas,
        limit_ms=limit_ms,
        margin_ms=margin_ms,
        answer=answer,
        hedge_share=hedge_share,
        hedge_burst_ms=hedge_burst_ms,
        backups=backups,
    )
    if all(map(is_recording, recorded)):
        if estimate or accuracy:
            raise TbmsError("--estimate and --accuracy are for a log of races, and this is a recording of calls")
        if png is not None:
            replay_fleet.drawing()
        curves = replay_fleet.read_curves(curve or ())
        rules = replay_fleet.rules_of(node_config, curves)
        changes = replay_fleet.changes_of(change, what_if or (), rules, curves)
        if curves and not any(each.batching for each in (rules, *(each for _, _, each in changes))):
            raise TbmsError("--curve: batch times are of use only with a --node-config that has node.batching")
        result = replay_fleet.answered(recorded, changes, rules, warm_up)
        if png is not None:
            replay_fleet.draw_to(png, result)
        (replay_fleet.show_json if as_json else replay_fleet.show)(result, console())
        return
    for_calls = (nodes, without, slots, replicas, max_replicas, what_if, node_config, curve, png, warm_up or None)
    if len(recorded) > 1 or any(option is not None for option in for_calls):
        raise TbmsError(f"{recorded[0]}: it is no recording of calls, and of a log of races no fleet can be told")
    _replay_races(recorded[0], change, estimate or (), accuracy or (), as_json)


def _replay_races(
    log: Path, change: "FleetChange", estimate: Sequence[str], accuracy: Sequence[str], as_json: bool
) -> None:
    """Of a log: races one by one."""
    from rich.console import Console

    from ext_proc.broker.whatif import WhatIf
    from ext_proc.cli import replay as replay_command

    estimates = replay_command.pairs(estimate, "--estimate")
    rules = WhatIf(
        change.limit_ms,
        change.margin_ms,
        change.answer,
        estimates,
        change.hedge_share,
        change.hedge_burst_ms,
        change.backups,
    )
    right = replay_command.by_rank(accuracy)
    result = replay_command.replayed(log, rules)
    if as_json:
        replay_command.show_json(result, right, Console())
    else:
        replay_command.show(result, right, Console())
    if result.different:
        raise typer.Exit(Exit.FAILED)


@app.command()
def plan(
    model: Annotated[str, typer.Option(help="The model.")],
    server: Annotated[str | None, typer.Option(help="host:port of a model server: batches are timed there.")] = None,
    api: Annotated[str, typer.Option(help="v2-grpc, v2-rest, tfs-grpc or tfs-rest.")] = "v2-grpc",
    request: Annotated[
        list[Path] | None,
        typer.Option(help="File with a recorded request body: JSON, or the binary message; may be repeated."),
    ] = None,
    version: Annotated[int | None, typer.Option(min=0, help="One version of the model.")] = None,
    curve: Annotated[Path | None, typer.Option(help="Batch times of a file that --save-curve wrote.")] = None,
    log: Annotated[Path | None, typer.Option(help="Batch times of the log of a node with node.batching.log.")] = None,
    perf_analyzer: Annotated[
        list[str] | None, typer.Option(help="ROWS=FILE: a CSV of Triton's perf_analyzer -b ROWS; one for each size.")
    ] = None,
    batch_ms: Annotated[float | None, typer.Option(help="Batch times as a line: what each batch takes.")] = None,
    row_ms: Annotated[float, typer.Option(help="What each row adds to --batch-ms.")] = 0.0,
    max_rows: Annotated[
        int | None, typer.Option(min=1, max=65_536, help="Largest batch that the model takes; 32, or all of a file.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, max=10_000, help="Batches timed of each size.")] = 9,
    timeout_seconds: Annotated[float, typer.Option(min=0.001, help="Longest wait for one reply.")] = 60.0,
    qps: Annotated[float | None, typer.Option(help="Wanted calls a second, of one row each.")] = None,
    lag_ms: Annotated[float | None, typer.Option(help="Longest lag of 99 % of the calls.")] = None,
    gpus: Annotated[int, typer.Option(help="GPUs in all.")] = 1,
    gpus_per_node: Annotated[int, typer.Option(help="GPUs that one queue serves: the instances of a server.")] = 1,
    price: Annotated[float | None, typer.Option(help="Of one GPU for an hour, in $.")] = None,
    save_curve: Annotated[Path | None, typer.Option(help="Write the batch times to this CSV.")] = None,
    write: Annotated[Path | None, typer.Option(help="Write the configuration to this file, not to the output.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the trade-off to this PNG; takes matplotlib.")] = None,
    as_json: AsJson = False,
    check_batching: Annotated[
        bool,
        typer.Option(
            "--check-batching",
            help="Compare rows alone with rows in company, bit for bit. Exit status: 0 the same, 3 different, 4 not "
            "the same even alone, 5 nothing differed but all rows are one.",
        ),
    ] = False,
) -> None:
    """Choose between throughput and lag: measure batches, and write the configuration that fits."""
    from ext_proc.cli.output import console
    from ext_proc.cli.plan import command
    from ext_proc.cli.plan.measuring import Target
    from ext_proc.planning.plan import Wishes

    target, model = None, command.model_name(model)
    if server is not None:
        told, protocol = None if version is None else str(version), command.protocol_of(api)
        target = Target(server, protocol, model, told, tuple(request or ()), timeout_seconds)
    outputs = command.Outputs(console(), as_json, save_curve, write, plot)
    if check_batching:
        raise typer.Exit(command.check(target, max_rows, outputs))
    lag = None if lag_ms is None else lag_ms / 1e3
    logged = None if log is None else (log, model)
    source = command.Source(target, curve, logged, tuple(perf_analyzer or ()), batch_ms, row_ms, max_rows, repeats)
    command.run(source, Wishes(model, qps, lag, gpus, gpus_per_node, price), outputs)


policies_app = typer.Typer(name="policies", help="Policies for a Kuma mesh.", no_args_is_help=True)
app.add_typer(policies_app)


@policies_app.command("check")
def policies_check(
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
) -> None:
    """Judge policies without a control plane. Exit status: 0 no errors, 1 errors, 2 they could not be judged."""
    from ext_proc.cli.policies import check as policies
    from ext_proc.kuma.checking.report import Evidence

    evidence = Evidence(crds, tuple(config or ()), tuple(beside or ()), frozenset(laid or ()))
    raise typer.Exit(policies.run(folder, kuma or ["2.14"], evidence))


@policies_app.command("render")
def policies_render(
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
    from ext_proc.cli.policies import render

    wishes = render.Wishes(
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
    typer.echo(render.run(wishes, out), nl=False)


@app.command()
def demo(
    calls: Annotated[int, typer.Option(help="How many calls to send.")] = 600,
) -> None:
    """Train, serve and call real models behind a real Envoy on this machine."""
    from integration.demo import main as run_demo

    raise typer.Exit(run_demo(calls=calls))


def _run(main: Any) -> None:
    import uvloop

    uvloop.run(main)


def main() -> None:
    """Entry of the `tbms` command: errors of ours are a sentence on standard error, not a traceback."""
    try:
        app()
    except (TbmsError, MeshError) as error:
        print(error, file=sys.stderr)
        sys.exit(status_of(error))
