"""`serve`: the app in a browser on this machine, through textual-serve.

Whoever reaches the app acts as the user who serves it. So it listens on 127.0.0.1 alone, wants a token that
only this terminal shows, and answers no page of another site: other users of the machine and other tabs of
the browser are kept out.
"""

from __future__ import annotations

import argparse
import hmac
import importlib.util
import os
import secrets
import shlex
import sys
from typing import TYPE_CHECKING, Any

from loratui.cli.output import Output

if TYPE_CHECKING:
    from pathlib import Path

HOST = "127.0.0.1"
_COOKIE = "loratui"
_OURS = {"127.0.0.1", "localhost"}


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "serve",
        help="the app in a browser on this machine",
        description="Serve the app to a browser on this machine, at 127.0.0.1 alone. From elsewhere:"
        " ssh -L 8000:127.0.0.1:8000 HOST, and open the address that is printed.",
    )
    parser.add_argument("dir", nargs="?", default=".", metavar="DIR", help="the project (default: here)")
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="port (default: 8000)")
    parser.set_defaults(run=run_serve)


def run_serve(args: argparse.Namespace, out: Output) -> int:
    """Serve until interrupted."""
    from pathlib import Path

    from loratui.errors import MissingPackageError, RequestError

    folder = Path(args.dir).expanduser().absolute()
    if not folder.is_dir():
        raise RequestError(f"{folder} is no folder.", "Name a project.")
    if not 1 <= args.port <= 65535:
        raise RequestError(f"--port wants 1 to 65535, not {args.port}.")
    if importlib.util.find_spec("textual_serve") is None:
        raise MissingPackageError(
            "The app in a browser needs the package textual-serve, which is not installed.",
            f"Install it with `{sys.executable} -m pip install textual-serve`.",
        )
    _check_free(args.port)
    token = secrets.token_urlsafe(24)
    server = make_server(folder, args.port, token)
    out.line(f"Serving {folder.name} at http://{HOST}:{args.port}/?token={token}")
    out.line("The address is a key: whoever has it can do what you can. ctrl+c ends it; runs go on.")
    server.serve()
    return 0


def _check_free(port: int) -> None:
    import socket

    from loratui.errors import RequestError

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise RequestError(
                f"Port {port} cannot be used: {error.strerror}.", "Choose another with --port."
            ) from error


def make_server(folder: Path, port: int, token: str) -> Any:
    """textual-serve's server for a project, behind the token."""
    from aiohttp import web
    from textual_serve.server import Server

    class Guarded(Server):  # type: ignore[misc]
        """Refuses who does not have the token."""

        def initialize_logging(self) -> None:
            """What goes through it is nobody's business, and the token is in it."""

        async def on_startup(self, app: web.Application) -> None:
            """The command says where it is."""

        async def _make_app(self) -> web.Application:
            app = await super()._make_app()
            app.middlewares.append(guard)
            return app

    @web.middleware  # type: ignore[untyped-decorator, unused-ignore]
    async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
        if not allowed(request.headers.get("Host", ""), request.headers.get("Origin")):
            raise web.HTTPForbidden(text="Not from here.")
        given = request.query.get("token")
        if not hmac.compare_digest((given or request.cookies.get(_COOKIE, "")).encode(), token.encode()):
            raise web.HTTPForbidden(text="Open the address that `loratui serve` has printed.")
        server.public_url = f"http://{request.headers['Host']}"  # through a tunnel the port may be another
        if given is not None and request.path == "/":
            found = web.HTTPFound("/")  # the token leaves the address line
            found.set_cookie(_COOKIE, token, httponly=True, samesite="Strict")
            raise found
        response: web.StreamResponse = await handler(request)
        return response

    # exec: the shell makes room for the app, so that what ends the shell ends the app
    command = "exec " + shlex.join([sys.executable, "-m", "loratui", os.fspath(folder)])
    server = Guarded(command, host=HOST, port=port, title=f"loratui {folder.name}")
    return server


def allowed(host: str, origin: str | None) -> bool:
    """Whether a request is for this machine and of no other site: names that resolve here are not enough."""
    name = host.rsplit(":", 1)[0] if ":" in host else host
    return name in _OURS and (origin is None or origin == f"http://{host}")
