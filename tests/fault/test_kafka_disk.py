"""The disk of a node of Kafka's is full, takes nothing for a while, or is slow: each message that was confirmed is there once. Each node has a
file system of its own, in an image; one that is frozen (fsfreeze) lets writers wait, while the node goes on saying that it lives."""
import errno
import os
import shutil
import subprocess
import threading

import pytest
from harness import until
from kafka import Cluster, queue
from kafka_load import assert_all_once

pytestmark = [pytest.mark.needs_root, pytest.mark.anyone]
IMAGE_BYTES = 400 << 20  # sparse


class Disks(Cluster):
    def __init__(self, directory, nodes=3):
        super().__init__(directory, nodes)
        self.mounts, self.frozen = {}, set()
        self.mkfs = shutil.which("mkfs.ext4", path="/usr/sbin:/sbin")
        if os.getuid() or not self.mkfs:
            pytest.skip("needs a file system of its own")
        try:
            for i in self.ports:
                self.mount(i)
        except BaseException:
            self.down()
            raise

    def mount(self, i):
        at, image = self.dir / f"node-{i}", self.dir / f"image-{i}"
        at.mkdir(parents=True)
        with open(image, "wb") as f:
            f.truncate(IMAGE_BYTES)
        subprocess.run([self.mkfs, "-q", "-F", "-m", "0", image], check=True)
        r = subprocess.run(["mount", "-o", "loop", image, at], capture_output=True, text=True)
        if r.returncode:
            pytest.skip(f"no loop device: {r.stderr.strip()}")
        self.mounts[i] = at
        (at / "lost+found").rmdir()

    def fill(self, i):
        with open(self.mounts[i] / ".fill", "wb") as f:
            at = 0
            for step in (1 << 20, 4 << 10):
                try:
                    while True:
                        os.posix_fallocate(f.fileno(), at, step)
                        at += step
                except OSError as e:
                    assert e.errno == errno.ENOSPC, e

    def freeze(self, i):
        subprocess.run(["fsfreeze", "-f", self.mounts[i]], check=True)
        self.frozen.add(i)

    def thaw(self, i):
        self.frozen.discard(i)
        subprocess.run(["fsfreeze", "-u", self.mounts[i]], check=True)

    def relieve(self):
        for i in list(self.frozen):
            self.thaw(i)
        for at in self.mounts.values():
            (at / ".fill").unlink(missing_ok=True)

    def mend(self):
        self.relieve()
        super().mend()

    def down(self):
        self.relieve()
        for i in list(self.pids):
            self.kill(i)
        for at in self.mounts.values():
            subprocess.run(["umount", at], check=True)
        super().down()


KAFKA = Disks


def test_the_leaders_disk_is_full(kafka_home, kafka, load):
    """It gives up, as Kafka's nodes do; the others go on. With room it comes back."""
    home = kafka_home()
    p = load(home)
    p.wait(200)
    leader = kafka.leader(home.topic)
    kafka.fill(leader)
    until(lambda: not kafka.running(leader), kafka.dir, timeout=60, what="the node's end")
    p.wait(p.sent + 200)
    kafka.mend()
    p.wait(p.sent + 200)
    until(lambda: len(kafka.topic(home.topic)[0][3]) == 3, timeout=60, what="its copy")
    assert_all_once(home, p.stop())


@pytest.mark.soak
def test_the_leaders_disk_stands_still(kafka_home, kafka, load):
    """For Kafka it lives, and leads: nothing can be confirmed meanwhile, and publishers are told."""
    home = kafka_home()
    p = load(home)
    p.wait(200)
    kafka.freeze(kafka.leader(home.topic))

    def told():
        assert not p.error, p.error
        return any(code == "full" and "Kafka" in why for code, why in p.refusals)
    until(told, home.base, timeout=60, what=lambda: f"the refusal: {p.refusals[-3:]}, {queue(home)}")
    kafka.relieve()
    p.wait(p.sent + 200)
    assert_all_once(home, p.stop())


@pytest.mark.soak
def test_another_nodes_disk_stands_still(kafka_home, kafka, load):
    """Its copy stays behind, and is not waited for any more; two are enough."""
    home = kafka_home()
    p = load(home)
    p.wait(200)
    leader = kafka.leader(home.topic)
    i = next(i for i in kafka.ports if i != leader)
    kafka.freeze(i)
    p.wait(p.sent + 400)
    kafka.relieve()
    p.wait(p.sent + 200)
    until(lambda: len(kafka.topic(home.topic)[0][3]) == 3, timeout=60, what="its copy")
    assert_all_once(home, p.stop())


@pytest.mark.soak
def test_the_leaders_disk_is_slow(kafka_home, kafka, load):
    """It takes something for a moment, then nothing for half a second."""
    home = kafka_home()
    p = load(home)
    p.wait(200)
    leader, enough = kafka.leader(home.topic), threading.Event()

    def slow():
        while not enough.wait(0.05):
            kafka.freeze(leader)
            enough.wait(0.5)
            kafka.thaw(leader)
    t = threading.Thread(target=slow)
    t.start()
    try:
        p.wait(p.sent + 400)
    finally:
        enough.set()
        t.join()
    p.wait(p.sent + 200)
    assert_all_once(home, p.stop())
