#!/usr/bin/python3
"""A sample stream app in Python, on libsimbdp: of all events it stores the alarms, with their severity as a number."""
import simbdp

SEVERITY = {"notice": 1, "warning": 2, "critical": 3}


def work(run):
    for message in run.messages():  # until the platform asks the instance to go
        try:
            event = message.json()
            if "severity" in event:
                run.store({**event, "severity": SEVERITY[event["severity"]]})
        except (ValueError, KeyError, TypeError) as e:
            message.refuse(f"no event of ours: {e!r}")  # a dead letter, with this reason
        else:
            message.done()


simbdp.main(work)
