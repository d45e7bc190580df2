#!/usr/bin/python3
"""A sample stream app in Python: stores only the events that are alarms, with a count of its own of how often each kind came."""
import collections

import simbdp

seen = collections.Counter()


def work(run):
    for message in run.messages():  # until the platform asks the instance to go
        try:
            event = message.json()
        except ValueError as e:
            message.refuse(f"no JSON: {e}")
            continue
        if event.get("level") == "alarm":
            seen[event.get("kind")] += 1
            run.store({**event, "nth": seen[event.get("kind")]})
        message.done()


simbdp.main(work)
