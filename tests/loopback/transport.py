"""HTTP/1.1 of the loopback Hub: bodies in and out, the log, and the faults on the way."""

import contextlib
import http.server
import json
import secrets
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from tests.loopback.store import Refusal

_PIECE = 1 << 16


@dataclass
class Fault:
    """Something that goes wrong; the first that fits a request is applied, `times` times.

    Attributes:
        route: regular expression searched in "METHOD /path".
        status: answer with this instead (401, 403, 409, 412, 413, 429, 500 ...).
        headers: of that answer, such as Retry-After.
        cut: close the connection after so many bytes of the request's (PUT, POST) or the answer's
            (GET) body.
        size: added to each size that the answer to a file (HEAD, and before a GET's body) or a
            listing tells.
        etag: told instead of the true one, of a file, in a listing, or of a part that was uploaded.
        mute: do what was asked for, and close the connection instead of answering.
        delay: seconds before anything happens.
        skip: leave so many fitting requests alone before.
        times: how many requests it applies to.
    """

    route: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    size: int = 0
    etag: str = ""
    mute: bool = False
    delay: float = 0.0
    skip: int = 0
    times: int = 1 << 30


class Request(NamedTuple):
    """One line of the log."""

    method: str
    path: str  # with the query
    status: int
    received: int  # bytes of the body
    sent: int


class Server(http.server.ThreadingHTTPServer):
    """A thread for each connection."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        """Stay quiet about clients that went away; a fault of ours fails the test."""
        error = sys.exception()
        if not isinstance(error, OSError):
            hub = self.RequestHandlerClass.hub
            hub.unknown.append(f"{type(error).__name__}: {error}")


class Transport(http.server.BaseHTTPRequestHandler):
    """Receives a request, lets `route` answer it, and sends."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    hub: object  # tests.hub_server.Hub

    def do_GET(self):
        """Answer any request; the method is part of the route."""
        parts = urlsplit(self.path)
        self.segments = [unquote(one) for one in parts.path.strip("/").split("/")]
        self.query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        self.taken = 0
        fault = self.fault = self.hub.apply(f"{self.command} {self.path}")
        if fault and fault.delay:
            time.sleep(fault.delay)
        self.body = self._receive()
        try:
            if self.body is None:
                self._note(0, 0)
                return
            if fault and fault.status:
                headers = {"X-Error-Message": "fault switched on", **fault.headers}
                self._send(fault.status, b"{}", headers)
                return
            self.route()
        except Refusal as refusal:
            head = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
            head |= refusal.body.pop("headers", {})
            body = json.dumps({"error": refusal.message, **refusal.body}).encode()
            self._send(refusal.status, body, {k: v for k, v in head.items() if v})
        finally:
            if isinstance(self.body, Path):
                self.body.unlink(missing_ok=True)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_GET

    # -- transport

    def _receive(self) -> bytes | Path | None:
        """The request's body: in memory, of a PUT in a file; None where a fault cut it."""
        pieces = self._pieces()
        if self.command != "PUT":
            body = b"".join(pieces)
            return None if self._cut() else body
        path = self.hub.store.folder / f"incoming-{secrets.token_hex(8)}"
        try:
            with path.open("wb") as stream:
                for piece in pieces:
                    stream.write(piece)
        except OSError:
            path.unlink()
            self._note(0, 0)  # what arrived counts, though nobody waits for an answer
            raise
        if self._cut():
            path.unlink()
            return None
        return path

    def _pieces(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while left := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(left)
                self.taken += left
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            limit = left if self._limit() is None else min(left, self._limit() - self.taken)
            if limit <= 0:
                return
            piece = self.rfile.read(min(_PIECE, limit))
            if not piece:
                raise ConnectionError("the client went away")
            self.taken += len(piece)
            left -= len(piece)
            yield piece

    def _limit(self) -> int | None:
        return self.fault.cut if self.fault and self.command in ("PUT", "POST") else None

    def _cut(self) -> bool:
        if self._limit() is None:
            return False
        self._hang_up()
        return True

    def _hang_up(self):
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, status: int, body: bytes, headers: dict[str, str], size: int | None = None):
        self.send_response(status)
        told = len(body) if size is None else size
        for name, value in {"Content-Length": str(told), **headers}.items():
            self.send_header(name, value)
        cut = self.fault.cut if self.fault and self.command == "GET" else None
        given = b"" if self.command == "HEAD" else body[:cut]
        self._note(status, len(given))  # before the client can go on and look at the log
        if self.fault and self.fault.mute:
            self._hang_up()
            return status
        self.end_headers()
        self.wfile.write(given)
        if self.command != "HEAD" and (cut is not None or told > len(body)):
            self._hang_up()
        return status

    def _note(self, status: int, sent: int):
        self.hub.requests.append(Request(self.command, self.path, status, self.taken, sent))

    def _json(self, value, status=200, **headers):
        headers = {"Content-Type": "application/json", **headers}
        return self._send(status, json.dumps(value).encode(), headers)

    def log_message(self, *_):
        """Stay quiet."""

    def route(self):
        """Answer the request with `_send`, or raise Refusal."""
        raise NotImplementedError
