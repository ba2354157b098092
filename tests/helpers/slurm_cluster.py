"""A real SLURM cluster on one machine, gone without a trace when the test is: slurmctld, munge and one slurmd a node.

    with SlurmCluster(folder, nodes=3) as cluster:
        job = cluster.submit("job.sbatch")
        cluster.power_off("n2")

All of it lives in one *site*: namespaces (network, processes, mounts, hostname) whose first process dies with the test
process, killed or not, and takes everything inside along: daemons, jobs, nodes, bridge and mounts. Each node has
namespaces of its own inside: an address on the site's bridge, a hostname, /dev/shm, /tmp/ray, and processes under an
init that reaps. Killing that init is a power cut. Needs root, and the Debian packages of `PACKAGES`.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.helpers.places import ROOT

PACKAGES = "slurmctld slurmd slurm-client munge iproute2"
TOOLS = "slurmctld slurmd munged sbatch squeue scontrol srun ip unshare nsenter setpriv"
DISK_MB = 128
# Of clipmill's processes on the nodes: this checkout's code, and one thread each.
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "CLIPMILL_GRACE_S": "60"}
PYTHON = sys.executable
_PREFIX = "clipmill-slurm-"
_DAEMON_PATH = "/usr/sbin:/sbin:" + os.environ.get("PATH", "/usr/bin:/bin")

# Power cuts and preemption at the pace of a test: on a site these are minutes. The rest is what a site would have.
_CONF = """\
ClusterName=test
SlurmctldHost=login(10.77.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={base}/munge/socket
CredType=cred/munge
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool-%n
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd-%n.pid
SlurmctldLogFile={base}/slurmctld.log
SlurmdLogFile={base}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
MailProg=/bin/true
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
ReturnToService=2
SlurmdParameters=config_overrides
SlurmdTimeout=15
KillWait=10
InactiveLimit=0
MinJobAge=3600
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1
NodeName={nodes} CPUs=4 RealMemory=4000 Gres=gpu:2 State=UNKNOWN
PartitionName=low Nodes={nodes} Default=YES PriorityTier=1 GraceTime=20 MaxTime=1:00:00 State=UP
PartitionName=high Nodes={nodes} PriorityTier=2 PreemptMode=OFF MaxTime=1:00:00 State=UP
"""

_SITE = """
mount --make-rprivate / && hostname login
ip link set lo up
ip link add site type bridge && ip addr add 10.77.0.1/24 dev site && ip link set site up
mount --bind {base}/hosts /etc/hosts
munged --key-file {base}/munge/key --socket {base}/munge/socket --pid-file {base}/munge/pid \
  --log-file {base}/munge/log --seed-file {base}/munge/seed --force --num-threads 2 2>{base}/munge/err
slurmctld -D -c >{base}/slurmctld.out 2>&1 &
touch {base}/site.up
sleep infinity & while :; do wait; done
"""

_NODE = """
mount --make-rprivate / && hostname {name}
mount -t tmpfs -o size=2g tmpfs /dev/shm && mount -t tmpfs -o size=256m tmpfs /tmp/ray
ip link set lo up
touch {base}/{name}.up
until ip addr add {address}/24 dev eth0 2>/dev/null; do sleep 0.02; done
ip link set eth0 up
slurmd -D -N {name} >{base}/slurmd-{name}.out 2>&1 &
sleep infinity & while :; do wait; done
"""


def missing() -> str:
    """Why no cluster can be made here, "" where one can."""
    if os.geteuid() != 0:
        return "a SLURM cluster in namespaces needs root"
    gone = [tool for tool in TOOLS.split() if shutil.which(tool, path=_DAEMON_PATH) is None]
    if gone:
        return f"no {', '.join(gone)}; on Debian: apt-get install {PACKAGES}"
    tried = subprocess.run(["unshare", "--net", "--pid", "--mount", "--uts", "--fork", "true"], capture_output=True)
    return "" if tried.returncode == 0 else f"no namespaces: {tried.stderr.decode().strip()}"


class SlurmCluster:
    """`nodes` nodes n1, n2, ... of 4 cores and 2 GPUs by name (there is nothing behind them), and the host `login`,
    where commands run. Partition `low` is preempted, with 20 s of grace, by partition `high`.

    All files of this machine are seen by every node, but /dev/shm and /tmp/ray. `disk`: a small file system that all
    of them share, to be filled up.
    """

    def __init__(self, nodes: int = 2) -> None:
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self.base = Path(f"/tmp/{_PREFIX}{os.getpid()}")
        self.disk = self.base / "disk"
        self._site = 0
        self._started: list[subprocess.Popen] = []
        self._inits: dict[str, int] = {}

    def __enter__(self) -> "SlurmCluster":
        _remove_stale()
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *ignored: object) -> None:
        if self._site:
            _kill(self._site)
        for process in self._started:
            process.kill()
            process.wait()
        _remove(self.base)

    # ---- what a test does to it

    def power_off(self, node: str) -> None:
        """At once, and without a word to anybody: the cable first, so that no peer hears of a closed connection."""
        self._in_site("ip", "link", "delete", f"to-{node}")
        _kill(self._inits.pop(node))

    def boot(self, node: str) -> None:
        address = f"10.77.0.{10 + self.nodes.index(node)}"
        (self.base / f"{node}.up").unlink(missing_ok=True)
        script = _NODE.format(base=self.base, name=node, address=address)
        namespaces = ["unshare", "--net", "--pid", "--mount", "--uts", "--fork", "--kill-child", "--mount-proc"]
        enter = ["nsenter", "-t", str(self._site), "-n", "-m", "-u", "-p"]
        process = self._daemon([*enter, *namespaces, "bash", "-c", script], node)
        _until(lambda: (self.base / f"{node}.up").exists(), f"node {node}", process)
        init = _child(_child(process.pid))  # nsenter -> unshare -> the node's first process
        self._inits[node] = init
        # Process ids are those of this namespace: only the network is entered.
        link = ["ip", "link", "add", f"to-{node}", "type", "veth", "peer", "name", "eth0", "netns", str(init)]
        self._in_site(*link)
        self._in_site("ip", "link", "set", f"to-{node}", "master", "site", "up")

    def processes(self, node: str, word: str) -> list[int]:
        """Ids, as this machine's kill takes them, of the node's processes with `word` in their command line."""
        found = []
        for pid in _tree(self._inits[node]):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if word.encode() in words:
                found.append(pid)
        return found

    def run(self, *command: str, node: str = "", check: bool = True, cwd: Path | None = None, **variables: str) -> str:
        """What a command printed on the login host, or on a node."""
        target = self._inits[node] if node else self._site
        enter = ["nsenter", "-t", str(target), "-n", "-m", "-u", "-p"]
        done = subprocess.run(
            [*enter, "env", "-C", str(cwd or "/"), *command],
            env={**self._environment(), **variables}, capture_output=True, text=True,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout + ("" if check else done.stderr)

    def submit(self, *words: str, cwd: Path | None = None, **environment: str) -> int:
        """The id of the job that `sbatch WORDS` made."""
        return int(self.run("sbatch", "--parsable", *words, cwd=cwd, **environment).split(";")[0])

    def job(self, job: int | str) -> dict[str, str]:
        """`scontrol show job` as a dictionary: JobState, Reason, Restarts, NodeList, ..."""
        text = self.run("scontrol", "-o", "show", "job", str(job))
        return dict(re.findall(r"(\w[\w/:-]*)=(\S*)", text))

    def state(self, job: int) -> str:
        return self.job(job)["JobState"]

    def wait(self, job: int, *states: str, limit_s: float = 120.0, hurry: bool = True) -> dict[str, str]:
        """Until the job is in one of `states` (by default: over).

        A job that SLURM requeues may not start for 120 s; that wait is skipped, unless `hurry` is false.
        """
        wanted = states or ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "DEADLINE")
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            now = self.job(job)
            if now["JobState"] in wanted:
                return now
            if hurry:
                self.hurry()
            time.sleep(0.3)
        raise AssertionError(f"job {job} is not {'|'.join(wanted)} after {limit_s} s but {now}\n{self.words()}")

    def hurry(self) -> None:
        """What was requeued may start now, not in 120 s."""
        waiting = self.run("squeue", "--noheader", "--states=PENDING", "--format=%i %r").splitlines()
        for job, reason in (line.split(maxsplit=1) for line in waiting):
            if reason == "BeginTime":
                self.run("scontrol", "update", f"jobid={job}", "StartTime=now", check=False)

    def settle(self, limit_s: float = 90.0) -> None:
        """Ends all jobs and brings back every node; returns when all are idle."""
        self.run("scancel", "--signal=KILL", "--full", "--state=RUNNING", "--user=root", check=False)
        self.run("scancel", "--user=root", check=False)
        for node in self.nodes:
            if node not in self._inits:
                self.boot(node)
        _until(self._all_idle, f"{len(self.nodes)} idle nodes", self._started[0], self.words, limit_s)

    def until(self, true: Callable[[], object], what: str, limit_s: float = 120.0) -> None:
        _until(true, what, self._started[0], self.words, limit_s)

    def words(self) -> str:
        """The last lines of the daemons' logs, for a failure's message."""
        return "\n".join(f"{path.name}:\n" + "\n".join(path.read_text().splitlines()[-30:]) for path in self._logs())

    # ---- how it is made

    def _start(self) -> None:
        self.disk.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(self.disk)], check=True)
        for folder in ("munge", "state", *(f"spool-{node}" for node in self.nodes)):
            (self.base / folder).mkdir(parents=True)
        Path("/tmp/ray").mkdir(exist_ok=True)  # a place to mount each node's own
        key = self.base / "munge/key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        (self.base / "munge").chmod(0o755)
        nodes = f"n[1-{len(self.nodes)}]"
        (self.base / "slurm.conf").write_text(_CONF.format(base=self.base, nodes=nodes))
        for gpu in ("gpu0", "gpu1"):
            (self.base / gpu).touch()
        (self.base / "gres.conf").write_text(f"Name=gpu File={self.base}/gpu[0-1]\n")
        hosts = ["127.0.0.1 localhost", "10.77.0.1 login"]
        hosts += [f"10.77.0.{10 + number} {node}" for number, node in enumerate(self.nodes)]
        (self.base / "hosts").write_text("\n".join(hosts) + "\n")
        namespaces = ["unshare", "--net", "--pid", "--mount", "--uts", "--fork", "--kill-child", "--mount-proc"]
        site = self._daemon([*namespaces, "bash", "-c", _SITE.format(base=self.base)], "site")
        _until(lambda: (self.base / "site.up").exists(), "the site", site)
        self._site = _child(site.pid)
        for node in self.nodes:
            self.boot(node)
        _until(self._all_idle, f"{len(self.nodes)} idle nodes", site, self.words)

    def _all_idle(self) -> bool:
        words = self.run("sinfo", "-h", "-N", "-p", "low", "-o", "%T", check=False).split()
        return words == ["idle"] * len(self.nodes)

    def _daemon(self, command: list[str], name: str) -> subprocess.Popen:
        """Dies with this process, also when that is killed."""
        with open(self.base / f"{name}.out", "wb") as out:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                env=self._environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        self._started.append(process)
        return process

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        return {**kept, "PATH": _DAEMON_PATH, "SLURM_CONF": str(self.base / "slurm.conf")}

    def _in_site(self, *command: str) -> None:
        subprocess.run(["nsenter", "-t", str(self._site), "-n", *command], env=self._environment(), check=True)

    def _logs(self) -> Iterator[Path]:
        yield from sorted([*self.base.glob("*.log"), *self.base.glob("*.out"), *self.base.glob("munge/err")])


def _remove_stale() -> None:
    """What test processes that were killed have left: a folder, and the disk in it. All else went with them."""
    for folder in Path("/tmp").glob(f"{_PREFIX}*"):
        number = folder.name.removeprefix(_PREFIX)
        if number.isdigit() and (int(number) == os.getpid() or not Path(f"/proc/{number}").exists()):
            _remove(folder)


def _remove(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder / "disk")], stderr=subprocess.DEVNULL)
    shutil.rmtree(folder, ignore_errors=True)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _child(pid: int) -> int:
    return _children(pid)[0]


def _tree(pid: int) -> list[int]:
    """The process and all below it."""
    return [pid, *(below for child in _children(pid) for below in _tree(child))]


def _until(
    true: Callable[[], object],
    what: str,
    process: subprocess.Popen,
    words: Callable[[], str] = str,
    limit_s: float = 60.0,
) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"no {what} within {limit_s} s; exit status {process.poll()}\n{words()}")
        time.sleep(0.05)
