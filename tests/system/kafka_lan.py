"""A Kafka cluster whose nodes are in network namespaces of their own, on one bridge. A cut is silent, as that of a cable behind a switch: what
is sent goes to a station that is not there. So it can be made between any two of them, in one direction, too, and without a packet filter."""
import os
import shutil
import subprocess

import kafka
import pytest

US = 0
NOBODY = "02:00:00:00:00:99"


class Lan(kafka.Cluster):
    def __init__(self, directory, nodes=3):
        super().__init__(directory, nodes)
        number = os.getpid() % 16384  # other tests have theirs
        self.net, self.first = f"10.214.{number // 64}", number % 64 * 4  # room for us and three nodes: their addresses are host routes
        self.bridge, self.holders, self.cuts = f"sbk{os.getpid()}", {}, set()
        if os.getuid():
            pytest.skip("this host does not let us have network namespaces")
        self.ip(US, "link", "add", self.bridge, "type", "bridge")
        self.ip(US, "addr", "add", f"{self.host(US)}/32", "dev", self.bridge)
        self.ip(US, "link", "set", self.bridge, "up")
        for i in self.ports:
            self.add(i)

    def add(self, i):
        here, there = f"{self.bridge}n{i}", self.device(i)
        self.holders[i] = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        own = os.readlink("/proc/self/ns/net")
        kafka.until(lambda: os.readlink(f"/proc/{self.holders[i].pid}/ns/net") != own, what="the namespace", every=0.02)
        self.ip(US, "link", "add", here, "type", "veth", "peer", "name", there, "netns", str(self.holders[i].pid))
        self.ip(US, "link", "set", here, "master", self.bridge, "up")
        self.ip(i, "addr", "add", f"{self.host(i)}/32", "dev", there)
        self.ip(i, "link", "set", there, "up")
        self.ip(i, "link", "set", "lo", "up")
        for j in (US, *self.ports):
            if j != i:
                self.ip(i, "route", "add", self.host(j), "dev", there, "src", self.host(i))
        self.ip(US, "route", "add", self.host(i), "dev", self.bridge, "src", self.host(US))

    def host(self, i):
        return f"{self.net}.{self.first + i}"

    def device(self, i):
        return self.bridge if i == US else f"eth{i}"

    def inside(self, i):
        return [] if i == US else ["nsenter", f"--net=/proc/{self.holders[i].pid}/ns/net"]

    def ip(self, i, *args):
        subprocess.run([*self.inside(i), "ip", *args], check=True)

    # ---- cuts ----

    def cut_way(self, i, j):
        """Nothing of i's reaches j; what j says reaches i."""
        self.ip(i, "neigh", "replace", self.host(j), "lladdr", NOBODY, "nud", "permanent", "dev", self.device(i))
        self.cuts.add((i, j))

    def cut(self, some, others):
        for i in some:
            for j in others:
                self.cut_way(i, j)
                self.cut_way(j, i)

    def join(self):
        for i, j in self.cuts:
            self.ip(i, "neigh", "del", self.host(j), "dev", self.device(i))
        self.cuts.clear()

    def mend(self):
        self.join()
        super().mend()

    def down(self):
        for i in list(self.pids):
            self.kill(i)
        subprocess.run(["ip", "link", "del", self.bridge], check=False)
        for i, p in self.holders.items():
            subprocess.run(["ip", "link", "del", f"{self.bridge}n{i}"], check=False)
            p.kill()
            p.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
