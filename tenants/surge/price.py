#!/usr/bin/env python3
"""Prices orders, one at a time: asks a service that takes 40 ms, and stores what it says."""
import threading

import simbdp


def ask(order):
    threading.Event().wait(0.04)
    return {**order, "price": round(order["amount"] * 1.07, 2)}


def work(run):
    for message in run.messages():
        run.store(ask(message.json()))
        message.done()


simbdp.main(work)
