"""The commands that ask running processes: who they ask is said by --admin, by a configuration file, or by nothing."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(pretty_exceptions_enable=False)

Admins = Annotated[
    list[str] | None,
    typer.Option(
        "--admin",
        envvar="TBMS_ADMIN",
        help="Admin port of a node or an edge: host:port, a URL or unix:/path; may be repeated.",
    ),
]
Admin = Annotated[
    str | None,
    typer.Option("--admin", help="Admin port of the node; without it 127.0.0.1:9905, where a node has it by default."),
]
AdminOf = Annotated[
    Path | None, typer.Option("--config", "-c", help="Ask the process of this configuration file, on this machine.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
ModelVersion = Annotated[int | None, typer.Option("--version", help="One version; without it the newest, or all.")]
Model = Annotated[str, typer.Argument(help="Its name, as calls have it.")]
Names = Annotated[list[str] | None, typer.Argument(help="These alone; without any all.")]


@app.command()
def status(admin: Admins = None, config: AdminOf = None, as_json: AsJson = False) -> None:
    """Show how processes are: calls by their way, the map of known calls, nodes, models, sources."""
    from ext_proc.cli import status as command
    from ext_proc.cli.output import console

    asyncio.run(command.show(console(), _admins(admin, config), as_json=as_json))


@app.command()
def top(
    admin: Admins = None,
    config: AdminOf = None,
    interval: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds between two looks.")] = 2.0,
    count: Annotated[int | None, typer.Option(min=1, help="So many looks; without it until interrupted.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show calls a second, and the busiest nodes and models, again and again."""
    from ext_proc.cli import top as command
    from ext_proc.cli.output import console

    with suppress(KeyboardInterrupt):  # that is how it ends
        asyncio.run(command.show(console(), _admins(admin, config), interval, count, as_json=as_json))


@app.command()
def models(names: Names = None, admin: Admins = None, config: AdminOf = None, as_json: AsJson = False) -> None:
    """Show which models are where."""
    from ext_proc.cli import models as command
    from ext_proc.cli.output import console

    asyncio.run(command.show(console(), _admins(admin, config), names or (), as_json=as_json))


@app.command()
def nodes(names: Names = None, admin: Admins = None, config: AdminOf = None, as_json: AsJson = False) -> None:
    """Show the nodes, as edges see them and as they say themselves."""
    from ext_proc.cli import nodes as command
    from ext_proc.cli.output import console

    asyncio.run(command.show(console(), _admins(admin, config), names or (), as_json=as_json))


@app.command()
def explain(
    call: Annotated[
        str | None,
        typer.Argument(
            help="A path such as /v1/models/resnet:predict, or a gRPC method: whole, or Predict, ModelInfer."
        ),
    ] = None,
    request: Annotated[
        Path | None, typer.Option("--request", help="File with a recorded request: its first line, headers, body.")
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", help="'tloc: 50'; may be repeated. Metadata of gRPC, too.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Of a gRPC call: MODEL, MODEL/versions/N or MODEL/labels/LABEL.")
    ] = None,
    method: Annotated[str | None, typer.Option("--method", help="GET, say; without it POST.")] = None,
    envoy_version: Annotated[
        str | None, typer.Option(help="The Envoy in front; without it the one that asked last.")
    ] = None,
    admin: Admins = None,
    config: AdminOf = None,
    as_json: AsJson = False,
) -> None:
    """Say which way a call would go, and why. The call is not made, and nothing is counted."""
    from ext_proc.cli import explain as command
    from ext_proc.cli.output import console

    asked = command.call_of(call, request, header or (), model, method, envoy_version)
    asyncio.run(command.show(console(), asked, _admins(admin, config), as_json=as_json))


@app.command()
def load(
    model: Model, version: ModelVersion = None, admin: Admin = None, config: AdminOf = None, as_json: AsJson = False
) -> None:
    """Have a node load a model."""
    _tell("load", model, version, admin, config, as_json)


@app.command()
def unload(
    model: Model, version: ModelVersion = None, admin: Admin = None, config: AdminOf = None, as_json: AsJson = False
) -> None:
    """Have a node let a model go, once its calls have ended."""
    _tell("unload", model, version, admin, config, as_json)


@app.command()
def pin(model: Model, admin: Admin = None, config: AdminOf = None, as_json: AsJson = False) -> None:
    """Have a node load a model and keep it."""
    _tell("pin", model, None, admin, config, as_json)


@app.command()
def unpin(model: Model, admin: Admin = None, config: AdminOf = None, as_json: AsJson = False) -> None:
    """Allow a node to evict a model again."""
    _tell("unpin", model, None, admin, config, as_json)


def _tell(name: str, model: str, version: int | None, admin: str | None, config: Path | None, as_json: bool) -> None:
    from ext_proc.admin import NODE_ADDRESS
    from ext_proc.admin.client import AdminPort
    from ext_proc.cli.admin_client import default_port
    from ext_proc.cli.models import command
    from ext_proc.cli.output import console

    named = _admins(None if admin is None else [admin], config)
    port = AdminPort(named[0]) if named else default_port(NODE_ADDRESS)
    asyncio.run(command(console(), name, model, version, port, as_json=as_json))


def _admins(named: list[str] | None, config: Path | None) -> list[str]:
    """The ports to ask; none where nobody has said which."""
    if config is None:
        return named or []
    from ext_proc.config import load as read

    return [*(named or []), read(config).admin]
