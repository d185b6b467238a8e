"""A stand-in for the hub: the API that `huggingface_hub` uses, over real HTTP, with repositories in memory."""

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LFS_SUFFIXES = (".safetensors", ".bin")
RESULT_KEYS = {"task", "dataset", "metrics"}


@dataclass
class Repository:
    """A model repository: its commits by id, each with all of its files, and the refs that point to them."""

    owner: str
    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, ref: str, files: dict[str, bytes], message: str) -> str:
        content = json.dumps([[path, hashlib.sha1(data).hexdigest()] for path, data in sorted(files.items())])
        oid = hashlib.sha1(f"{self.refs.get(ref)}{content}{message}".encode()).hexdigest()
        self.commits[oid], self.messages[oid], self.refs[ref] = files, message, oid
        return oid

    def resolve(self, revision: str) -> str | None:
        revision = self.refs.get(revision, revision)
        return revision if revision in self.commits else None


class Hub(ThreadingHTTPServer):
    """The server.

    ``tokens`` are the users by token. ``breaks`` contains failures by the name of a request: the connection is cut
    while its body is sent (``"drop"``), or the answer is an error (``"500"``). ``POST /breaks`` sets it.
    """

    daemon_threads = True

    def __init__(self, tokens: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.tokens = tokens
        self.repositories: dict[str, Repository] = {}
        self.large_files: dict[str, bytes] = {}
        self.breaks: dict[str, str] = {}
        self.requests: Counter[str] = Counter()
        self.lock = threading.Lock()

    def handle_error(self, request, client_address):
        """Ignore clients that close the connection."""


@contextmanager
def running_hub(tokens):
    hub = Hub(tokens)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


def is_large(path: str) -> bool:
    return path.endswith(LFS_SUFFIXES)


def oid_of(path: str, data: bytes) -> str:
    if is_large(path):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def metadata_errors(content: str) -> list[str]:
    """Return the error of the hub for the metadata of a card."""
    match = re.match(r"---\n(.*?)\n---\n", content, flags=re.DOTALL)
    values = yaml.safe_load(match[1]) if match else {}
    errors = [
        f'"{key}" must be a string'
        for key in ("license", "base_model", "library_name", "pipeline_tag")
        if not isinstance(values.get(key, ""), str)
    ]
    errors += [
        f'"{key}" must be a list of strings'
        for key in ("tags", "datasets")
        if not all(isinstance(item, str) for item in values.get(key, []))
    ]
    for model in values.get("model-index", []):
        if not model.get("name"):
            errors.append('"model-index[0].name" is required')
        for result in model["results"]:
            missing = RESULT_KEYS - result.keys()
            errors += [f'"model-index[0].results.{key}" is required' for key in missing]
            for metric in result.get("metrics", []):
                errors += [f'"metrics.{key}" is required' for key in ("type", "value") if metric.get(key) is None]
    return errors


class _RefusedError(Exception):
    def __init__(self, status: int, code: str = "", message: str = "", body: dict | None = None) -> None:
        self.status, self.code, self.message, self.body = status, code, message, body


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *args):
        pass

    def do_GET(self):
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def _answer(self):
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        length = int(self.headers.get("Content-Length") or 0)
        method = "GET" if self.command == "HEAD" else self.command
        found = ((re.fullmatch(pattern, url.path), name) for pattern, wanted, name in ROUTES if wanted == method)
        match, name = next(((match, name) for match, name in found if match), (None, None))
        if match is None:
            self.rfile.read(length)
            self._send(404, {"error": f"no such endpoint: {self.command} {url.path}"})
            return
        broken = self.server.breaks.get(name)
        with self.server.lock:
            self.server.requests[name] += 1
        if broken == "drop":
            self.rfile.read(length // 2)
            self.close_connection = True
            return
        self.body = self.rfile.read(length)
        if broken == "500":
            self._send(500, {"error": "Internal Error"})
            return
        try:
            with self.server.lock:
                result = getattr(self, f"_{name}")(
                    **{key: unquote(value or "") for key, value in match.groupdict().items()}
                )
        except _RefusedError as refused:
            headers = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
            self._send(refused.status, refused.body or {"error": refused.message}, headers)
            return
        if result is not None:
            self._send(200, result)

    def _send(self, status, body, headers=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            if value:
                self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    @property
    def _user(self):
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.server.tokens:
            raise _RefusedError(401, "", "Invalid credentials in Authorization header")
        return self.server.tokens.get(token)

    def _repository(self, repo, write=False):
        """Return a repository as the hub does: 404 for one that may not be read, and 401 without a token."""
        found = self.server.repositories.get(repo)
        if found is None or (found.private and self._user != found.owner):
            if self._user is None:
                raise _RefusedError(401, "RepoNotFound", "Invalid username or password.")
            raise _RefusedError(404, "RepoNotFound", "Repository not found")
        if write and self._user != found.owner:
            raise _RefusedError(401 if self._user is None else 403, "", "You don't have the rights to write here")
        return found

    def _files(self, repo, revision):
        found = self._repository(repo)
        oid = found.resolve(revision)
        if oid is None:
            raise _RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return oid, found.commits[oid]

    def _breaks(self):
        self.server.breaks = json.loads(self.body)
        return {}

    def _whoami(self):
        if self._user is None:
            raise _RefusedError(401, "", "Invalid username or password.")
        return {"type": "user", "name": self._user, "orgs": []}

    def _create(self):
        values = json.loads(self.body)
        if self._user is None:
            raise _RefusedError(401, "", "Invalid username or password.")
        repo = f"{values.get('organization') or self._user}/{values['name']}"
        if not repo.startswith(f"{self._user}/"):
            raise _RefusedError(403, "", f"You don't have the rights to create a model under {repo!r}")
        url = f"{self.server.endpoint}/{repo}"
        if repo in self.server.repositories:
            raise _RefusedError(409, "", "You already created this model repo", {"error": "exists", "url": url})
        found = self.server.repositories[repo] = Repository(
            self._user, values.get("visibility") == "private" or bool(values.get("private"))
        )
        found.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
        return {"url": url, "name": repo, "id": repo}

    def _validate(self):
        errors = metadata_errors(json.loads(self.body)["content"])
        if errors:
            raise _RefusedError(400, "", "", {"errors": [{"message": error} for error in errors], "warnings": []})
        return {"errors": [], "warnings": []}

    def _preupload(self, repo, revision):
        self._repository(repo, write=True)
        _, files = self._files(repo, revision)
        return {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if is_large(file["path"]) else "regular",
                    "shouldIgnore": False,
                    "oid": oid_of(file["path"], files[file["path"]]) if file["path"] in files else None,
                }
                for file in json.loads(self.body)["files"]
            ]
        }

    def _batch(self, repo):
        self._repository(repo, write=True)
        objects = json.loads(self.body)["objects"]
        for item in objects:
            if item["oid"] not in self.server.large_files:
                upload = {"href": f"{self.server.endpoint}/storage/{item['oid']}"}
                item["actions"] = {"upload": upload, "verify": {"href": f"{self.server.endpoint}/{repo}.git/verify"}}
        return {"transfer": "basic", "objects": objects}

    def _upload(self, oid):
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise _RefusedError(400, "", "BadDigest")
        self.server.large_files[oid] = self.body
        return b""

    def _verify(self, repo):
        self._repository(repo, write=True)
        item = json.loads(self.body)
        if len(self.server.large_files.get(item["oid"], b"")) != item["size"]:
            raise _RefusedError(404, "", "no such object")
        return {}

    def _commit(self, repo, revision):
        found = self._repository(repo, write=True)
        _, files = self._files(repo, revision)
        files, message = dict(files), ""
        for line in self.body.splitlines():
            key, value = (item := json.loads(line))["key"], item["value"]
            if key == "header":
                message = value["summary"]
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                if value["oid"] not in self.server.large_files:
                    raise _RefusedError(400, "", f"{value['path']}: its content was never uploaded")
                files[value["path"]] = self.server.large_files[value["oid"]]
            elif key == "deletedFile":
                files.pop(value["path"])
        oid = found.commit(revision, files, message)
        return {"success": True, "commitOid": oid, "commitUrl": f"{self.server.endpoint}/{repo}/commit/{oid}"}

    def _branch(self, repo, name):
        found = self._repository(repo, write=True)
        if name in found.refs:
            raise _RefusedError(409, "", "Reference already exists")
        start = json.loads(self.body or b"{}").get("startingPoint", "main")
        found.refs[name], _ = self._files(repo, start)
        return {}

    def _tag(self, repo, revision):
        found = self._repository(repo, write=True)
        found.refs[json.loads(self.body)["tag"]], _ = self._files(repo, revision)
        return {}

    def _info(self, repo, revision=""):
        found = self._repository(repo)
        oid, files = self._files(repo, revision or "main")
        siblings = [{"rfilename": path} for path in sorted(files)]
        return {"id": repo, "modelId": repo, "sha": oid, "private": found.private, "siblings": siblings, "tags": []}

    def _tree(self, repo, revision, folder=""):
        _, files = self._files(repo, revision)
        entries = [
            {"type": "file", "path": path, "size": len(data), "oid": oid_of(path, data)}
            for path, data in sorted(files.items())
            if path.startswith(f"{folder}/" if folder else "")
        ]
        if not entries:
            raise _RefusedError(404, "EntryNotFound", f"{folder} does not exist on {revision!r}")
        return entries

    def _resolve(self, repo, revision, path):
        oid, files = self._files(repo, revision)
        if path not in files:
            headers = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found", "X-Repo-Commit": oid}
            self._send(404, b"Entry not found", headers)
            return
        headers = {"ETag": f'"{oid_of(path, files[path])}"', "X-Repo-Commit": oid}
        self._send(200, files[path], headers)


_REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
_REVISION = r"(?P<revision>[^/]+)"
ROUTES = [
    ("/breaks", "POST", "breaks"),
    ("/api/whoami-v2", "GET", "whoami"),
    ("/api/repos/create", "POST", "create"),
    ("/api/validate-yaml", "POST", "validate"),
    (f"/api/models/{_REPO}/preupload/{_REVISION}", "POST", "preupload"),
    (f"/{_REPO}[.]git/info/lfs/objects/batch", "POST", "batch"),
    ("/storage/(?P<oid>[0-9a-f]{64})", "PUT", "upload"),
    (f"/{_REPO}[.]git/verify", "POST", "verify"),
    (f"/api/models/{_REPO}/commit/{_REVISION}", "POST", "commit"),
    (f"/api/models/{_REPO}/branch/(?P<name>[^/]+)", "POST", "branch"),
    (f"/api/models/{_REPO}/tag/{_REVISION}", "POST", "tag"),
    (f"/api/models/{_REPO}", "GET", "info"),
    (f"/api/models/{_REPO}/revision/{_REVISION}", "GET", "info"),
    (f"/api/models/{_REPO}/tree/{_REVISION}(/(?P<folder>.+))?", "GET", "tree"),
    (f"/{_REPO}/resolve/{_REVISION}/(?P<path>.+)", "GET", "resolve"),
]
