"""An API server of Kubernetes over HTTP, of as much as the pipeline Job and its templates need: objects with versions,
lists by labels, watches from a version on, 409 for a name that is taken, 410 for a version that is too old, foreground
deletion that takes its time, and faults on demand. It says enough of itself (discovery, PATCH) for the real kubectl.
What no controller is here to do, tests do: `status`, `finish`."""

import json
import re
import threading
import time
import urllib.parse
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Object = dict[str, Any]
GROUPS = {  # what kubectl asks before anything else: which kinds there are
    "v1": {"ConfigMap": "configmaps", "Service": "services", "ServiceAccount": "serviceaccounts", "Pod": "pods",
           "PersistentVolumeClaim": "persistentvolumeclaims"},
    "batch/v1": {"Job": "jobs"},
    "rbac.authorization.k8s.io/v1": {"Role": "roles", "RoleBinding": "rolebindings"},
    "jobset.x-k8s.io/v1alpha2": {"JobSet": "jobsets"},
    "ray.io/v1": {"RayJob": "rayjobs"},
    "trainer.kubeflow.org/v1alpha1": {"TrainJob": "trainjobs", "TrainingRuntime": "trainingruntimes"},
}  # fmt: skip


def _kinds(group: str) -> Object:
    verbs = ["get", "list", "watch", "create", "delete", "patch"]
    found = [
        {"name": plural, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": verbs}
        for kind, plural in GROUPS[group].items()
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group, "resources": found}


def _groups() -> Object:
    found = []
    for each in GROUPS:
        group, _, version = each.rpartition("/")
        if group:
            versions = [{"groupVersion": each, "version": version}]
            found.append({"name": group, "versions": versions, "preferredVersion": versions[0]})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}


def _merged(found: Any, change: Any) -> Any:
    """A JSON merge patch. Of a strategic one this is right where lists have not changed, as in a second apply."""
    if not isinstance(change, dict):
        return change
    merged = dict(found) if isinstance(found, dict) else {}
    for key, value in change.items():
        if value is None:
            merged.pop(key, None)
        elif not key.startswith("$"):
            merged[key] = _merged(merged.get(key), value)
    return merged


