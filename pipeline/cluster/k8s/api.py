"""The API server of Kubernetes as the pipeline Job needs it: get, list, create, delete, watch, over plain HTTP(S).

Not kubectl: the image would carry a second program whose version has to fit the cluster's, errors would come as text
to be read, and a token that is replaced every hour is read again at every request here. Outside of a cluster, where
logging in is kubectl's business (kubeconfig, OIDC, cloud plug-ins), `clipmill submit` does use kubectl.

A request that fails in passing (connection lost, 429, 5xx) is sent again for `patience_s`; what it may have done
already is found out by the answer to the second (409: it is there; 404: it is gone).
"""

import http.client
import json
import os
import random
import ssl
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ClipmillError, UsageError
from pipeline.log import get_logger

log = get_logger("cluster")
URL = "CLIPMILL_API_URL"
"""Of an API server that asks for no token, such as `kubectl proxy`; default: that of the pod's cluster."""
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TIMEOUT_S, PATIENCE_S, LONGEST_PAUSE_S = 30.0, 900.0, 30.0
_PASSING = (429, 500, 502, 503, 504)

Object = dict[str, Any]


class ApiError(ClipmillError):
    """status: of the answer, 0 where none came; reason: one word of Kubernetes, such as AlreadyExists."""

    def __init__(self, where: str, status: int, reason: str, message: str, hint: str = "") -> None:
        super().__init__(where, f"{status or 'no answer'} {reason}: {message}", "", hint)
        self.args = (where, status, reason, message, hint)
        self.status, self.reason = status, reason


@dataclass(frozen=True)
class Resource:
    """group: "" for the core; plural: as in a URL."""

    kind: str
    group: str
    version: str
    plural: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


class ApiServer:
    """One namespace of one API server. `account`: a folder with token and ca.crt, or None for no token."""

    def __init__(self, url: str, namespace: str, account: Path | None = None, patience_s: float = PATIENCE_S) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(URL, f"found {url!r}", "http://HOST:PORT or https://HOST:PORT", "kubectl proxy")
        self.url, self.namespace, self._account, self._patience_s = url, namespace, account, patience_s
        self._host, self._port, self._tls = parts.hostname, parts.port, parts.scheme == "https"
        self.first_pause_s = 1.0

    def get(self, resource: Resource, name: str) -> Object | None:
        """None where there is none of that name."""
        return self._ask("GET", self._path(resource, name), absent=None)

    def list(self, resource: Resource, labels: Mapping[str, str]) -> list[Object]:
        """Those with all these labels. Empty, too, where the cluster does not know the kind."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = self._ask("GET", self._path(resource), {"labelSelector": selector}, absent={"items": []})
        kind = {"apiVersion": resource.api_version, "kind": resource.kind}  # which items of a list leave out
        return [{**kind, **item} for item in found["items"]]

    def create(self, resource: Resource, wanted: Object) -> Object:
        """ApiError with status 409 where one of that name is there."""
        return self._ask("POST", self._path(resource), body=wanted)

    def delete(self, resource: Resource, name: str, uid: str) -> None:
        """Asks for its end, and for its pods' before its own; not of another object that took the name meanwhile."""
        body = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": "Foreground",
            "preconditions": {"uid": uid},
        }
        try:
            self._ask("DELETE", self._path(resource, name), body=body, absent=None)
        except ApiError as error:
            if error.status != 409:  # another one by now
                raise

    def watch(self, resource: Resource, name: str, version: str, for_s: int) -> Iterator[tuple[str, Object]]:
        """(ADDED, MODIFIED or DELETED, the object) as it changes from `version` on, for so long at most.

        Ends early, and says nothing of it, when the connection is cut or the version is too old (410): whoever watches
        gets the object anew and goes on from that.
        """
        query = {
            "watch": "1", "fieldSelector": f"metadata.name={name}", "resourceVersion": version,
            "timeoutSeconds": str(for_s),
        }  # fmt: skip
        try:
            answer = self._send("GET", self._path(resource), query, None, for_s + TIMEOUT_S)
            with answer:
                if answer.status != 200:
                    return
                for line in answer:
                    event = json.loads(line)
                    if event["type"] in ("BOOKMARK", "ERROR"):
                        if event["type"] == "ERROR":
                            return
                        continue
                    yield event["type"], event["object"]
        except (OSError, http.client.HTTPException, ValueError) as error:
            log.debug("watch of %s ended: %s", name, error)

    def _path(self, resource: Resource, name: str = "") -> str:
        root = f"/apis/{resource.group}" if resource.group else "/api"
        path = f"{root}/{resource.version}/namespaces/{self.namespace}/{resource.plural}"
        return f"{path}/{name}" if name else path

    def _ask(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Object | None = None, **absent: Any
    ) -> Any:
        """The object answered; absent=X: X in place of a 404."""
        deadline, pause_s = time.monotonic() + self._patience_s, self.first_pause_s
        while True:
            status, found = self._answer(method, path, query, body)
            if status in (200, 201, 202):
                return found
            if status == 404 and "absent" in absent:
                return absent["absent"]
            error = _error(f"{method} {path}", status, found)
            if status and status not in _PASSING:
                raise error
            if time.monotonic() + pause_s > deadline:
                raise error
            log.warning("%s; again in %.0f s", error, pause_s)
            time.sleep(pause_s * random.uniform(0.75, 1.25))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _answer(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Object | None
    ) -> tuple[int, Object]:
        """(0, why) where no whole answer came."""
        try:
            with self._send(method, path, query, body, TIMEOUT_S) as answer:
                text = answer.read()
                found = json.loads(text) if text else {}
                return answer.status, found if isinstance(found, dict) else {}
        except (OSError, http.client.HTTPException, ValueError) as error:
            return 0, {"reason": type(error).__name__, "message": str(error) or "cut off"}

    def _send(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Object | None, timeout_s: float
    ) -> http.client.HTTPResponse:
        headers = {"Accept": "application/json", "User-Agent": "clipmill", "Connection": "close"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._account is not None:
            headers["Authorization"] = f"Bearer {(self._account / 'token').read_text().strip()}"
        connection: http.client.HTTPConnection
        if self._tls:
            authority = self._account / "ca.crt" if self._account is not None else None
            context = ssl.create_default_context(cafile=str(authority) if authority else None)
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=context)
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        target = f"{path}?{urllib.parse.urlencode(query)}" if query else path
        connection.request(method, target, None if body is None else json.dumps(body).encode(), headers)
        return connection.getresponse()


def _error(where: str, status: int, found: Object) -> ApiError:
    hint = ""
    if status in (401, 403):
        hint = "kubectl apply -k the overlay again: its Role and RoleBinding give the pipeline Job what it needs"
    return ApiError(where, status, str(found.get("reason", "")), str(found.get("message", "")), hint)


def of_pod(environment: Mapping[str, str] = os.environ, account: Path = ACCOUNT) -> ApiServer:
    """The API server of the cluster that this pod runs in, and the namespace of this pod."""
    if environment.get(URL):
        return ApiServer(environment[URL], environment.get("CLIPMILL_NAMESPACE") or "default")
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (account / "token").exists():
        hint = f"outside of a cluster: kubectl proxy & {URL}=http://127.0.0.1:8001 clipmill reconcile ..."
        raise UsageError("KUBERNETES_SERVICE_HOST", "is no pod with a service account", "one that may start jobs", hint)
    host = f"[{host}]" if ":" in host else host
    return ApiServer(f"https://{host}:{port}", (account / "namespace").read_text().strip(), account)
