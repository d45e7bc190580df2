"""The Debian packages for tests: built once of what is committed, which takes minutes."""
import subprocess

from harness import ROOT

PACKAGES = ROOT / "build/packages"


def built():
    """Where they lie; of this commit, whatever was there before."""
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    stamp = PACKAGES / ".commit"
    if not stamp.exists() or stamp.read_text() != head:
        stamp.unlink(missing_ok=True)
        subprocess.run([ROOT / "scripts/packages"], check=True, capture_output=True)
        stamp.write_text(head)
    return PACKAGES
