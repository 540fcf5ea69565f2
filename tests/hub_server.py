"""A small real Hub on loopback: HTTP/1.1, the part of the protocol that our clients speak.

Standard library (and a YAML parser), nothing of ours. A route that isn't known is answered with
501 and kept in `unknown`; `hub_server` (tests/conftest.py) fails the test then. Clients read their
settings at import, so they run in processes of their own: `run_client(server, code)`.
"""

import contextlib
import json
import os
import re
import secrets
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

from tests.loopback.routes import READ_TOKEN, TOKEN, Handler
from tests.loopback.store import Store
from tests.loopback.transport import Fault, Request, Server

__all__ = ["READ_TOKEN", "ROOT", "TOKEN", "Client", "Fault", "Hub", "run_client", "serving_hub"]

ROOT = Path(__file__).resolve().parents[1]


class Hub:
    """A running server. Settings may be changed at any time.

    Attributes:
        url: endpoint.
        home: where clients keep their caches.
        lfs_above: bytes from which on a file goes to LFS whatever its name.
        multipart_above: bytes from which on LFS uploads go in parts of `part_size`.
        page: items of a listing that one answer holds.
        requests: all that was answered.
        unknown: routes that nobody knows.
    """

    def __init__(self, folder: Path):
        self.store = Store(folder)
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.lfs_above, self.multipart_above, self.part_size = 10_000, 10_000_000, 5_000_000
        self.page = 1000
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.unknown: list[str] = []
        self.secret = secrets.token_hex(8)  # signs upload addresses, which carry no token
        handler = type("Handler", (Handler,), {"hub": self})
        self.server = Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def fail(self, route: str, status: int = 0, **how) -> Fault:
        """Switch a fault on."""
        self.faults.append(Fault(route, status, **how))
        return self.faults[-1]

    def environment(self, token: str | None = TOKEN) -> dict[str, str]:
        """What lets huggingface_hub and all that stands on it talk to this Hub alone."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(self.home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "CYTOIMAGENET_HOME": str(self.home / "ours"),
            **({"HF_TOKEN": token} if token else {}),
        }

    def files(self, kind: str, id: str, revision: str = "main") -> dict[str, bytes]:
        """What stands in a repository: path -> bytes."""
        commit = self.store.repo(kind, id).at(revision)
        return {path: blob.read() for path, blob in sorted(commit.files.items())}

    def put_folder(self, kind: str, id: str, folder: Path) -> str:
        """Commit a local folder without any client; returns the sha."""
        store = self.store
        repo = store.repos.get((kind, id)) or store.create(kind, id)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        changes = [
            ("put", path.relative_to(folder).as_posix(), store.blob(path.read_bytes()))
            for path in paths
        ]
        return store.commit(repo, "main", {"summary": "put"}, changes).sha

    def count(self, route: str) -> int:
        """Requests whose "METHOD /path" the regular expression finds."""
        return sum(bool(re.search(route, f"{r.method} {r.path}")) for r in self.requests)

    def received(self, route: str = "PUT /lfs") -> int:
        """Bytes of bodies of requests to a route."""
        return sum(r.received for r in self.requests if re.search(route, f"{r.method} {r.path}"))

    def apply(self, line: str) -> Fault | None:
        """Take the fault that fits a request, if one is switched on."""
        with self.store.lock:
            for fault in self.faults:
                if re.search(fault.route, line) and fault.times > 0:
                    if fault.skip:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None


@contextlib.contextmanager
def serving_hub(folder: Path):
    """Run a Hub for the block; afterwards fail if anyone asked for an unknown route."""
    hub = Hub(folder)
    thread = threading.Thread(target=hub.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.server.shutdown()
        hub.server.server_close()
        thread.join()
    assert not hub.unknown, f"unknown routes of the Hub: {', '.join(sorted(set(hub.unknown)))}"


class Client(NamedTuple):
    """What a client's process left."""

    answer: object  # the variable `answer` of its code, through json
    output: str  # stdout and stderr


def run_client(hub: Hub, code: str, *, token: str | None = TOKEN, timeout=240, **env) -> Client:
    """Run code in a process of its own that talks to `hub`.

    The code sets `answer`. A token in what it prints, or an exit other than 0, fails the test.
    """
    base = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    path = {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    mark = "ANSWER " + secrets.token_hex(4)
    done = subprocess.run(
        [sys.executable, "-c", f"import json\nanswer = None\n{code}\nprint()\n"
         f"print({mark!r}, json.dumps(answer))"],
        env={**base, **hub.environment(token), **path, **env},
        cwd=hub.home, capture_output=True, text=True, timeout=timeout, check=False,
        encoding="utf-8",
    )  # fmt: skip
    output, _, answer = done.stdout.partition(mark)
    output += done.stderr
    for secret in (TOKEN, READ_TOKEN):
        assert secret not in output, "a token was printed"
    assert done.returncode == 0, output
    return Client(json.loads(answer), output)
