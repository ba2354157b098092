"""Pods without Kubernetes: the rendered JobSet or Indexed Job is run as namespaces on this machine, by the rules in it.

    with PodSim(folder, objects) as sim:
        with sim.running(live_object) as result: ...       # a thread plays the controllers
            sim.pod(1).kill()

A pod has its own network (an address of its own, a new one each time), hostname, /etc/hosts with the names that a
headless service would give, /dev/shm of its size limit, and processes, of which its command is number 1: entrypoint of
the Dockerfile, arguments and variables from the object, nothing else. What a Job does about a pod that ended (rules of
podFailurePolicy in order, backoffLimit), what a JobSet does about a Job that failed (rules by reason and message, max
restarts, BlockingRecreate or Recreate), SIGTERM and SIGKILL after the grace period: as their documentation says.
Not here: images, users, limits of CPU and memory, probes by themselves, mounts but /dev/shm. Needs root.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.helpers.places import ROOT

Object = dict[str, Any]
_SITE = "ip link set lo up && ip link add site type bridge && ip link set site up && echo up && exec sleep infinity"
_POD = """\
mount --make-rprivate / && hostname "$POD_HOST" && mount --bind "$POD_HOSTS" /etc/hosts
mount -t tmpfs -o size="$POD_SHM" tmpfs /dev/shm && ip link set lo up
until ip addr add "$POD_IP/16" dev eth0 2>/dev/null; do sleep 0.02; done
ip link set eth0 up
unset POD_HOST POD_HOSTS POD_SHM POD_IP
exec "$@"
"""


def missing() -> str:
    """Why there can be no pods here, "" where there can."""
    if os.geteuid() != 0:
        return "pods in namespaces need root"
    gone = [tool for tool in ("ip", "unshare", "nsenter", "mount", "hostname") if shutil.which(tool) is None]
    if gone:
        return f"no {', '.join(gone)}; on Debian: apt-get install iproute2 util-linux hostname"
    tried = subprocess.run(["unshare", "--net", "--pid", "--mount", "--uts", "--fork", "true"], capture_output=True)
    return "" if tried.returncode == 0 else f"no namespaces: {tried.stderr.decode().strip()}"


@dataclass
class Pod:
    """disrupted: it has the condition DisruptionTarget. lost: its node is not heard of; it lives on, unreachable by
    the controllers."""

    name: str
    index: int
    address: str
    grace_s: float
    container: str
    process: subprocess.Popen
    init: int
    log: Path
    disrupted: bool = False
    lost: bool = False
    told: float = 0.0
    killed: bool = False

    def exit_code(self) -> int | None:
        """As kubelet reports it: 128 and the signal. unshare cannot pass a SIGKILL of its child on, and ends with 1."""
        code = self.process.poll()
        return None if code is None else 137 if self.killed else 128 - code if code < 0 else code

    def kill(self) -> None:
        """The process dies, as by the kernel for want of memory."""
        if self.exit_code() is None:
            self.killed = self._sent(signal.SIGKILL)

    def evict(self) -> None:
        self.disrupted = True
        self.terminate()

    def terminate(self) -> None:
        if self.exit_code() is None and not self.told:
            self.told = time.monotonic()
            self._sent(signal.SIGTERM)

    def _sent(self, number: int) -> bool:
        """Whether its first process was there to hear it; it may have just ended."""
        try:
            os.kill(self.init, number)
        except ProcessLookupError:
            return False
        return True

    def after_grace(self) -> None:
        if self.told and self.exit_code() is None and time.monotonic() - self.told > self.grace_s:
            self.kill()

    def freeze(self) -> None:
        """Every process of it stops where it is, as on a node that hangs; `thaw` lets them go on."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: int) -> None:
        mine = os.readlink(f"/proc/{self.init}/ns/pid")
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(path / "ns/pid") == mine:
                    os.kill(int(path.name), number)
            except OSError:  # gone meanwhile
                continue

    def run(self, *words: str) -> subprocess.CompletedProcess:
        """Another process in the pod, as `kubectl exec` starts one."""
        enter = ["nsenter", "-t", str(self.init), "--net", "--uts", "--mount", "--pid"]
        return subprocess.run([*enter, *words], capture_output=True, text=True)


