"""Web apps on this machine: their policy, their port, their end."""

import errno
import socket
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from groundup.errors import UserError

_LOCAL_NAMES = ("127.0.0.1", "localhost")


def local_app(host: str) -> FastAPI:
    """An app without pages of documentation, in which a UserError is a reply 409 with `{"error": ...}`.

    On this machine's own address it answers to its own names only, so that no page of the web reaches it under
    another (DNS rebinding). Replies that last look at `app.state.stopping`, so that the server can end.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.stopping = threading.Event()
    if host in _LOCAL_NAMES:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(_LOCAL_NAMES))

    @app.exception_handler(UserError)
    async def _refuse(request: Request, error: UserError) -> JSONResponse:
        del request
        return JSONResponse({"error": str(error)}, status_code=409)

    return app


def serve(app: FastAPI, host: str, port: int, *, browser: bool, say: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; `say` is told the address. Where the port is taken another one is.

    Raises UserError where there is no such address on this machine.
    """
    with _listen(host, port, say) as listening:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}/"
        say(f"open {address}  (Ctrl-C ends it)")
        if host not in _LOCAL_NAMES:
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
