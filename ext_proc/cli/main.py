"""The `tbms` command. Each subcommand imports what it needs when it runs."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ext_proc.admin import DEFAULT_ADDRESS
from ext_proc.broker.plan import AnswerMode
from ext_proc.errors import TbmsError
from mesh.errors import MeshError

app = typer.Typer(
    name="tbms",
    help="Time-based model serving inside the mesh.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="The YAML configuration file.")]


@app.command()
def serve(config: ConfigFile) -> None:
    """Run the external processor beside an Envoy."""
    from ext_proc.process.app import App

    _run(App(config).run())


@app.command()
def check(config: ConfigFile) -> None:
    """Validate a configuration file."""
    from ext_proc.config import load

    load(config)
    typer.echo(f"{config}: ok")


@app.command("envoy-config")
def envoy_config(
    config: ConfigFile,
    envoy_version: Annotated[str, typer.Option(help="The Envoy that will read it: 1.36 or newer.")] = "1.40",
) -> None:
    """Print an Envoy bootstrap that fits the configuration file."""
    from ext_proc.cli.envoy_config import bootstrap_for
    from ext_proc.config import load

    typer.echo(bootstrap_for(load(config), envoy_version), nl=False)


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
    from ext_proc.process.lifecycle import Stop, settle_heap
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
    log: Annotated[Path, typer.Argument(help="A server's log of JSON lines.")],
    limit_ms: Annotated[float | None, typer.Option(min=0, help="Another limit for every race.")] = None,
    margin_ms: Annotated[float | None, typer.Option(min=0, help="Another margin before the limit.")] = None,
    answer: Annotated[AnswerMode | None, typer.Option(help="Another policy.")] = None,
    estimate: Annotated[list[str] | None, typer.Option(help="model=ms: another estimate; may be repeated.")] = None,
    hedge_share: Annotated[float | None, typer.Option(min=0, max=1, help="Another hedge budget.")] = None,
    hedge_burst_ms: Annotated[
        float | None, typer.Option(min=0.001, help="Another bound on what the hedge budget saves up.")
    ] = None,
    backups: Annotated[bool, typer.Option(help="With or without backups.")] = True,
    accuracy: Annotated[list[str] | None, typer.Option(help="rank=share right, from 0 to 1; may be repeated.")] = None,
) -> None:
    """Run recorded races again: exactly, and under other rules."""
    from rich.console import Console

    from ext_proc.broker.whatif import WhatIf
    from ext_proc.cli import replay as replay_command

    estimates = replay_command.pairs(estimate or (), "--estimate")
    change = WhatIf(limit_ms, margin_ms, answer, estimates, hedge_share, hedge_burst_ms, backups)
    right = replay_command.by_rank(accuracy or ())
    result = replay_command.replayed(log, change)
    replay_command.show(result, right, Console())
    if result.different:
        raise typer.Exit(1)


Admin = Annotated[str, typer.Option("--admin", help="Admin port of the node.")]
Admins = Annotated[list[str] | None, typer.Option("--admin", help="Admin port of a node or an edge; may be repeated.")]
DEFAULT_ADMIN = f"http://{DEFAULT_ADDRESS}"
ModelVersion = Annotated[int | None, typer.Option("--version", help="One version; without it the newest, or all.")]


@app.command("models")
def models(admin: Admins = None) -> None:
    """Show which models are where."""
    from ext_proc.cli.models import console, show

    asyncio.run(show(console(), admin or [DEFAULT_ADMIN]))


@app.command()
def load(model: str, version: ModelVersion = None, admin: Admin = DEFAULT_ADMIN) -> None:
    """Have a node load a model."""
    _tell("load", model, version, admin)


@app.command()
def unload(model: str, version: ModelVersion = None, admin: Admin = DEFAULT_ADMIN) -> None:
    """Have a node let a model go, once its calls have ended."""
    _tell("unload", model, version, admin)


@app.command()
def pin(model: str, admin: Admin = DEFAULT_ADMIN) -> None:
    """Have a node load a model and keep it."""
    _tell("pin", model, None, admin)


@app.command()
def unpin(model: str, admin: Admin = DEFAULT_ADMIN) -> None:
    """Allow a node to evict a model again."""
    _tell("unpin", model, None, admin)


@app.command()
def demo(
    calls: Annotated[int, typer.Option(help="How many calls to send.")] = 600,
) -> None:
    """Train, serve and call real models behind a real Envoy on this machine."""
    from integration.demo import main as run_demo

    raise typer.Exit(run_demo(calls=calls))


def _tell(name: str, model: str, version: int | None, admin: str) -> None:
    from ext_proc.cli.models import command, console

    asyncio.run(command(console(), name, model, version, admin))


def _run(main: Any) -> None:
    import uvloop

    uvloop.run(main)


def main() -> None:
    """Entry of the `tbms` command: errors of ours are a sentence on standard error, not a traceback."""
    try:
        app()
    except (TbmsError, MeshError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
