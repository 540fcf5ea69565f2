"""The protocol of the Hub, one method a route."""

import base64
import hashlib
import json
import re
import secrets
from urllib.parse import parse_qs, quote, urlsplit

from tests.loopback.cards import card_errors
from tests.loopback.store import Refusal, Repo
from tests.loopback.transport import Transport

TOKEN = "hf_" + "loopbackWriter" * 2  # may write to USER and ORGS
READ_TOKEN = "hf_" + "loopbackReader" * 2  # may only read
USER, ORGS = "ada", ("lab",)
_KINDS = ("models", "datasets", "spaces")
_LFS_ENDINGS = (".parquet", ".safetensors", ".bin", ".arrow", ".npz", ".h5")  # .gitattributes' own


class Handler(Transport):
    """Answers of the Hub."""

    # -- who asks

    def _token(self) -> str:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if token and token not in (TOKEN, READ_TOKEN):
            raise Refusal(401, message="Invalid credentials in Authorization header")
        return token

    def _may_write(self, id: str):
        token = self._token()
        if not token:
            raise Refusal(401, message="Invalid username or password.")
        if token != TOKEN or id.partition("/")[0] not in (USER, *ORGS):
            raise Refusal(403, message="You don't have the rights to write to this namespace")

    def _repo(self, kind: str, id: str, *, write: bool = False) -> Repo:
        token = self._token()
        if write:
            self._may_write(id)
        repo = self.hub.store.repos.get((kind, id))
        if repo is None or (repo.private and not token):
            # As the Hub does: who isn't known isn't told what there is.
            status = 404 if token else 401
            raise Refusal(status, "RepoNotFound", "Repository not found")
        return repo

    # -- routes

    def route(self) -> int:
        """Find the method of a path."""
        for method, pattern, name in _ROUTES:
            if method != ("GET" if self.command == "HEAD" else self.command):
                continue
            if (found := _match(pattern, self.segments)) is not None:
                return getattr(self, f"_{name}")(*found)
        self.hub.unknown.append(f"{self.command} {self.path}")
        return self._json({"error": "unknown route"}, 501)

    def _whoami(self):
        if not self._token():
            raise Refusal(401, message="Invalid username or password.")
        role = "write" if self._token() == TOKEN else "read"
        auth = {"type": "access_token", "accessToken": {"displayName": "t", "role": role}}
        orgs = [{"type": "org", "name": name} for name in ORGS]
        return self._json({"type": "user", "name": USER, "orgs": orgs, "auth": auth})

    def _create(self):
        asked = json.loads(self.body)
        id = f"{asked.get('organization') or USER}/{asked['name']}"
        kind = asked.get("type", "model") + "s"
        url = f"{self.hub.url}/{_prefix(kind)}{id}"
        self._may_write(id)
        with self.hub.store.lock:
            if (kind, id) in self.hub.store.repos:
                raise Refusal(409, message="You already created this repo", url=url)
            self.hub.store.create(kind, id, asked.get("visibility") == "private")
        return self._json({"url": url, "name": id, "id": id})

    def _validate(self):
        asked = json.loads(self.body)
        errors = card_errors(asked["content"], asked["repoType"])
        told = {"errors": [{"message": one} for one in errors], "warnings": []}
        return self._json(told, 400 if errors else 200)

    def _preupload(self, kind, id, revision):
        repo = self._repo(kind, id, write=True)
        old, answer = repo.at(revision).files, []
        for one in json.loads(self.body)["files"]:
            large = one["size"] >= self.hub.lfs_above or one["path"].endswith(_LFS_ENDINGS)
            mode = "lfs" if large else "regular"
            known = {"oid": old[one["path"]].oid} if one["path"] in old else {}
            answer.append({"path": one["path"], "uploadMode": mode, "shouldIgnore": False, **known})
        return self._json({"files": answer})

    def _lfs_batch(self, kind, id):
        self._repo(kind, id, write=True)
        objects = [self._lfs_object(id, one) for one in json.loads(self.body)["objects"]]
        return self._json({"transfer": "basic", "objects": objects})

    def _lfs_object(self, id: str, asked: dict) -> dict:
        oid, size = asked["oid"], asked["size"]
        known = {"oid": oid, "size": size}
        if oid in self.hub.store.lfs:
            return known
        owner, _, name = id.partition("/")
        at = f"{self.hub.url}/lfs/{self.hub.secret}/{owner}/{name}/{oid}"
        if size < self.hub.multipart_above:
            return known | {"actions": {"upload": {"href": at}, "verify": {"href": f"{at}/verify"}}}
        parts = range(1, -(-size // self.hub.part_size) + 1)
        header = {"chunk_size": str(self.hub.part_size)} | {str(n): f"{at}/{n}" for n in parts}
        return known | {"actions": {"upload": {"href": f"{at}/complete", "header": header}}}

    def _signed(self, secret: str):
        if secret != self.hub.secret:
            raise Refusal(403, message="Bad signature")

    def _lfs_put(self, secret, owner, name, oid):
        self._signed(secret)
        self.hub.store.keep_lfs(oid, self.body)
        return self._send(200, b"", {})

    def _lfs_part(self, secret, owner, name, oid, number):
        self._signed(secret)
        content = self.body.read_bytes()
        (self.hub.store.folder / f"part-{oid}-{number}").write_bytes(content)
        etag = self.fault.etag if self.fault else ""
        return self._send(200, b"", {"ETag": f'"{etag or hashlib.md5(content).hexdigest()}"'})

    def _lfs_complete(self, secret, owner, name, oid):
        self._signed(secret)
        whole = self.hub.store.folder / f"incoming-{secrets.token_hex(8)}"
        with whole.open("wb") as stream:
            for part in json.loads(self.body)["parts"]:
                path = self.hub.store.folder / f"part-{oid}-{part['partNumber']}"
                content = path.read_bytes()
                if part["etag"].strip('"') != hashlib.md5(content).hexdigest():
                    raise Refusal(400, message=f"wrong etag of part {part['partNumber']}")
                stream.write(content)
                path.unlink()
        self.hub.store.keep_lfs(oid, whole)
        return self._json({"success": True})

    def _lfs_verify(self, secret, owner, name, oid):
        self._signed(secret)
        asked = json.loads(self.body)
        self.hub.store.lfs_blob(asked["oid"], asked["size"])
        return self._json({})

    def _commit(self, kind, id, branch):
        repo = self._repo(kind, id, write=True)
        header, changes = {}, []
        for line in self.body.decode().splitlines():
            one = json.loads(line)
            key, value = one["key"], one["value"]
            if key == "header":
                header = value
            elif key == "file":
                content = base64.b64decode(value["content"])
                if value["path"] == "README.md" and (errors := card_errors(content.decode(), kind)):
                    raise Refusal(400, message="; ".join(errors))
                changes.append(("put", value["path"], self.hub.store.blob(content)))
            elif key == "lfsFile":
                blob = self.hub.store.lfs_blob(value["oid"], value.get("size"))
                changes.append(("put", value["path"], blob))
            elif key in ("deletedFile", "deletedFolder"):
                changes.append((key.removeprefix("deleted").lower(), value["path"], None))
            else:
                raise Refusal(501, message=f"unknown operation {key}")
        commit = self.hub.store.commit(repo, branch, header, changes)
        url = f"{self.hub.url}/{_prefix(kind)}{id}/commit/{commit.sha}"
        told = {"success": True, "commitOid": commit.sha, "commitUrl": url, "hookOutput": ""}
        return self._json(told)

    def _branch(self, kind, id, name):
        repo = self._repo(kind, id, write=True)
        asked = json.loads(self.body or b"{}")
        if name in repo.branches:
            raise Refusal(409, message=f"Reference already exists: {name}")
        repo.branches[name] = repo.at(asked.get("startingPoint", "main")).sha
        return self._json({})

    def _branch_delete(self, kind, id, name):
        repo = self._repo(kind, id, write=True)
        if name == "main" or repo.branches.pop(name, None) is None:
            raise Refusal(404, "RevisionNotFound", f"no branch {name} to delete")
        return self._json({})

    def _tag(self, kind, id, revision):
        repo = self._repo(kind, id, write=True)
        name = json.loads(self.body)["tag"]
        if name in repo.tags:
            raise Refusal(409, message=f"Tag reference exists already: {name}")
        repo.tags[name] = repo.at(revision).sha
        return self._json({})

    def _tag_delete(self, kind, id, name):
        if self._repo(kind, id, write=True).tags.pop(name, None) is None:
            raise Refusal(404, "RevisionNotFound", f"no tag {name}")
        return self._json({})

    def _refs(self, kind, id):
        repo = self._repo(kind, id)
        told = {"converts": []}
        for what, where in (("branches", "heads"), ("tags", "tags")):
            refs = sorted(getattr(repo, what).items())
            told[what] = [
                {"name": name, "ref": f"refs/{where}/{name}", "targetCommit": sha}
                for name, sha in refs
            ]
        return self._json(told)

    def _commits(self, kind, id, revision):
        found = self._repo(kind, id).log(revision)
        authors = [{"user": USER}]
        told = [
            {
                "id": c.sha,
                "title": c.title,
                "message": c.message,
                "authors": authors,
                "date": c.date,
            }
            for c in found
        ]
        return self._page(told)

    def _info(self, kind, id, revision="main"):
        repo = self._repo(kind, id)
        commit = repo.at(revision)
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        if self.query.get("blobs"):
            for one in siblings:
                blob = commit.files[one["rfilename"]]
                one |= {"size": blob.size, "blobId": blob.oid}
                one |= {"lfs": _lfs(blob)} if blob.lfs else {}
        told = {"_id": "0" * 24, "id": id, "sha": commit.sha, "private": repo.private, "tags": []}
        told |= {"downloads": 0, "likes": 0, "siblings": siblings, "gated": False}
        told |= {"lastModified": commit.date, "createdAt": commit.date, "disabled": False}
        return self._json(told | ({"modelId": id} if kind == "models" else {}))

    def _tree(self, kind, id, revision, *under):
        commit = self._repo(kind, id).at(revision)
        start = "/".join(under)
        items = _items(commit.files)
        if start and items.get(start, {}).get("type") != "directory":
            raise self._no_entry(commit, start)
        deep = self.query.get("recursive", "").lower() == "true"
        chosen = [one for path, one in sorted(items.items()) if _under(path, start, deep)]
        return self._page([self._expand(one, commit) for one in chosen])

    def _paths_info(self, kind, id, revision):
        commit = self._repo(kind, id).at(revision)
        if self.headers.get("Content-Type", "").startswith("application/json"):
            asked = json.loads(self.body)
        else:
            asked = parse_qs(self.body.decode())
            self.query["expand"] = asked.get("expand", ["false"])[-1]
        items = _items(commit.files)
        found = [items[path] for path in asked.get("paths", []) if path in items]
        return self._json([self._expand(one, commit) for one in found])

    def _expand(self, item: dict, commit) -> dict:
        if self.fault and item["type"] == "file":
            item = item | {"size": item["size"] + self.fault.size}
            item |= {"oid": self.fault.etag} if self.fault.etag else {}
        if self.query.get("expand", "").lower() != "true":
            return item
        last = {"id": commit.sha, "title": commit.title, "date": commit.date}
        return item | {"lastCommit": last}

    def _page(self, items: list):
        start = int(self.query.get("cursor", 0))
        size = min(int(self.query.get("limit", self.hub.page)), self.hub.page)
        more = {}
        if start + size < len(items):
            query = "&".join(f"{k}={quote(v)}" for k, v in self.query.items() if k != "cursor")
            path = urlsplit(self.path).path
            link = f"{self.hub.url}{path}?{query}&cursor={start + size}"
            more = {"Link": f'<{link}>; rel="next"'}
        return self._json(items[start : start + size], **more)

    def _no_entry(self, commit, path: str) -> Refusal:
        message = f"{path} does not exist on this revision"
        return Refusal(404, "EntryNotFound", message, headers={"X-Repo-Commit": commit.sha})

    def _resolve_data(self, owner, name, revision, *path):
        return self._file("datasets", f"{owner}/{name}", revision, "/".join(path))

    def _resolve(self, owner, name, revision, *path):
        return self._file("models", f"{owner}/{name}", revision, "/".join(path))

    def _file(self, kind, id, revision, path):
        commit = self._repo(kind, id).at(revision)
        if path not in commit.files:
            raise self._no_entry(commit, path)
        blob = commit.files[path]
        etag, size = blob.oid, blob.size
        if self.fault:
            etag, size = self.fault.etag or etag, size + self.fault.size
        head = {"ETag": f'"{etag}"', "X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
        head["Content-Disposition"] = f'inline; filename="{quote(path.rpartition("/")[2])}"'
        if blob.lfs:
            head |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(size)}
        if self.command == "HEAD":
            return self._send(200, b"", head, size)
        if not (wanted := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))):
            return self._send(200, blob.read(), head, size)
        first, last = wanted.groups()
        begin = int(first) if first else max(0, blob.size - int(last))
        end = min(int(last), blob.size - 1) if first and last else blob.size - 1
        if begin > end:
            return self._send(416, b"", {"Content-Range": f"bytes */{blob.size}"})
        with blob.path.open("rb") as stream:
            stream.seek(begin)
            body = stream.read(end + 1 - begin)
        head["Content-Range"] = f"bytes {begin}-{end}/{blob.size}"
        return self._send(206, body, head)


