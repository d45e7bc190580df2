"""For tests of stream apps whose instances are jobs of a cluster: the tenant acme, its stream `events`, messages {"n": NUMBER}."""
import json
import pathlib

from harness import until
from slurm import read
from wire import Peer

STREAM = "acme/events"
LOAD = 'app = "store"; exec = "builtin:load"; dataset = "data"; max_instances = 4;'


def script(home, name, text):
    path = home.path / "apps/acme" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def publish(home, *numbers):
    with Peer(home.endpoint) as p:
        p.publish(STREAM, [json.dumps({"n": n}).encode() for n in numbers])


def stored(home):
    return sorted(d["n"] for d in home.docs())


def wait_stored(home, numbers):
    until(lambda: stored(home) == sorted(numbers), home.path / "state", what=lambda: f"{len(stored(home))} of {len(list(numbers))} rows; {instances(home)}")


def instances(home, app="store", **where):
    return [r for r in home.rows("runs") if r["app"] == app and all(r[k] == v for k, v in where.items())]


def live(home, app="store"):
    """Those that have not ended, and were not told to."""
    return [r for r in instances(home, app) if r["state"] != "ended" and not r["error"]]


def wait_instances(home, n, app="store", test=lambda live: True):
    """So many that run, each on its node, and no other."""
    def there():
        v = live(home, app)
        return v if len(v) == n and all(r["state"] == "running" and r["node"] for r in v) and test(v) else None
    return until(there, home.path / "state", what=lambda: f"{n} instances: {live(home, app)} {home.rows('app', 'list')}")


def one_a_node(home, slurm):
    """An instance on each of the two nodes, in their order."""
    def fill(node, n):
        others = [x for x in slurm.names if x != node]
        for x in others:
            slurm.run("scontrol", "update", f"NodeName={x}", "State=DRAIN", "Reason=test")
        home.cli("app", "scale", "acme/store", n)
        wait_instances(home, n)
        for x in others:
            slurm.run("scontrol", "update", f"NodeName={x}", "State=RESUME")
    for n, node in enumerate(slurm.names[:2], 1):
        fill(node, n)
    return [next(r for r in live(home) if r["node"] == node) for node in slurm.names[:2]]


def environ_of(pid):
    return dict(v.split("=", 1) for v in read(pathlib.Path(f"/proc/{pid}/environ")).split("\0") if "=" in v)


def keys_of(home, run):
    """What the instance's app was given: its environment, and the options of a socket."""
    env = next(e for e in map(environ_of, home.marked(run["run_id"])) if "SIMBDP_CURVE_SECRET_KEY" in e)
    return env, {f"curve_{name}key": env[f"SIMBDP_CURVE_{name.upper()}_KEY"].encode() for name in ("server", "public", "secret")}
