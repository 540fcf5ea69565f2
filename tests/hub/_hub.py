"""A loopback Hub that serves one data set, read-only: all that `load_dataset` asks for."""

import contextlib
import hashlib
import http.server
import json
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
REPO = "lab/cells"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        if path.startswith(f"/api/datasets/{REPO}"):
            return self._api(path.removeprefix(f"/api/datasets/{REPO}").strip("/"))
        if path.startswith(f"/datasets/{REPO}/resolve/"):
            revision, _, name = path.removeprefix(f"/datasets/{REPO}/resolve/").partition("/")
            return self._file(revision, name)
        return self._refuse("RepoNotFound")

    def _api(self, rest):
        what, _, tail = rest.partition("/")
        revision, _, under = tail.partition("/")
        if what and revision not in ("main", COMMIT):
            return self._refuse("RevisionNotFound")
        if what == "tree":
            return self._tree(under)
        info = {"_id": "1", "id": REPO, "sha": COMMIT, "siblings": [], "tags": [], "private": False}
        return self._send(json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _tree(self, under):
        start = self.folder / under
        if not start.is_dir():
            return self._refuse("EntryNotFound")
        items = []
        for path in sorted(start.rglob("*")):
            item = {"path": path.relative_to(self.folder).as_posix(), "oid": "0" * 40, "size": 0}
            kind = "directory" if path.is_dir() else "file"
            size = {} if path.is_dir() else {"size": path.stat().st_size}
            items.append({**item, "type": kind, **size})
        return self._send(json.dumps(items).encode(), {"Content-Type": "application/json"})

    def _file(self, revision, name):
        if revision not in ("main", COMMIT):
            return self._refuse("RevisionNotFound")
        path = self.folder / name
        if not path.is_file():
            return self._refuse("EntryNotFound")
        body = path.read_bytes()
        etag = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": COMMIT}
        return self._send(body, etag)

    def _refuse(self, code):
        headers = {"X-Error-Code": code, "X-Error-Message": code, "X-Repo-Commit": COMMIT}
        return self._send(b"", headers, status=404)

    def _send(self, body, headers, status=200):
        wanted = self.headers.get("Range")
        if wanted and status == 200:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            stop = int(last) + 1 if last else len(body)
            headers["Content-Range"] = f"bytes {first}-{stop - 1}/{len(body)}"
            body, status = body[int(first) : stop], 206
        self.send_response(status)
        for name, value in {**headers, "Accept-Ranges": "bytes"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        """Stay quiet."""


@contextlib.contextmanager
def serving(folder: Path):
    """Serve `folder` as data set REPO at COMMIT; yields the endpoint."""
    handler = type("Handler", (_Handler,), {"folder": folder})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
