"""A real Slurm on this machine: munged, slurmctld and a slurmd per node, all of one folder, no systemd."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

NODES = ("n1", "n2")
PATH = os.environ["PATH"] + ":/usr/sbin"  # where daemons are, which users' paths may lack
PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "squeue", "scontrol")
# Of Debian's packages slurmctld, slurmd, slurm-client and munge. A preempted job goes back into the
# queue, for as long as credentials last; a lost node is given up after ten seconds; arrays are short.
CONFIGURATION = """
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=10
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SlurmctldTimeout=10
SlurmdTimeout=10
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=20
MinJobAge=600
MaxArraySize={most}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=requeue_setup_env_fail,sched_interval=2,bf_interval=2
{nodes}
PartitionName=low Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=high Nodes=n1,n2 MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=2000"


class Cluster:
    """Two nodes of a core each, partitions low and high, of which the second preempts the first."""

    def __init__(self, folder: Path, most: int = 5) -> None:
        self.folder = folder
        for name in ("munge", "state", *NODES):
            (folder / name).mkdir(parents=True)
        key = folder / "munge" / "key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        host, ports = socket.gethostname().partition(".")[0], free_ports(1 + len(NODES))
        nodes = (
            NODE.format(name=n, host=host, port=p) for n, p in zip(NODES, ports[1:], strict=True)
        )
        self.configuration = folder / "slurm.conf"
        self.configuration.write_text(
            CONFIGURATION.format(
                host=host, ports=ports, folder=folder, most=most, nodes="\n".join(nodes)
            )
        )
        self.environment = os.environ | {"SLURM_CONF": str(self.configuration), "PATH": PATH}
        munge = folder / "munge"
        self.do(
            "munged", "--force", f"--key-file={key}", f"--socket={munge}/socket",
            f"--pid-file={folder}/munged.pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed",
        )  # fmt: skip
        self.do("slurmctld", "-f", str(self.configuration))
        for node in NODES:
            self.start(node)
        wait_for(lambda: self.nodes() == dict.fromkeys(NODES, "IDLE"), "two idle nodes")

    def do(self, *words: str) -> str:
        """What a command of Slurm prints."""
        program = shutil.which(words[0], path=PATH)
        done = subprocess.run(
            [program, *words[1:]], env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def start(self, node: str) -> None:
        self.do("slurmd", "-f", str(self.configuration), "-N", node)

    def lose(self, node: str) -> None:
        """All that runs there, at once."""
        daemon = int((self.folder / f"{node}.pid").read_text())
        os.kill(daemon, signal.SIGKILL)
        subprocess.run(["pkill", "-KILL", "-f", f"slurmstepd.*{node}"])

    def nodes(self) -> dict[str, str]:
        lines = self.do("sinfo", "--noheader", "--Node", "--format=%N %T", "--partition=low")
        return {name: state.upper() for name, state in map(str.split, lines.splitlines())}

    def tasks(self) -> dict[str, str]:
        """Id of each array's task → its state and its node, of those that Slurm remembers."""
        lines = self.do("squeue", "--states=all", "--array", "--noheader", "--format=%i %T %N")
        return {one: " ".join(rest) for one, *rest in map(str.split, lines.splitlines())}

    def stop(self) -> None:
        self.do("scancel", "--user=root")
        wait_for(lambda: not self.busy(), "an empty queue")
        for name in (*NODES, "slurmctld", "munged"):
            path = self.folder / f"{name}.pid"
            if path.exists():
                os.kill(int(path.read_text()), signal.SIGTERM)

    def busy(self) -> bool:
        return any(state.startswith(("RUNNING", "COMPLETING")) for state in self.tasks().values())


def why_not() -> str | None:
    """What this machine lacks for a cluster; None where there is all."""
    if os.geteuid() != 0:
        return "a Slurm of one's own is started by root"
    missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    return f"there is no {missing[0]}: apt-get install slurmctld slurmd munge" if missing else None


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on; held together, so that none comes twice."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_for(done: Callable[[], bool], what: str, most_s: float = 120) -> None:
    deadline = time.monotonic() + most_s
    while not done():
        assert time.monotonic() < deadline, f"waited {most_s:.0f} s for {what}"
        time.sleep(0.2)