@dataclass
class Result:
    """state: running, completed or failed. generations: names of pods and their exit codes, one dict each."""

    state: str = "running"
    reason: str = ""
    message: str = ""
    restarts: int = 0
    counted: int = 0
    generations: list[dict[int, int | None]] = field(default_factory=list)
    error: BaseException | None = None


class PodSim:
    """objects: all that was rendered, for the ConfigMaps. variables: what the image sets, in place of a Dockerfile's
    ENV."""

    def __init__(self, folder: Path, objects: list[Object], **variables: str) -> None:
        self.folder, self.variables = folder, variables
        self.maps = {each["metadata"]["name"]: each["data"] for each in objects if each["kind"] == "ConfigMap"}
        self.pods: list[Pod] = []
        self._all: list[Pod] = []
        self._hosts: dict[str, str] = {}
        self._stop = threading.Event()
        entry = re.findall(r"^ENTRYPOINT (.+)$", (ROOT / "k8s/Dockerfile").read_text(), re.M)[-1]
        self.entrypoint: list[str] = yaml.safe_load(entry)

    def __enter__(self) -> "PodSim":
        self.folder.mkdir(parents=True, exist_ok=True)
        self.hosts = self.folder / "hosts"
        self.hosts.write_text("127.0.0.1 localhost\n")
        (self.folder / "bin").mkdir()
        (self.folder / "bin/clipmill").write_text(f'#!/bin/sh\nexec {sys.executable} -m pipeline.cli "$@"\n')
        (self.folder / "bin/clipmill").chmod(0o755)
        self._site = subprocess.Popen(["unshare", "--net", "sh", "-c", _SITE], stdout=subprocess.PIPE, text=True)
        assert self._site.stdout is not None and self._site.stdout.readline() == "up\n"
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for pod in self._all:
            if pod.exit_code() is None:
                pod.kill()
                pod.process.wait()
        self._site.kill()
        self._site.communicate()

    def pod(self, index: int) -> Pod:
        return next(pod for pod in self.pods if pod.index == index)

    def wait_for(self, true: Any, limit_s: float = 240.0) -> None:
        deadline = time.monotonic() + limit_s
        while not true():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def said(self) -> str:
        return "\n".join(f"--- {pod.name} {pod.exit_code()}\n{pod.log.read_text()[-3000:]}" for pod in self._all)

    # What a container is given

    def start(self, name: str, template: Object, index: int, labels: dict[str, str]) -> Pod:
        """A pod of an Indexed Job. Its hostname is the Job's name and its index, whatever suffix its own name has."""
        (container,) = template["spec"]["containers"]
        job = labels["batch.kubernetes.io/job-name"]
        hostname, address = f"{job}-{index}", f"10.78.{len(self._all) // 250}.{len(self._all) % 250 + 2}"
        about = {
            "name": name, "uid": str(uuid.uuid4()), "labels": {**template["metadata"].get("labels", {}), **labels},
            "annotations": template["metadata"].get("annotations", {}),
        }  # fmt: skip
        environment, shared = self._environment(container, about)
        environment["JOB_COMPLETION_INDEX"] = str(index)
        words = [*container.get("command", self.entrypoint), *container.get("args", [])]
        words = [_expanded(word, {**shared, **environment}) for word in words]
        subdomain = template["spec"].get("subdomain") or labels.get("jobset.sigs.k8s.io/jobset-name", "")
        self._hosts[hostname] = f"{address} {hostname} {hostname}.{subdomain}"
        self.hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{line}\n" for line in self._hosts.values()))
        plumbing = {"POD_HOST": hostname, "POD_HOSTS": str(self.hosts), "POD_IP": address, "POD_SHM": _shm(template)}
        image = {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": "/tmp"}
        log = self.folder / f"{name}.log"
        apart = ["--net", "--uts", "--mount", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with open(log, "wb") as output:
            process = subprocess.Popen(
                ["unshare", *apart, "sh", "-ec", _POD, "sh", *words], cwd="/tmp", stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, env={**image, **self.variables, **shared, **environment, **plumbing},
            )  # fmt: skip
        init = self._plugged(process, len(self._all))
        grace = float(template["spec"].get("terminationGracePeriodSeconds", 30))
        pod = Pod(name, index, address, grace, container["name"], process, init, log)
        self.pods.append(pod)
        self._all.append(pod)
        return pod

    def _plugged(self, process: subprocess.Popen, number: int) -> int:
        """Gives a pod its cable; returns the process that is its number 1."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        self.wait_for(lambda: children.read_text().split(), 20)
        init = int(children.read_text().split()[0])
        enter = ["nsenter", "-t", str(self._site.pid), "--net", "ip", "link"]
        cable = ["add", f"pod{number}", "type", "veth", "peer", "name", "eth0", "netns", str(init)]
        subprocess.run([*enter, *cable], check=True)
        subprocess.run([*enter, "set", f"pod{number}", "master", "site", "up"], check=True)
        return init

    def _environment(self, container: Object, about: Object) -> tuple[dict[str, str], dict[str, str]]:
        shared: dict[str, str] = {}
        for source in container.get("envFrom", []):
            if "configMapRef" in source:
                shared |= self.maps[source["configMapRef"]["name"]]
            else:
                assert source["secretRef"]["optional"]
        own: dict[str, str] = {}
        for each in container.get("env", []):
            if "valueFrom" in each:
                own[each["name"]] = _field(each["valueFrom"]["fieldRef"]["fieldPath"], about)
            else:
                own[each["name"]] = _expanded(each["value"], own)
        return own, shared

    # What the controllers do

    @contextmanager
    def running(self, live: Object, limit_s: float = 400.0) -> Iterator[Result]:
        """A JobSet or Job runs while the caller does things to its pods; ended and complete or failed afterwards."""
        result = Result()
        self._stop.clear()
        work = self._run_set if live["kind"] == "JobSet" else self._run_job_object

        def play() -> None:
            try:
                work(live, result)
            except BaseException as error:
                result.error = error

        thread = threading.Thread(target=play, daemon=True)
        thread.start()
        try:
            yield result
            thread.join(limit_s)
            assert not thread.is_alive(), f"still {result} after {limit_s} s\n{self.said()}"
        finally:
            self._stop.set()
        if result.error is not None:
            raise result.error

    def _run_job_object(self, job: Object, result: Result) -> None:
        reason, message = self.run_job(job["metadata"]["name"], job["spec"], {}, result)
        result.state, result.reason, result.message = "failed" if reason else "completed", reason, message

    def _run_set(self, jobset: Object, result: Result) -> None:
        """One replicated job of one Job, as ours are."""
        assert jobset["spec"]["suspend"] is False and "managedBy" not in jobset["spec"]
        (group,) = jobset["spec"]["replicatedJobs"]
        name, policy, uid = jobset["metadata"]["name"], jobset["spec"]["failurePolicy"], str(uuid.uuid4())
        while not self._stop.is_set():
            labels = {
                "jobset.sigs.k8s.io/jobset-name": name, "jobset.sigs.k8s.io/jobset-uid": uid,
                "jobset.sigs.k8s.io/restart-attempt": str(result.restarts),
            }  # fmt: skip
            waits = policy["restartStrategy"] == "BlockingRecreate"
            reason, message = self.run_job(
                f"{name}-{group['name']}-0", group["template"]["spec"], labels, result, waits
            )
            if not reason:
                result.state = "completed"
                return
            action = _action(policy, reason, message)
            result.counted += action == "RestartJobSet"
            if action == "FailJobSet" or result.counted > policy["maxRestarts"]:
                result.state, result.reason, result.message = "failed", reason, message
                return
            result.restarts += 1

    def run_job(
        self, name: str, spec: Object, labels: dict[str, str], result: Result, waits: bool = True
    ) -> tuple[str, str]:
        """("", "") when all indices ended with 0, else reason and message of the Job's failure. `waits`: until every
        pod has ended; a lost one is not waited for, as when its node is taken out of service."""
        labels = {
            **labels,
            "batch.kubernetes.io/job-name": name,
            "batch.kubernetes.io/controller-uid": str(uuid.uuid4()),
        }
        self.pods = []
        ended: dict[int, int | None] = {}
        result.generations.append(ended)
        failures, failed = 0, ("", "")
        for index in range(spec["completions"]):
            self.start(f"{name}-{index}-{uuid.uuid4().hex[:5]}", spec["template"], index, labels)
        while not self._stop.is_set():
            for pod in list(self.pods):
                pod.after_grace()
                code = pod.exit_code()
                if pod.lost and not failed[0]:
                    failed = _judged(spec, pod, None) or failed
                if code is None or (pod.index in ended and ended[pod.index] == code):
                    continue
                ended[pod.index] = code
                if code and not failed[0]:
                    verdict = _judged(spec, pod, code)
                    failures += verdict is None
                    failed = verdict or failed
                    if failures > spec["backoffLimit"]:
                        failed = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
            if failed[0]:
                for pod in self.pods:
                    if not pod.lost:
                        pod.terminate()
                if not waits or all(pod.lost or pod.exit_code() is not None for pod in self.pods):
                    ended |= {pod.index: pod.exit_code() for pod in self.pods}
                    return failed
            elif len(ended) == spec["completions"] and not any(ended.values()):
                return "", ""
            time.sleep(0.05)
        return "Stopped", "the test is over"


def _judged(spec: Object, pod: Pod, code: int | None) -> tuple[str, str] | None:
    """Reason and message by the first rule of the pod failure policy that matches; None where none does."""
    for number, rule in enumerate(spec["podFailurePolicy"]["rules"]):
        said = ""
        if "onExitCodes" in rule:
            on = rule["onExitCodes"]
            if code and on["containerName"] == pod.container and (code in on["values"]) == (on["operator"] == "In"):
                said = f"Container {pod.container} for pod ns/{pod.name} failed with exit code {code}"
        elif pod.disrupted and any(each["type"] == "DisruptionTarget" for each in rule["onPodConditions"]):
            said = f"Pod ns/{pod.name} has condition DisruptionTarget"
        if said:
            assert rule["action"] == "FailJob", "others are not played here"
            return "PodFailurePolicy", f"{said} matching FailJob rule at index {number}"
    return None


def _action(policy: Object, reason: str, message: str) -> str:
    for rule in policy["rules"]:
        reasons, patterns = rule.get("onJobFailureReasons", []), rule.get("onJobFailureMessagePatterns", [])
        if (not reasons or reason in reasons) and (not patterns or any(re.search(each, message) for each in patterns)):
            return rule["action"]
    return "RestartJobSet"


def _expanded(text: str, known: dict[str, str]) -> str:
    return re.sub(r"\$\((\w+)\)", lambda match: known.get(match[1], match[0]), text)


def _field(path: str, about: Object) -> str:
    match = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    if match:
        return about[match[1]].get(match[2], "")
    return {"metadata.name": about["name"], "metadata.uid": about["uid"], "spec.nodeName": f"node-of-{about['name']}"}[
        path
    ]


def _shm(template: Object) -> str:
    (found,) = [each for each in template["spec"]["volumes"] if each["name"] == "shm"]
    return found["emptyDir"]["sizeLimit"].replace("Gi", "g").replace("Mi", "m")
