"""A SLURM cluster of this machine alone: own daemons, ports, keys and files; as root, without systemd.

The program of this file starts the daemons, says that the cluster is ready, and waits until its standard input ends:
the process that uses the cluster holds the other side, so however that one dies, daemons and jobs are killed and the
folder is removed. Arguments: the folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
INSTALL = "apt-get install slurm-wlm munge"
NODES = ("127.0.0.1", "127.0.0.2")
"""Two nodes on one machine; the names are addresses, so that nothing need be looked up."""
_CPUS, _MEMORY_MB = 8, 4000
_PATIENCE = 60.0
_CONFIG = """
ClusterName=ev2
SlurmctldHost=localhost
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=2
MinJobAge=86400
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=1
NodeName=127.0.0.[1-2] NodeHostname=localhost Port=[{first_port}-{last_port}] CPUs={cpus} RealMemory={memory}
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2
"""


def missing_commands() -> list[str]:
    """What a cluster needs and is not installed here."""
    return [command for command in COMMANDS if shutil.which(command, path=_search_path()) is None]


def _search_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


class SlurmCluster:
    """A running cluster.

    Attributes:
        environment: What processes that speak to it need.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ev2-slurm-"))  # short: the path of a socket must be
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self._program = subprocess.Popen(
            [sys.executable, __file__, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C at the terminal must not end the daemons before their jobs
        )
        assert self._program.stdout is not None
        said = self._program.stdout.readline()
        if said != "ready\n":
            self.stop()
            raise RuntimeError(f"the cluster did not start: {said}")

    def stop(self) -> None:
        """Kill all jobs and daemons and remove their files."""
        self._program.communicate(timeout=_PATIENCE)

    def run(self, *command: str) -> str:
        """Run a command of SLURM; return what it prints."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout.strip()

    def job(self, number: str) -> dict[str, str]:
        """What SLURM knows of a job, for example `JobState` and `Restarts`."""
        words = self.run("scontrol", "--oneliner", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def state(self, number: str) -> str:
        """Return the state of a job."""
        return self.job(number)["JobState"]

    def processes_of(self, number: str) -> dict[int, str]:
        """Processes of a job's ranks, without its batch script and srun, with their commands."""
        marks = (f"SLURM_JOB_ID={number}\0", f"SLURM_CONF={self.folder}/slurm.conf\0", "SLURM_STEP_ID=")
        found = _processes(lambda environment: all(mark.encode() in environment for mark in marks))
        commands = {one: _read(one, "cmdline").replace(b"\0", b" ").decode() for one in found}
        return {one: command for one, command in commands.items() if "submitit.core._submit" in command}


def _read(process: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{process}/{name}").read_bytes()
    except OSError:  # it has ended
        return b""


def _processes(belongs: Callable[[bytes], bool]) -> list[int]:
    """Processes by their environment."""
    numbers = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [one for one in numbers if one != os.getpid() and belongs(_read(one, "environ") + b"\0")]


def _free_ports(count: int) -> list[int]:
    """Free ports one after the other, below those that the system gives out by itself."""
    start = 30000 + os.getpid() % 2000
    for first in range(start, start + 700):
        sockets = [socket.socket() for _ in range(count)]
        try:
            for offset, one in enumerate(sockets):
                one.bind(("", first + offset))
            return [first + offset for offset in range(count)]
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
    raise RuntimeError("no free ports")


def _write_files(folder: Path) -> None:
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(1024))
    for name in ("state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir()
    controller, first, last = _free_ports(3)
    values = {"folder": folder, "controller_port": controller, "first_port": first, "last_port": last}
    (folder / "slurm.conf").write_text(_CONFIG.format(**values, cpus=_CPUS, memory=_MEMORY_MB).lstrip())


def _daemons(folder: Path) -> list[list[str]]:
    munge = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log"}
    files = [f"--{option}={folder / name}" for option, name in {**munge, "seed-file": "munge.seed"}.items()]
    return [
        ["munged", "--foreground", "--force", *files],
        ["slurmctld", "-D", "-c"],
        *(["slurmd", "-D", "-N", node] for node in NODES),
    ]


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {_PATIENCE:.0f} s for {what}")
        time.sleep(0.1)


def _start(folder: Path) -> None:
    environment = {**os.environ, "PATH": _search_path(), "SLURM_CONF": str(folder / "slurm.conf")}
    with (folder / "daemons.log").open("wb") as log:
        for command in _daemons(folder):
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
            if command[0] == "munged":
                _until((folder / "munge.socket").exists, "munged")

    def idle() -> bool:
        shown = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--partition=cpu", "--format=%T"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return shown.stdout.split() == ["idle"] * len(NODES)

    _until(idle, "the nodes")


def _kill_all(folder: Path) -> None:
    """Kill what has this cluster in its environment, until nothing is left."""
    mark = f"SLURM_CONF={folder}/slurm.conf\0".encode()
    deadline = time.monotonic() + _PATIENCE
    while (left := _processes(lambda environment: mark in environment)) and time.monotonic() < deadline:
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.1)


def main() -> None:
    """Start a cluster; end it when the standard input ends."""
    folder = Path(sys.argv[1])
    try:
        _write_files(folder)
        _start(folder)
        print("ready", flush=True)
        sys.stdin.read()
    except Exception as error:  # whatever it is, it is said to the process that waits for the cluster
        logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in folder.glob("*.log"))
        print(f"{error} {logs}".replace("\n", " | "), flush=True)
    finally:
        _kill_all(folder)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
