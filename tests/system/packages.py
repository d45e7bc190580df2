"""The Debian packages for tests: built once of what is committed, which takes minutes."""
import fcntl
import shutil
import subprocess

from harness import ROOT

PACKAGES = ROOT / "build/packages"


def built():
    """Where they lie; they are built again when what they are made of was committed since."""
    trees = subprocess.run(["git", "-C", ROOT, "ls-tree", "HEAD"], capture_output=True, text=True, check=True).stdout.splitlines()
    made_of, stamp = "\n".join(line for line in trees if not line.endswith("\ttests")), PACKAGES / ".made-of"
    with open(ROOT / "build/.packages.lock", "w") as lock:  # tests of several files may want them at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != made_of:
            shutil.rmtree(PACKAGES, ignore_errors=True)
            subprocess.run([ROOT / "scripts/packages"], check=True, capture_output=True)
            stamp.write_text(made_of)
    return PACKAGES
