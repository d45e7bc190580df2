#!/usr/bin/python3
"""Messages a second into a stream in Kafka and out of it, and beside it, in the same minute, into the same topic by Kafka's own C library.
Kafka's three nodes and all of ours are on this machine."""
import argparse
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "system"))
sys.dont_write_bytecode = True
import harness  # noqa: E402
import kafka  # noqa: E402

BENCH = ROOT / "build/tests/bench"


def number(*argv):
    return float(subprocess.run([BENCH / argv[0], *map(str, argv[1:])], stdout=subprocess.PIPE, text=True, check=True, timeout=300).stdout.split()[0])


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--messages", type=int, default=200000)
    p.add_argument("--bytes", type=int, default=200)
    p.add_argument("--partitions", type=int, default=1)
    p.add_argument("--rounds", type=int, default=3)
    a = p.parse_args()
    why = kafka.missing()
    if why:
        sys.exit(f"bench_kafka: {why}")
    directory = harness.temp_dir()
    cluster = kafka.Cluster(directory / "kafka")
    home = None
    try:
        cluster.up()
        home = harness.Home(platform=f'kafka = {{ brokers = "{cluster.brokers}"; prefix = "{cluster.next_prefix()}"; }};')
        much = 'max_messages_per_s = -1; max_bytes_per_s = -1L; max_stored_bytes = 4000000000L;'
        home.streams(("events", f'store = "kafka"; partitions = {a.partitions}; {much}'), ("peer", f'store = "kafka"; {much}'), ("local", much))
        home.broker()
        kafka.wait_open(home)
        for r in range(a.rounds):
            peer = number("peer_kafka", cluster.brokers, f"{cluster.prefix}.acme.peer", a.messages, a.bytes)
            into = number("stream_client", "publish", home.endpoint, "acme/events", a.messages, a.bytes)
            out = number("stream_client", "consume", home.endpoint, "acme/events", "consume", a.messages)
            local = number("stream_client", "publish", home.endpoint, "acme/local", a.messages, a.bytes)
            print(f"round {r + 1}: published {into:,.0f}/s, consumed {out:,.0f}/s; librdkafka alone {peer:,.0f}/s; our own log {local:,.0f}/s", flush=True)
    finally:
        if home:
            home.cleanup()
        cluster.down()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
