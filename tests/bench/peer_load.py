"""The peer: csv and pymongo's insert_many, as people write it.

peer_load.py FILE URL typed|strings"""
import csv
import datetime
import json
import sys
import time

import pymongo


def boolean(text):
    return text == "true"


def moment(text):
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")


def main():
    path, url, mode = sys.argv[1:]
    collection = pymongo.MongoClient(url).bench.rows
    types = [int, str, int, float, moment, str, float, float, boolean, int, str, int, float, str, int, str]
    rows = 0
    start = time.monotonic()  # the interpreter's start is not held against it
    with open(path, newline="", encoding="utf-8") as f:
        reader = csv.reader(f)
        names = next(reader)
        batch = []
        for cells in reader:
            if mode == "typed":
                batch.append({n: (t(c) if c else None) for n, t, c in zip(names, types, cells)})
            else:
                batch.append(dict(zip(names, cells)))
            if len(batch) == 1000:
                collection.insert_many(batch, ordered=False)
                rows += len(batch)
                batch = []
        if batch:
            collection.insert_many(batch, ordered=False)
            rows += len(batch)
    print(json.dumps({"rows": rows, "s": time.monotonic() - start}))


main()
