"""A stage that does what the test's file of words says: stands in for `clipmill train RUN_YAML` behind the wrapper.

beat N       a heartbeat with N steps done
saved N      as a rank 0 that has committed a checkpoint of N steps
commit FILE  as a task of a curation that has done a unit of work
stopped      the state of a run that has saved and stopped
wait         until it is told to stop
meet FILE    until the file is there
sleep S      whatever it is told
say TEXT     on standard error
orphan FILE  a grandchild that ignores SIGTERM and outlives its parent; its process id in FILE
exit N
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pipeline.cluster.rundir.feed import feed_of
from pipeline.signals import StopSignals

_ORPHAN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"


def main(stage: str) -> int:
    feed = feed_of(stage)
    words = Path(os.environ["FAKE_STAGE"]).read_text().splitlines()
    with StopSignals() as stop:
        for line in words:
            verb, _, rest = line.partition(" ")
            if verb == "beat":
                feed.beat(int(rest))
            elif verb == "saved":
                feed.tell(step=int(rest), checkpoint=f"step-{int(rest):08d}")
            elif verb == "commit":
                Path(rest).parent.mkdir(parents=True, exist_ok=True)
                Path(rest).write_text("{}")
            elif verb == "stopped":
                feed.tell(status="stopped", message="stopped as asked")
            elif verb == "wait":
                while not stop.received:
                    time.sleep(0.02)
            elif verb == "meet":
                while not Path(rest).exists():
                    time.sleep(0.02)
            elif verb == "sleep":
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
                time.sleep(float(rest))
            elif verb == "say":
                print(rest, file=sys.stderr, flush=True)
            elif verb == "orphan":
                child = f"import subprocess as s, sys; words = [sys.executable, '-c', {_ORPHAN!r}]; "
                child += "print(s.Popen(words, stdout=s.DEVNULL).pid)"
                done = subprocess.run([sys.executable, "-c", child], stdout=subprocess.PIPE, text=True, check=True)
                Path(rest).write_text(done.stdout)
            elif verb == "exit":
                return int(rest)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
