"""Web apps on this machine: their policy, their port, their end."""

import errno
import ipaddress
import socket
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from groundup.errors import UserError

_LOCAL_NAMES = frozenset({"127.0.0.1", "::1", "localhost"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def local_app(host: str) -> FastAPI:
    """An app without pages of documentation, in which a UserError is a reply 409 with `{"error": ...}`.

    It takes nothing from another site's pages, and answers to `host` and this machine's local names only, so that
    no page of the web reaches it under a name of its own (DNS rebinding); to any name where `host` is every
    address. Replies that last look at `app.state.stopping`, so that the server can end.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.stopping = threading.Event()
    app.add_middleware(_OwnPagesOnly, names=None if _is_every_address(host) else _LOCAL_NAMES | {_name(host)})

    @app.exception_handler(UserError)
    async def _refuse(request: Request, error: UserError) -> JSONResponse:
        del request
        return JSONResponse({"error": str(error)}, status_code=409)

    return app


class _OwnPagesOnly:
    """Refuses requests under other names than `names` (None: any), and what other sites' pages let a browser send.

    A browser names the page's site in Sec-Fetch-Site or in Origin with each request that is no mere reading; other
    programs send neither.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str] | None):
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._refusal(Headers(scope=scope), scope["method"]) if scope["type"] == "http" else None
        await (JSONResponse({"error": refused}, status_code=403) if refused else self._app)(scope, receive, send)

    def _refusal(self, headers: Headers, method: str) -> str | None:
        host = headers.get("host", "")
        if self._names is not None and _name_in_address(host) not in self._names:
            return f"the page is not called '{host}'; open the address that `groundup` told"
        is_own_site = headers.get("sec-fetch-site", "same-origin") == "same-origin"
        is_own_page = headers.get("origin", f"http://{host}").partition("://")[2] == host
        if method not in _READING and not (is_own_site and is_own_page):
            return "another site's page asks for this; use the page itself"
        return None


def _name_in_address(host: str) -> str | None:
    """The name in a header Host, without the port; None where it makes no sense."""
    try:
        return _name(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return None


def _name(host: str) -> str:
    """A name of a machine as it is compared; addresses have many spellings."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()


def _is_every_address(host: str) -> bool:
    return _name(host) in ("", "0.0.0.0", "::")


def serve(app: FastAPI, host: str, port: int, *, browser: bool, say: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; `say` is told the address. Where the port is taken another one is.

    Raises UserError where there is no such address on this machine.
    """
    with _listen(host, port, say) as listening:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}/"
        say(f"open {address}  (Ctrl-C ends it)")
        if _is_every_address(host):
            say("whoever reaches this machine, under any name, can use the page")
        elif _name(host) not in _LOCAL_NAMES:
            say(f"whoever reaches this machine as {host} can use the page")
        if browser:
            webbrowser.open(address)
        config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1, lifespan="off")
        # uvicorn ends orderly at Ctrl-C, and raises it again.
        with suppress(KeyboardInterrupt):
            _Server(config, app).run(sockets=[listening])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, app: FastAPI):
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.state.stopping.set()
        super().handle_exit(sig, frame)


def _listen(host: str, port: int, say: Callable[[str], None]) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE and port:
            say(f"port {port} is taken; another one is used")
            return _listen(host, 0, say)
        raise UserError(
            f"cannot listen on {host}, port {port} ({error}); choose other --host and --port"
        ) from None
