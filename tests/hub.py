"""A model hub on this machine: one repository, answered for as the real one answers."""

import json
import threading
from contextlib import contextmanager
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

REPO = "some/model"
REVISION = "0123456789" * 4


class Hub:
    """files: {name: bytes} of the repository; refuse: the code of an error for every request.

    refuse_files: of those for files alone, as a gated repository does. asked: paths, in order.
    """

    def __init__(self, files):
        self.files = {
            name: body if isinstance(body, bytes) else body.encode() for name, body in files.items()
        }
        self.refuse = self.refuse_files = None
        self.asked = []

    @property
    def downloaded(self):
        start = f"/{REPO}/resolve/{REVISION}/"
        return {path.removeprefix(start) for path in self.asked if path.startswith(start)}


# {error code: status}, as the hub's documentation and its client have them.
STATUS = {"GatedRepo": 403, "RepoNotFound": 404, "RevisionNotFound": 404, "Unauthorized": 401}


@contextmanager
def serving(files):
    """Yield a `Hub` and its address."""
    hub = Hub(files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.do_GET(body=False)

        def do_GET(self, body=True):
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(path)
            is_file = "/resolve/" in path
            code = hub.refuse or (hub.refuse_files if is_file else None)
            if code is None and not path.startswith((f"/api/models/{REPO}", f"/{REPO}/")):
                code = "RepoNotFound"
            if code is None and REVISION not in path:
                code = "RevisionNotFound"
            if code is not None:
                named = {} if code == "Unauthorized" else {"X-Error-Code": code}
                return self.answer(STATUS[code], b"{}", {**named, "X-Error-Message": code}, body)
            if is_file:
                name = path.split(f"/resolve/{REVISION}/")[1]
                if name not in hub.files:
                    return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
                data = hub.files[name]
                return self.answer(200, data, {"X-Repo-Commit": REVISION, "ETag": etag(data)}, body)
            listed = [
                {"type": "file", "path": name, "size": len(data), "oid": etag(data)}
                for name, data in hub.files.items()
            ]
            if "/tree/" in path:
                return self.answer(200, json.dumps(listed).encode(), {}, body)
            siblings = [{"rfilename": name} for name in hub.files]
            told = {"id": REPO, "modelId": REPO, "sha": REVISION, "siblings": siblings}
            return self.answer(200, json.dumps(told).encode(), {}, body)

        def answer(self, status, data, headers, body):
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body:
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def etag(data):
    return sha1(data).hexdigest()