_ROUTES = (  # {} is one segment, {id} two, {kind} models or datasets, {*} the rest
    ("GET", "api/whoami-v2", "whoami"),
    ("POST", "api/repos/create", "create"),
    ("POST", "api/validate-yaml", "validate"),
    ("POST", "api/{kind}/{id}/preupload/{}", "preupload"),
    ("POST", "{id}.git/info/lfs/objects/batch", "lfs_batch"),
    ("PUT", "lfs/{}/{}/{}/{}", "lfs_put"),
    ("PUT", "lfs/{}/{}/{}/{}/{}", "lfs_part"),
    ("POST", "lfs/{}/{}/{}/{}/complete", "lfs_complete"),
    ("POST", "lfs/{}/{}/{}/{}/verify", "lfs_verify"),
    ("POST", "api/{kind}/{id}/commit/{}", "commit"),
    ("POST", "api/{kind}/{id}/branch/{}", "branch"),
    ("DELETE", "api/{kind}/{id}/branch/{}", "branch_delete"),
    ("POST", "api/{kind}/{id}/tag/{}", "tag"),
    ("DELETE", "api/{kind}/{id}/tag/{}", "tag_delete"),
    ("GET", "api/{kind}/{id}/refs", "refs"),
    ("GET", "api/{kind}/{id}/commits/{}", "commits"),
    ("GET", "api/{kind}/{id}", "info"),
    ("GET", "api/{kind}/{id}/revision/{}", "info"),
    ("GET", "api/{kind}/{id}/tree/{}/{*}", "tree"),
    ("GET", "api/{kind}/{id}/tree/{}", "tree"),
    ("POST", "api/{kind}/{id}/paths-info/{}", "paths_info"),
    ("GET", "datasets/{}/{}/resolve/{}/{*}", "resolve_data"),
    ("GET", "{}/{}/resolve/{}/{*}", "resolve"),
)


