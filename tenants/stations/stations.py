#!/usr/bin/python3
"""The same as stations_load.c, in Python. The module is found where pip put it (pip install clientlib/python)."""
import simbdp


def celsius(doc):
    if str(doc.get("station", "")).startswith("TRIAL"):
        return None
    fahrenheit = doc.pop("fahrenheit", None)
    if not isinstance(fahrenheit, (int, float)):
        raise simbdp.Reject("fahrenheit is no number")
    doc["celsius"] = round((fahrenheit - 32) * 5 / 9, 2)
    return doc


simbdp.main(lambda run: run.ingest_file(row=celsius))