@dataclass
class Kube:
    """objects: (plural, name) -> object. log: (method, path, status) of each request. faults: statuses with which the
    next requests but watches are answered, one each (0: the connection is closed without an answer, after the work is
    done). lingering: names whose deletion waits for `finish`. oldest: watches from a version below it are 410."""

    port: int = 0
    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    log: list[tuple[str, str, int]] = field(default_factory=list)
    faults: deque[int] = field(default_factory=deque)
    watch_faults: deque[str] = field(default_factory=deque)  # "cut", "410", "error event", one for each watch
    lingering: set[str] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)  # plurals that answer 403
    unknown: set[str] = field(default_factory=set)  # plurals that answer 404: no such kind is installed
    oldest: int = 0
    version: int = 0
    events: list[tuple[int, str, str, Object]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    made: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, plural: str, found: Object) -> Object:
        with self.changed:
            self.version += 1
            about = found.setdefault("metadata", {})
            about.setdefault("uid", str(uuid.uuid4()))
            about.setdefault("creationTimestamp", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
            about["resourceVersion"] = str(self.version)
            kind = "MODIFIED" if (plural, about["name"]) in self.objects else "ADDED"
            self.objects[plural, about["name"]] = found
            self._tell(kind, plural, found)
            return found

    def drop(self, plural: str, name: str) -> None:
        with self.changed:
            found = self.objects.pop((plural, name))
            self.version += 1
            self._tell("DELETED", plural, found)

    def status(self, plural: str, name: str, **status: Any) -> None:
        """What a controller would have written."""
        with self.changed:
            self.put(plural, {**self.objects[plural, name], "status": status})

    def finish(self, name: str) -> None:
        """The pods of an object that is being deleted are gone."""
        self.lingering.discard(name)
        for plural, known in list(self.objects):
            if known == name and "deletionTimestamp" in self.objects[plural, known]["metadata"]:
                self.drop(plural, known)

    def wait(self, plural: str, name: str, limit_s: float = 20.0, uid_is_not: str = "") -> Object:
        """The object, once it is there (and is another one than that)."""
        with self.changed:
            deadline = time.monotonic() + limit_s
            while True:
                found = self.objects.get((plural, name))
                if found is not None and found["metadata"]["uid"] != uid_is_not:
                    return found
                if not self.changed.wait(deadline - time.monotonic()):
                    raise AssertionError(f"no {plural}/{name} within {limit_s} s; there are {sorted(self.objects)}")

    def watched(self, name: str, times: int, limit_s: float = 20.0) -> None:
        """Returns once that many watches of the object have begun."""
        deadline = time.monotonic() + limit_s
        while sum(method == "WATCH" and f"name%3D{name}&" in path for method, path, _ in self.log) < times:
            assert time.monotonic() < deadline, f"{name} is not watched {times} times: {self.log}"
            time.sleep(0.01)

    def _tell(self, kind: str, plural: str, found: Object) -> None:
        self.events.append((self.version, kind, plural, json.loads(json.dumps(found))))
        self.changed.notify_all()


def _selected(selector: str, labels: dict[str, str]) -> bool:
    for key, values in re.findall(r"([\w./-]+) in \(([^)]*)\)", selector):
        if labels.get(key) not in values.split(","):
            return False
    plain = re.sub(r"[\w./-]+ in \([^)]*\)", "", selector)
    return all(labels.get(key) == value for key, value in re.findall(r"([\w./-]+)=([\w.-]*)", plain))


class _Handler(BaseHTTPRequestHandler):
    kube: Kube

    def log_message(self, *words: Any) -> None:
        pass

    def _route(self) -> tuple[str, str, dict[str, str]]:
        parts = urllib.parse.urlsplit(self.path)
        words = parts.path.strip("/").split("/")
        at = words.index("namespaces") + 2
        return words[at], words[at + 1] if len(words) > at + 1 else "", dict(urllib.parse.parse_qsl(parts.query))

    def _say(self, status: int, content: Object) -> None:
        if self.kube.faults:
            fault = self.kube.faults.popleft()
            if not fault:
                self.kube.log.append((self.command, self.path, 0))
                self.close_connection = True
                self.connection.close()
                return
            status, content = fault, {"kind": "Status", "code": fault, "reason": "InternalError", "message": "planted"}
        self.kube.log.append((self.command, self.path, status))
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _refused(self, plural: str) -> bool:
        for names, status, reason in ((self.kube.denied, 403, "Forbidden"), (self.kube.unknown, 404, "NotFound")):
            if plural in names:
                self._say(status, {"kind": "Status", "reason": reason, "message": f"{plural}: {reason}"})
                return True
        return False

    def _discovered(self) -> Object | None:
        path = urllib.parse.urlsplit(self.path).path.strip("/")
        if path == "api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "apis":
            return _groups()
        if re.fullmatch(r"api/v1/namespaces/[\w-]+", path):
            return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": path.rpartition("/")[2]}}
        group = path.removeprefix("apis/").removeprefix("api/")
        return _kinds(group) if group in GROUPS else None

    def do_GET(self) -> None:
        found = self._discovered()
        if found is not None or "/namespaces/" not in self.path:
            self._say(200, found) if found is not None else self._say(404, {"kind": "Status", "code": 404})
            return
        plural, name, query = self._route()
        if self._refused(plural):
            return
        if urllib.parse.urlsplit(self.path).path.endswith("/log"):
            self.send_response(200)
            self.end_headers()
            self.kube.log.append((self.command, self.path, 200))
            self.wfile.write(self._said(self.kube.objects[plural, name]["said"], query).encode())
            return
        if query.get("watch"):
            self._watch(plural, query)
            return
        with self.kube.changed:
            if name:
                found = self.kube.objects.get((plural, name))
                self._say(200, found) if found else self._say(404, {"reason": "NotFound", "message": name})
                return
            items = [
                {key: value for key, value in each.items() if key not in ("apiVersion", "kind")}
                for (of, _), each in sorted(self.kube.objects.items())
                if of == plural and _selected(query.get("labelSelector", ""), each["metadata"].get("labels", {}))
            ]
            group, kind = next((g, k) for g, kinds in GROUPS.items() for k, each in kinds.items() if each == plural)
            about = {"resourceVersion": str(self.kube.version)}
            self._say(200, {"apiVersion": group, "kind": f"{kind}List", "items": items, "metadata": about})

    def _said(self, text: str, query: dict[str, str]) -> str:
        """Of a pod: a line a second, where times are asked for."""
        if query.get("timestamps") != "true":
            return text
        lines = text.splitlines(keepends=True)
        return "".join(f"2026-01-01T00:{at // 60:02}:{at % 60:02}.000000000Z {line}" for at, line in enumerate(lines))

    def do_PATCH(self) -> None:
        plural, name, _ = self._route()
        change = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.kube.changed:
            self._say(200, self.kube.put(plural, _merged(self.kube.objects[plural, name], change)))

    def do_POST(self) -> None:
        plural, _, _ = self._route()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._refused(plural):
            return
        if self.kube.faults and self.kube.faults[0] >= 400:  # refused before anything is done
            self._say(0, {})
            return
        with self.kube.changed:
            if (plural, body["metadata"]["name"]) in self.kube.objects:
                self._say(409, {"reason": "AlreadyExists", "message": body["metadata"]["name"]})
                return
            self.kube.made.append(body["metadata"]["name"])
            body["metadata"].setdefault("namespace", self.path.split("/namespaces/")[1].split("/")[0])
            self._say(201, self.kube.put(plural, body))

    def do_DELETE(self) -> None:
        plural, name, _ = self._route()
        options = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        assert options.get("propagationPolicy") == "Foreground", options
        self.kube.deleted.append(name)
        with self.kube.changed:
            found = self.kube.objects.get((plural, name))
            if found is None:
                self._say(404, {"reason": "NotFound", "message": name})
            elif options.get("preconditions", {}).get("uid") not in (None, found["metadata"]["uid"]):
                self._say(409, {"reason": "Conflict", "message": "uid"})
            elif name in self.kube.lingering:
                found["metadata"]["deletionTimestamp"] = "now"
                self._say(200, self.kube.put(plural, found))
            else:
                self.kube.drop(plural, name)
                self._say(200, {"kind": "Status", "status": "Success"})

    def _watch(self, plural: str, query: dict[str, str]) -> None:
        fault = self.kube.watch_faults.popleft() if self.kube.watch_faults else ""
        since = int(query["resourceVersion"])
        name = query["fieldSelector"].removeprefix("metadata.name=")
        gone = fault == "410" or since < self.kube.oldest
        self.kube.log.append(("WATCH", self.path, 410 if gone else 200))
        self.send_response(410 if gone else 200)
        self.end_headers()
        if gone:
            return
        if fault == "error event":
            self._send({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}})
            return
        deadline = time.monotonic() + float(query["timeoutSeconds"])
        sent = 0
        with self.kube.changed:
            while time.monotonic() < deadline:
                for version, kind, of, found in self.kube.events[sent:]:
                    if version > since and of == plural and found["metadata"]["name"] == name:
                        if fault == "cut":  # in the middle of a line
                            self.wfile.write(json.dumps({"type": kind, "object": found}).encode()[:40])
                            return
                        self._send({"type": kind, "object": found})
                sent = len(self.kube.events)
                self.kube.changed.wait(deadline - time.monotonic())

    def _send(self, event: Object) -> None:
        self.wfile.write(json.dumps(event).encode() + b"\n")
        self.wfile.flush()


@contextmanager
def kube_api() -> Iterator[Kube]:
    kube = Kube()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"kube": kube}))
    server.daemon_threads = True
    kube.port = server.server_address[1]
    kube.changed = threading.Condition(threading.RLock())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield kube
    finally:
        server.shutdown()
        server.server_close()