def _match(pattern: str, segments: list[str]) -> list[str] | None:
    """Take the variable parts of a path, or None where it isn't of that pattern."""
    if pattern.startswith("{id}.git"):
        return _git(segments, pattern.removeprefix("{id}.git/").split("/"))
    found, left = [], list(segments)
    for part in pattern.split("/"):
        if part == "{*}" and left:
            return found + left
        if part == "{id}" and len(left) >= 2:
            found, left = [*found, "/".join(left[:2])], left[2:]
        elif not left or (part == "{kind}" and left[0] not in _KINDS):
            return None
        elif part in ("{}", "{kind}"):
            found.append(left.pop(0))
        elif left.pop(0) != part:
            return None
    return None if left else found


def _git(segments: list[str], rest: list[str]) -> list[str] | None:
    kind = segments[0] if segments[0] in _KINDS else "models"
    own = segments[1:] if kind != "models" else segments
    if len(own) < 2 or not own[1].endswith(".git") or own[2:] != rest:
        return None
    return [kind, f"{own[0]}/{own[1].removesuffix('.git')}"]


def _prefix(kind: str) -> str:
    """What stands before the id in the address of a page."""
    return "" if kind == "models" else f"{kind}/"


def _items(files: dict) -> dict[str, dict]:
    """All files and folders of a commit as a listing gives them."""
    found = {}
    for path, blob in files.items():
        found[path] = {"type": "file", "path": path, "size": blob.size, "oid": blob.oid}
        if blob.lfs:
            found[path]["lfs"] = _lfs(blob)
        parts = path.split("/")
        for n in range(1, len(parts)):
            above = "/".join(parts[:n])
            oid = hashlib.sha1(above.encode()).hexdigest()
            found[above] = {"type": "directory", "path": above, "oid": oid, "size": 0}
    return found


def _lfs(blob) -> dict:
    return {"oid": blob.oid, "sha256": blob.oid, "size": blob.size, "pointerSize": 134}


def _under(path: str, start: str, deep: bool) -> bool:
    prefix = f"{start}/" if start else ""
    return path.startswith(prefix) and (deep or "/" not in path.removeprefix(prefix))
