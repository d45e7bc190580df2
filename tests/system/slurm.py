"""A Slurm cluster on loopback, of Debian's slurm-wlm and munge: munged, slurmctld and a slurmd a node, all of them in one directory and
ended with it. For tests, and for scripts/cluster.

`slurmd -N NAME` makes several nodes of one machine; each has its port, spool directory and log. Jobs have a cgroup of their own
(proctrack/cgroup), as docs/cluster.md asks for."""
import json
import os
import pathlib
import secrets
import select
import shutil
import signal
import socket
import subprocess
import time

PROGRAMS = {"munged": "/usr/sbin/munged", "slurmctld": "/usr/sbin/slurmctld", "slurmd": "/usr/sbin/slurmd", "slurmdbd": "/usr/sbin/slurmdbd", "mariadbd": "/usr/sbin/mariadbd"}

CONF = """\
ClusterName={name}
SlurmctldHost=localhost({address})
SlurmctldPort={ctld}
SlurmctldPidFile={dir}/slurmctld.pid
SlurmdPidFile={dir}/slurmd-%n.pid
SlurmctldLogFile={dir}/slurmctld.log
SlurmdLogFile={dir}/slurmd-%n.log
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool-%n
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={dir}/munge.sock
CredType=cred/munge
ProctrackType={proctrack}
TaskPlugin={task}
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,defer_batch=0
SchedulerTimeSlice=5
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
SlurmctldTimeout=10
SlurmdTimeout={slurmd_timeout}
BatchStartTimeout=10
MessageTimeout=5
TCPTimeout=2
KillWait=5
UnkillableStepTimeout=20
MinJobAge={min_job_age}
InactiveLimit=0
Waittime=0
ReturnToService=2
MpiDefault=none
SlurmdParameters=config_overrides
LaunchParameters=disable_send_gids
AccountingStorageType=accounting_storage/{accounting}
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
SlurmctldDebug=info
SlurmdDebug=info
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=off
PartitionName=low Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=CANCEL
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10
PartitionName=short Nodes=ALL MaxTime=1 State=UP OverTimeLimit=0
"""

CGROUP_CONF = """\
CgroupMountpoint=/sys/fs/cgroup
CgroupAutomount=no
ConstrainRAMSpace={ram}
ConstrainCores=no
ConstrainSwapSpace=no
ConstrainDevices=no
"""


DBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={dir}/munge.sock
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={dbd}
SlurmUser=root
LogFile={dir}/slurmdbd.log
PidFile={dir}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={sql}
StorageUser=root
StorageLoc=slurm_acct
"""


def missing(accounting=False):
    """Why Slurm cannot run here; None: it can."""
    for name in ("munged", "slurmctld", "slurmd", *(("slurmdbd", "mariadbd") if accounting else ())):
        if not pathlib.Path(PROGRAMS[name]).exists():
            return f"no {name} here (scripts/setup --asan installs slurm-wlm, munge, slurmdbd and mariadb-server)"
    if os.geteuid() != 0:
        return "slurmd is for root"
    if not (pathlib.Path("/sys/fs/cgroup/freezer").is_dir() and os.access("/sys/fs/cgroup/freezer", os.W_OK)):
        return "Slurm's proctrack/cgroup needs cgroup v1 hierarchies, or v2 and systemd"
    return None


def free_ports(n):
    held = [socket.socket() for _ in range(n)]
    for s in held:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


def connects(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def wait_for(what, condition, seconds=30):
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        select.select([], [], [], 0.05)


class Wire:
    """A network namespace at the end of a cable (veth), which can be cut and mended. It is held by a process, so that it goes with it."""

    def __init__(self):
        number = os.getpid() % 16384  # other tests have theirs
        self.here, self.there = (f"10.213.{number // 64}.{number % 64 * 4 + i}" for i in (1, 2))
        self.name = f"sbdp{os.getpid()}"
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        wait_for("the namespace", lambda: os.readlink(f"/proc/{self.holder.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
        self.inside = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]
        self.ip("link", "add", self.name, "type", "veth", "peer", "name", f"{self.name}b", "netns", str(self.holder.pid))
        self.ip("addr", "add", f"{self.here}/30", "dev", self.name)
        self.ip("link", "set", self.name, "up")
        for args in (("addr", "add", f"{self.there}/30", "dev", f"{self.name}b"), ("link", "set", f"{self.name}b", "up"), ("link", "set", "lo", "up")):
            subprocess.run([*self.inside, "ip", *args], check=True)

    @staticmethod
    def ip(*args):
        subprocess.run(["ip", *args], check=True)

    def cut(self):
        self.ip("link", "set", self.name, "down")

    def mend(self):
        self.ip("link", "set", self.name, "up")

    def close(self):
        subprocess.run(["ip", "link", "del", self.name], check=False)
        self.holder.kill()
        self.holder.wait()


class Cluster:
    """Its directory has everything: configuration, sockets, logs, and the pids in cluster.json, by which another process takes it up."""

    def __init__(self, directory, nodes=2, cpus=4, slurmd_timeout=4, min_job_age=300, memory=4000, wire=False, accounting=False):
        self.dir = pathlib.Path(directory)
        self.names = [f"n{os.getpid()}-{i + 1}" for i in range(nodes)]  # cgroups of jobs carry them: other clusters may be on this host
        self.pids = {}
        self.wire = Wire() if wire else None  # the first node is at the other end of it
        self.accounting = accounting  # with a slurmdbd, and a MariaDB for it
        self.cpus, self.memory, self.slurmd_timeout, self.min_job_age = cpus, memory, slurmd_timeout, min_job_age

    @property
    def conf(self):
        return self.dir / "slurm.conf"

    @property
    def env(self):
        return {"SLURM_CONF": str(self.conf)}

    @classmethod
    def take_up(cls, directory):
        c = cls(directory)
        known = json.loads((c.dir / "cluster.json").read_text())
        c.names, c.pids = known["nodes"], known["pids"]
        return c

    def address_of(self, node):
        return self.wire.there if self.wire and node == self.names[0] else "127.0.0.1"

    def save(self):
        (self.dir / "cluster.json").write_text(json.dumps({"nodes": self.names, "pids": self.pids}))

    # ---- configuration ----

    def write(self):
        self.dir.mkdir(parents=True, exist_ok=True)
        self.dir.chmod(0o755)
        for name in ["state", *[f"spool-{n}" for n in self.names]]:
            (self.dir / name).mkdir(exist_ok=True)
        key = self.dir / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        ctld, dbd, self.sql, *ports = free_ports(3 + len(self.names))
        accounting = f"slurmdbd\nAccountingStorageHost=127.0.0.1\nAccountingStoragePort={dbd}\nAccountingStoragePass={self.dir}/munge.sock" if self.accounting else "none"
        nodes = "\n".join(f"NodeName={n} NodeHostname=localhost NodeAddr={self.address_of(n)} Port={p} CPUs={self.cpus} CoresPerSocket={self.cpus} RealMemory={self.memory} Feature={n} State=UNKNOWN"
                          for n, p in zip(self.names, ports))
        self.conf.write_text(CONF.format(name=f"t{os.getpid()}", ctld=ctld, address=self.wire.here if self.wire else "127.0.0.1", dir=self.dir, nodes=nodes, slurmd_timeout=self.slurmd_timeout, min_job_age=self.min_job_age,
                                         proctrack="proctrack/cgroup", task="task/cgroup", accounting=accounting))
        conf = self.dir / "slurmdbd.conf"
        conf.write_text(DBD_CONF.format(dir=self.dir, dbd=dbd, sql=self.sql))
        conf.chmod(0o600)  # or slurmdbd refuses it
        (self.dir / "cgroup.conf").write_text(CGROUP_CONF.format(ram="yes"))

    # ---- daemons ----

    def start(self, name):
        args = {"munged": [PROGRAMS["munged"], "--foreground", "--force", f"--socket={self.dir}/munge.sock", f"--key-file={self.dir}/munge.key",
                           f"--pid-file={self.dir}/munged.pid", f"--log-file={self.dir}/munged.log", f"--seed-file={self.dir}/munged.seed"],
                "slurmctld": [PROGRAMS["slurmctld"], "-D", "-f", str(self.conf)], "slurmdbd": [PROGRAMS["slurmdbd"], "-D"],
                "mariadbd": [PROGRAMS["mariadbd"], "--no-defaults", "--user=root", f"--datadir={self.dir}/sql", f"--socket={self.dir}/sql.sock", f"--port={self.sql}",
                             "--bind-address=127.0.0.1", f"--pid-file={self.dir}/mariadbd.pid"]}.get(name) or [PROGRAMS["slurmd"], "-D", "-N", name, "-f", str(self.conf)]
        if self.wire and name == self.names[0]:
            args = [*self.wire.inside, *args]
        with open(self.dir / f"{name}.out", "ab") as out:
            p = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.dir, start_new_session=True,
                                 env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **self.env})
        self.pids[name] = p.pid
        self.save()

    def kill(self, name, sig=signal.SIGKILL):
        """One of its daemons, and waits for its end. What a slurmd started goes on."""
        pid = self.pids.pop(name, None)
        self.save()
        if pid is None:
            return
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            return
        wait_for(f"{name} ends", lambda: not is_alive(pid))

    def kill_node(self, name):
        """slurmd, and all that runs on the node: its power goes."""
        self.kill(name)
        for root in pathlib.Path("/sys/fs/cgroup").glob(f"*/slurm_{name}"):
            for f in root.rglob("cgroup.procs"):
                for pid in read(f).split():
                    try:
                        os.kill(int(pid), signal.SIGKILL)
                    except ProcessLookupError:
                        pass

    def start_accounting(self):
        subprocess.run(["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={self.dir}/sql", "--auth-root-authentication-method=normal", "--skip-test-db"],
                       check=True, capture_output=True, timeout=120)
        self.start("mariadbd")
        wait_for("MariaDB listens", lambda: connects(self.sql), 60)
        self.start("slurmdbd")
        wait_for("slurmdbd answers", lambda: subprocess.run(["sacctmgr", "-i", "add", "cluster", f"t{os.getpid()}"], env=self.environ(), capture_output=True).returncode == 0, 60)

    def up(self):
        self.write()
        self.start("munged")
        wait_for("munged listens", (self.dir / "munge.sock").is_socket)
        if self.accounting:
            self.start_accounting()
        self.start("slurmctld")
        wait_for("slurmctld answers", self.answers)
        for n in self.names:
            self.start(n)
        wait_for("all nodes are idle", lambda: all(s == "idle" for s in self.nodes().values()), 60)
        return self

    def down(self):
        """Jobs first: a slurmd that is told to end leaves them alone."""
        if "slurmctld" in self.pids and "munged" in self.pids:
            subprocess.run(["scancel", "--signal=KILL", "--full", *self.job_ids()], env=self.environ(), capture_output=True, timeout=60) if self.job_ids() else None
            self.run("scancel", "--state=PENDING", "--user=root", check=False)
        for name in [*self.names, "slurmctld", "slurmdbd", "mariadbd", "munged"]:
            self.kill(name, signal.SIGTERM)
        self.end_steps()
        if self.wire:
            self.wire.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def end_steps(self):
        """What is left in the nodes' cgroups: slurmstepd, and what it had started."""
        roots = [p for n in self.names for p in pathlib.Path("/sys/fs/cgroup").glob(f"*/slurm_{n}")]
        for _ in range(100):
            pids = {int(pid) for root in roots for f in root.rglob("cgroup.procs") for pid in read(f).split()}
            pids |= steps_of(self.dir)
            if not pids:
                break
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            select.select([], [], [], 0.05)
        for root in roots:
            for d, _, _ in os.walk(root, topdown=False):
                try:
                    os.rmdir(d)
                except OSError:
                    pass

    # ---- questions ----

    def environ(self):
        return {**os.environ, **self.env}

    def run(self, *args, check=True, timeout=30):
        r = subprocess.run([str(a) for a in args], env=self.environ(), capture_output=True, text=True, timeout=timeout)
        assert not check or r.returncode == 0, (args, r.returncode, r.stdout, r.stderr)
        return r.stdout

    def answers(self):
        return subprocess.run(["scontrol", "ping"], env=self.environ(), capture_output=True).returncode == 0

    def nodes(self):
        """name -> state."""
        return dict(line.split() for line in self.run("sinfo", "-h", "-p", "main", "-N", "-o", "%N %t", check=False).splitlines())

    def mend(self):
        """All of it runs again, whatever a test did to it, and takes jobs."""
        for name in ("munged", "slurmctld", *self.names):
            if name not in self.pids:
                self.start(name)
        wait_for("slurmctld answers", self.answers, 60)
        for n in self.names:
            wait_for(f"{n} is back", lambda: self.is_fit(n), 60)

    def is_fit(self, node):
        state = self.nodes().get(node, "")
        if "dr" in state or "down" in state:
            self.run("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)
        return state in ("idle", "mix", "alloc", "comp")

    def jobs(self):
        """name -> (id, state), also of those that ended a while ago."""
        lines = self.run("squeue", "-h", "--states=all", "-O", "Name:|,JobID:|,State:|", check=False).splitlines()
        return {name: (job, state) for name, job, state, *_ in (line.split("|") for line in lines if "|" in line)}

    def job_ids(self):
        return [job for job, state in self.jobs().values() if state in ("RUNNING", "COMPLETING", "SUSPENDED")]


def read(path):
    try:
        return path.read_text()
    except OSError:
        return ""


def is_alive(pid):
    try:
        done, _ = os.waitpid(pid, os.WNOHANG)
        if done:
            return False
    except ChildProcessError:
        pass
    return read(pathlib.Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()[:1] not in ([], ["Z"])


def steps_of(directory):
    """slurmstepd of a cluster, by its spool directory: it has no cgroup of the job's while it sets one up."""
    found = set()
    for p in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            environ = (p / "environ").read_bytes()
            if f"SLURM_CONF={directory}/slurm.conf".encode() in environ and (p / "comm").read_text().startswith("slurmstepd"):
                found.add(int(p.name))
        except OSError:
            pass
    return found


# ---- for tests with a home on it ----


def run_of(home, f):
    return next(r for r in home.rows("runs") if r["run_id"] == f["run_id"])


def wait_run(home, test, what):
    from harness import until  # which wants packages that scripts/cluster does without
    return until(lambda: next((r for r in home.rows("runs") if test(r)), None), home.path / "state", what=lambda: f"{what}: {home.rows('runs')}")


def running(home):
    """The run that is running, when its app is (it made the file `begun`)."""
    run = wait_run(home, lambda r: r["state"] == "running" and r["node"], "a run on a node")
    wait_for("the app's process", lambda: home.marked(run["run_id"]))
    return run


def file_with_a_kill(home, point):
    """Brings the home up; whoever reaches the point is killed there. The app of a file runs to its end once, and the file is ingested."""
    from harness import until
    once, did = home.base / "once", home.base / "did"
    home.up(SIMBDP_CRASH_AT=point, SIMBDP_CRASH_ONCE=str(once))
    did.mkdir()
    did.chmod(0o777)
    home.do(f"touch,{did}/begun", f"touch,{did}/ended", name="x.csv")
    until(once.exists, home.base, what=f"{point} to be reached")
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["attempts"]) == ("ingested", 1) and {p.name for p in did.iterdir()} == {"begun", "ended"}, f
    assert len([r for r in home.rows("runs") if r["outcome"] == "ok"]) == 1, home.rows("runs")


def job_of(slurm, run, end=""):
    return next(((job, state) for name, (job, state) in slurm.jobs().items() if name.endswith(run["run_id"] + end)), None)


def pilots(slurm, home):
    """Name of a pilot's job -> (number, state), also of those that ended."""
    return {name: job for name, job in slurm.jobs().items() if f"{home.cgroup_tag()}-pilot-" in name}


def diagnosis(home):
    r = home.cli("doctor", "--json", check=False)
    return {d["subject"]: (d["status"], d["reason"]) for d in map(json.loads, r.stdout.splitlines()) if d["area"] == "slurm"}
