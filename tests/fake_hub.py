"""A small Hugging Face Hub on this machine: it answers what huggingface_hub asks when models and datasets are pushed
and loaded. Both are repositories of one kind here."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_of_somebody_who_may_write"
REPO = r"([\w.-]+/[\w.-]+)"
API = f"/api/(?:models|datasets)/{REPO}"


class FakeHub:
    """
    Attributes:
        url: for HF_ENDPOINT.
        branches: repository → branch → commit.
        commits: commit → path → content.
        private: repositories made as private ones.
        requests: "METHOD path" of all requests.
        interrupted: (repository, path) → how often a download of it still breaks off in the middle.
        truncated: (repository, path) of files of which only half is given.
        conflicts: how many commits are still refused, as if others came between.
    """

    def __init__(self):
        self.branches: dict[str, dict[str, str]] = {}
        self.commits: dict[str, dict[str, bytes]] = {}
        self.large: dict[str, bytes] = {}  # SHA-256 → content
        self.private: set[str] = set()
        self.requests: list[str] = []
        self.interrupted: dict[tuple[str, str], int] = {}
        self.truncated: set[tuple[str, str]] = set()
        self.conflicts = 0
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def commit(self, repo: str, branch: str, files: dict[str, bytes]) -> str:
        text = repr((repo, len(self.commits), sorted(files))).encode()
        commit = hashlib.sha1(text, usedforsecurity=False).hexdigest()
        self.commits[commit] = files
        self.branches.setdefault(repo, {})[branch] = commit
        return commit

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        return self.commits[self.branches[repo].get(revision, revision)]


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _answer(self, content, status=200, head=False, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        length = headers.pop("Content_Length", len(body))
        for name, value in {"Content-Length": length, **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if not head:
            self.wfile.write(body)

    def _refuse(self, status, code, message):
        head = self.command == "HEAD"
        self._answer({"error": message}, status, head, X_Error_Code=code, X_Error_Message=message)

    def _route(self, routes):
        """Calls what the path belongs to, with the body and the parts of the path."""
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        authorised = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if not authorised and (self.command == "POST" or "whoami" in path):
            return self._refuse(401, "", "Invalid username or password.")
        for pattern, answer in routes:
            if match := re.fullmatch(pattern, path):
                return answer(body, *map(unquote, match.groups()))
        return self._refuse(404, "", f"{path} is nothing that this Hub knows")

    def do_POST(self):
        self._route([
            ("/api/validate-yaml", self._validate),
            ("/api/repos/create", self._create),
            (f"{API}/branch/([^/]+)", self._branch),
            (f"{API}/preupload/([^/]+)", self._preupload),
            (f"/(?:datasets/)?{REPO}.git/info/lfs/objects/batch", self._lfs_batch),
            (f"{API}/commit/([^/]+)", self._commit),
        ])  # fmt: skip

    def do_PUT(self):
        self._route([("/lfs/([0-9a-f]{64})", self._upload)])

    def do_GET(self):
        self._route([
            ("/api/whoami-v2", lambda body: self._answer({"name": "me", "type": "user"})),
            (API, self._info),
            (f"{API}/revision/([^/]+)", self._info),
            (f"{API}/tree/([^/]+)", self._tree),
            (f"/(?:datasets/)?{REPO}/resolve/([^/]+)/(.+)", self._resolve),
        ])  # fmt: skip

    do_HEAD = do_GET

    # Pushing

    def _validate(self, body):
        content = json.loads(body)["content"]
        metadata = yaml.safe_load(content.split("---")[1]) if content.startswith("---\n") else None
        errors = [] if isinstance(metadata, dict) else [{"message": "no metadata"}]
        if metadata and "model-index" in metadata and not metadata["model-index"][0].get("name"):
            errors.append({"message": "model-index without a name"})
        if metadata and metadata.get("license") == "other" and "license_name" not in metadata:
            errors.append({"message": "license other needs a license_name"})
        self._answer({"errors": errors, "warnings": []}, 400 if errors else 200)

    def _create(self, body):
        wanted = json.loads(body)
        repo = f"{wanted['organization'] or 'me'}/{wanted['name']}"
        if new := repo not in self.hub.branches:
            self.hub.commit(repo, "main", {".gitattributes": b""})
            if wanted.get("visibility") == "private" or wanted.get("private"):
                self.hub.private.add(repo)
        self._answer({"url": f"{self.hub.url}/{repo}"}, 200 if new else 409)

    def _branch(self, body, repo, branch):
        branches = self.hub.branches[repo]
        if new := branch not in branches:
            branches[branch] = branches["main"]
        self._answer({}, 201 if new else 409)

    def _preupload(self, body, repo, revision):
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith((".safetensors", ".parquet")) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self._answer({"files": files})

    def _lfs_batch(self, body, repo):
        objects = [
            {**wanted, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}"}}}
            for wanted in json.loads(body)["objects"]
        ]
        self._answer({"transfer": "basic", "objects": objects})

    def _upload(self, body, checksum):
        assert hashlib.sha256(body).hexdigest() == checksum
        self.hub.large[checksum] = body
        self._answer({})

    def _commit(self, body, repo, branch):
        if self.hub.conflicts:
            self.hub.conflicts -= 1
            return self._refuse(412, "", "A commit has happened since. Please refresh and try again.")
        files = dict(self.hub.files(repo, branch))
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        commit = self.hub.commit(repo, branch, files)
        self._answer({"commitUrl": f"{self.hub.url}/{repo}/commit/{commit}", "commitOid": commit})

    # Loading

    def _find(self, repo, revision):
        """The commit, or `None` if the question was answered with what is missing."""
        if repo not in self.hub.branches:
            self._refuse(404, "RepoNotFound", "Repository not found")
        elif (commit := self.hub.branches[repo].get(revision, revision)) not in self.hub.commits:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return commit

    def _info(self, body, repo, revision="main"):
        if commit := self._find(repo, revision):
            siblings = [{"rfilename": path} for path in self.hub.commits[commit]]
            self._answer({"id": repo, "modelId": repo, "sha": commit, "siblings": siblings, "tags": []})

    def _tree(self, body, repo, revision):
        if commit := self._find(repo, revision):
            files = self.hub.commits[commit].items()
            self._answer([{"type": "file", "path": p, "size": len(c), "oid": _checksum(c)} for p, c in files])

    def _resolve(self, body, repo, revision, path):
        commit = self._find(repo, revision)
        if commit is None:
            return
        content = self.hub.commits[commit].get(path)
        if content is None:
            return self._refuse(404, "EntryNotFound", f"{path} is not in {repo}")
        headers = {"X_Repo_Commit": commit, "ETag": f'"{_checksum(content)}"'}
        if self.command == "HEAD":
            return self._answer(content, head=True, **headers)
        first = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1]) if "Range" in self.headers else 0
        part = content[first:]
        if first:
            headers["Content_Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        if (repo, path) in self.hub.truncated:
            part = part[: len(part) // 2]
        elif self.hub.interrupted.get((repo, path), 0):
            self.hub.interrupted[repo, path] -= 1
            self.close_connection = True
            return self._answer(part[: len(part) // 2], Content_Length=len(part), **headers)
        self._answer(part, 206 if first else 200, **headers)


def _checksum(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
