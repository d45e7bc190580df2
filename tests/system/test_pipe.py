"""simbdp-pipe: a stream for any program that reads lines."""
import os
import signal
import subprocess

import pytest
from harness import BUILD, until
from wire import Peer

pytestmark = pytest.mark.anyone

STREAM = "acme/events"


@pytest.fixture
def stream(home):
    home.streams(("events", "max_deliveries = 3; lease_ms = 600;"))
    home.broker()
    with Peer(home.endpoint) as p:
        home.peer = p
        yield home


def pipe(home, *args, **env):
    return subprocess.Popen([BUILD / "simbdp-pipe", *args], env={**home.env, "ZMQ_STREAM_ENDPOINT": home.endpoint, "SIMBDP_STREAM": "events",
                                                                 "SIMBDP_TENANT_ID": "acme", "SIMBDP_APP": "consume", "OUT": str(home.base / "out"), **env},
                            stderr=subprocess.PIPE, text=True)


def stop(p, code=0):
    p.send_signal(signal.SIGTERM)
    err = p.communicate(timeout=30)[1]
    assert p.returncode == code, err
    return err


def lines(home):
    out = home.base / "out"
    return out.read_text().splitlines() if out.exists() else []


def empty(home):
    q = home.queue()
    return q["ready"] + q["leased"] == 0


def test_batches_are_acknowledged_when_the_command_is_content(stream):
    stream.peer.publish(STREAM, [b"plain", b"two\nlines\r", b"back\\slash", b"nul\0", b"", "zwölf".encode(), b"\xff"])
    p = pipe(stream, "--", "sh", "-c", "cat >>$OUT; echo >>$OUT.batches")
    until(lambda: empty(stream), stream.base, what="an empty queue")
    stream.peer.publish(STREAM, [str(i).encode() for i in range(1000)])
    until(lambda: empty(stream) and len((stream.base / "out").read_bytes().split(b"\n")) == 1008, stream.base, what="all lines")
    stop(p)
    got = (stream.base / "out").read_bytes().split(b"\n")
    assert got[:7] == [b"plain", b"two\\nlines\\r", b"back\\\\slash", b"nul\\0", b"", "zwölf".encode(), b"\xff"]
    assert got[7:-1] == [str(i).encode() for i in range(1000)]
    assert 11 <= len((stream.base / "out.batches").read_text()) <= 20, "batches of 100"


def test_only_what_fails_alone_is_charged(stream):
    stream.peer.publish(STREAM, [b"poison" if i == 5 else f"m{i}".encode() for i in range(20)])
    p = pipe(stream, "--", "sh", "-c", 'all=$(cat); case "$all" in *poison*) exit 3;; esac; echo "$all" >>$OUT')
    until(lambda: empty(stream) and stream.queue()["dead"] == 1, stream.base, what="the dead letter")
    stop(p)
    assert sorted(lines(stream)) == sorted(f"m{i}" for i in range(20) if i != 5)
    letter, = stream.rows("dead", "list", STREAM)
    assert (letter["message"], letter["deliveries"], letter["reason"]) == ("poison", 3, "the command exits with 3")


def test_75_gives_everything_back_and_ends(stream):
    stream.peer.publish(STREAM, [b"a", b"b"])
    p = pipe(stream, "--", "sh", "-c", "exit 75")
    assert p.wait(timeout=30) == 75
    p.stderr.close()
    until(lambda: stream.queue()["ready"] == 2, stream.base, what="the messages")
    p = pipe(stream, "--", "sh", "-c", "cat >>$OUT")
    until(lambda: empty(stream), stream.base, what="an empty queue")
    stop(p)
    assert sorted(lines(stream)) == ["a", "b"]


def test_a_command_may_take_longer_than_a_lease(stream):
    stream.peer.publish(STREAM, [b"a", b"b"])
    p = pipe(stream, "--", "sh", "-c", "cat >>$OUT; sleep 2")
    until(lambda: empty(stream), stream.base, what="an empty queue")
    stop(p)
    assert lines(stream) == ["a", "b"] and stream.queue()["redelivered"] == 0


def test_echo_acknowledges_line_by_line(stream):
    stream.peer.publish(STREAM, [b"a", b"with\nnewline", b"skip", b"z"])
    p = pipe(stream, "--echo", "--", "sh", "-c",
             'while IFS= read -r line; do if [ "$line" = skip ]; then echo no message; else printf "%s\\n" "$line"; fi; done')
    until(lambda: stream.queue()["acked"] == 3, stream.base, what="three acks")
    assert stream.queue()["leased"] == 1
    for k in range(5):
        stream.peer.publish(STREAM, [str(i).encode() for i in range(k * 1000, k * 1000 + 1000)])
    until(lambda: stream.queue()["acked"] == 5003, stream.base, what="all acks")
    assert "no message" in stop(p)
    until(lambda: stream.queue()["ready"] == 1, stream.base, what="what was not printed")


def test_a_restarted_broker_and_a_killed_pipe(stream):
    stream.peer.publish(STREAM, [str(i).encode() for i in range(200)])
    p = pipe(stream, "--batch", "5", "--", "sh", "-c", "cat >>$OUT")
    until(lambda: len(lines(stream)) > 20, stream.base, every=0.02)
    stream.stop_broker(kill=True)
    stream.broker()
    n = len(lines(stream))
    until(lambda: len(lines(stream)) > n, stream.base, every=0.02, what="the pipe to go on")
    p.kill()
    p.communicate()
    p = pipe(stream, "--", "sh", "-c", "cat >>$OUT")
    until(lambda: empty(stream), stream.base, what="an empty queue")
    stop(p)
    assert set(lines(stream)) == {str(i) for i in range(200)}


def test_what_cannot_work_is_said(stream):
    for args, env, code, text in ((["--"], {}, 2, "usage"), (["--batch", "x", "--", "cat"], {}, 2, "usage"),
                                  (["--", "cat"], {"SIMBDP_APP": "nobody"}, 1, "no subscription \"nobody\""),
                                  (["--", "cat"], {"ZMQ_STREAM_ENDPOINT": "nonsense"}, 78, "no endpoint")):
        p = pipe(stream, *args, **env)
        err = p.communicate(timeout=30)[1]
        assert p.returncode == code and text in err, (args, env, p.returncode, err)
    stream.peer.publish(STREAM, [b"a"])
    p = pipe(stream, "--", "/does/not/exist")
    assert "cannot start /does/not/exist: No such file" in p.communicate(timeout=30)[1] and p.returncode == 1
    until(lambda: stream.queue()["ready"] == 1, stream.base)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ZMQ_", "SIMBDP_STREAM"))}
    r = subprocess.run([BUILD / "simbdp-pipe", "--", "cat"], env=env, capture_output=True, text=True, timeout=30)
    assert r.returncode == 78 and "ZMQ_STREAM_ENDPOINT is not set" in r.stderr
