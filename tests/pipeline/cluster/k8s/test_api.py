"""How the API server is spoken to: over TLS, with the token of the moment, and what is made of its answers."""

import json
import shutil
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from pipeline.cluster.k8s.api import ApiError, ApiServer, of_pod
from pipeline.cluster.k8s.kinds import KINDS
from pipeline.errors import UsageError
from tests.helpers.kube_api import kube_api

JOB = KINDS["Job"].resource


@pytest.fixture
def account(tmp_path):
    """A service account's folder, and a server that has its certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl for a certificate")
    folder = tmp_path / "account"
    folder.mkdir()
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(tmp_path / "key"), "-out", str(folder / "ca.crt")]
    subprocess.run([*words, *names, *files], check=True, capture_output=True)
    (folder / "token").write_text("first\n")
    (folder / "namespace").write_text("clip\n")
    return folder


def test_a_pod_speaks_tls_and_reads_its_token_anew_each_time(account, tmp_path):
    heard = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            heard.append((self.path, self.headers["Authorization"]))
            text = json.dumps({"metadata": {"name": "x"}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *words):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(account / "ca.crt", tmp_path / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.server_address[1])}
    try:
        api = of_pod(environment, account)
        assert api.get(JOB, "x") == {"metadata": {"name": "x"}}
        (account / "token").write_text("second\n")  # kubelet replaces it within the hour
        api.get(JOB, "x")
        other = tmp_path / "other"
        shutil.copytree(account, other)
        (other / "ca.crt").unlink()  # a server that this pod has no reason to trust
        with pytest.raises(OSError):
            ApiServer(api.url, "clip", other, patience_s=0.1)._send("GET", "/x", None, None, 5)
    finally:
        server.shutdown()
        server.server_close()
    path = "/apis/batch/v1/namespaces/clip/jobs/x"
    assert heard == [(path, "Bearer first"), (path, "Bearer second")]


def _account(folder: Path) -> Path:
    for name in ("token", "namespace"):
        (folder / name).write_text("clip\n")
    return folder


def test_outside_of_a_cluster_it_says_what_to_type(tmp_path):
    with pytest.raises(UsageError, match="kubectl proxy"):
        of_pod({}, tmp_path)
    with pytest.raises(UsageError, match="http://HOST:PORT"):
        ApiServer("127.0.0.1:8001", "x")
    assert of_pod({"KUBERNETES_SERVICE_HOST": "fd00::1"}, _account(tmp_path)).url == "https://[fd00::1]:443"
    assert of_pod({"CLIPMILL_API_URL": "http://127.0.0.1:8001", "CLIPMILL_NAMESPACE": "n"}, tmp_path).namespace == "n"


def test_what_is_refused_says_so_at_once_and_what_fails_in_passing_is_asked_again():
    with kube_api() as kube:
        api = ApiServer(kube.url, "ns", patience_s=5)
        api.first_pause_s = 0.01
        kube.denied.add("jobs")
        with pytest.raises(ApiError, match="403 Forbidden") as caught:
            api.get(JOB, "x")
        assert caught.value.status == 403 and "Role" in caught.value.hint and len(kube.log) == 1
        kube.denied.clear()
        kube.faults.extend([503, 429, 0])
        assert api.get(JOB, "x") is None
        assert [status for _, _, status in kube.log[1:]] == [503, 429, 0, 404]


def test_only_the_very_object_is_deleted():
    with kube_api() as kube:
        api = ApiServer(kube.url, "ns")
        found = kube.put("jobs", {"metadata": {"name": "x"}})
        api.delete(JOB, "x", "of another one of that name")
        assert ("jobs", "x") in kube.objects
        api.delete(JOB, "x", found["metadata"]["uid"])
        api.delete(JOB, "x", found["metadata"]["uid"])  # gone already
        assert ("jobs", "x") not in kube.objects


def test_a_watch_tells_what_changed_since_a_version_of_that_object_alone():
    with kube_api() as kube:
        api = ApiServer(kube.url, "ns")
        found = kube.put("jobs", {"metadata": {"name": "x"}})
        kube.put("jobs", {"metadata": {"name": "y"}})
        version = found["metadata"]["resourceVersion"]
        kube.status("jobs", "x", failed=1)
        kube.drop("jobs", "x")
        events = [(event, each["metadata"]["name"]) for event, each in api.watch(JOB, "x", version, 1)]
        assert events == [("MODIFIED", "x"), ("DELETED", "x")]
        kube.oldest = 10**6
        assert list(api.watch(JOB, "x", version, 1)) == []
