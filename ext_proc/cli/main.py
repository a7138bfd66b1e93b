"""The `tbms` command. Each subcommand imports what it needs when it runs."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ext_proc.cli import operating
from ext_proc.cli.exits import Exit, status_of
from ext_proc.cli.operating import AsJson
from ext_proc.cli.policies import commands as policies
from ext_proc.cli.replay import command as replay
from ext_proc.errors import TbmsError
from mesh.errors import MeshError

app = typer.Typer(
    name="tbms",
    help="Time-based model serving inside the mesh.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(replay.app)
app.add_typer(operating.app)
app.add_typer(policies.app)

ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="The YAML configuration file.")]


def _print_version(asked: bool) -> None:
    if asked:
        from ext_proc.telemetry.build import version

        typer.echo(f"tbms {version()}")
        raise typer.Exit


@app.callback()
def tbms(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """What holds for all commands."""


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
        file, off = loaded.known_file, loaded.known_off
        known = {"known_file": None if file is None else str(file), "known_off": off}
        print_json(console(), {"config": str(config), "ok": True, "role": role, "admin": loaded.admin, **known})
    else:
        typer.echo(f"{config}: ok")
        if loaded.node is None and loaded.known_off is not None:
            typer.echo(f"No known calls: {loaded.known_off}.")


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
    laid = lay_map(loaded)
    bootstrap = bootstrap_for(loaded, envoy_version, laid.file)
    typer.echo(as_json_text(bootstrap) if as_json else bootstrap, nl=False)
    if laid.warning is not None:
        typer.echo(laid.warning, err=True)


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
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="TF Serving, V2 gRPC; 0 takes a free port.")] = 8500,
    rest_port: Annotated[int, typer.Option(min=0, max=65535, help="TF Serving, V2 REST; 0 takes a free port.")] = 8501,
    load: Annotated[str, typer.Option(help="Models to load at start: all, none, or names with commas.")] = "all",
    threads: Annotated[int, typer.Option(min=1, max=256, help="Inferences that run at once.")] = 2,
    delay_ms: Annotated[float, typer.Option(min=0, help="Simulation: added to each inference.")] = 0.0,
    load_delay_ms: Annotated[float, typer.Option(min=0, help="Simulation: added to each load.")] = 0.0,
) -> None:
    """Serve ONNX models over the TF Serving and V2 APIs."""
    from ext_proc.process.heap import settle_heap
    from ext_proc.process.lifecycle import Stop
    from ext_proc.telemetry import logs
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

    logs.configure("info", "text")

    async def run() -> None:
        await serve(settings, ready, Stop().asked)

    _run(run())


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


@app.command()
def demo(
    calls: Annotated[int, typer.Option(min=1, help="How many calls to send.")] = 600,
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
