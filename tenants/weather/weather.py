#!/usr/bin/env python3
"""A tenant's app: hourly weather as CSV on stdin, one JSON document a line on stdout, in metric units, NA as null."""
import csv
import json
import sys


def number(cell):
    return None if cell in ("NA", "") else float(cell)


def convert(cell, factor, offset=0.0):
    value = number(cell)
    return None if value is None else round((value + offset) * factor, 3)


def main():
    for row in csv.DictReader(sys.stdin):
        print(json.dumps({
            "station": row["origin"],
            "observed_at": {"$date": row["time_hour"]},
            "temperature_c": convert(row["temp"], 5 / 9, -32),
            "dew_point_c": convert(row["dewp"], 5 / 9, -32),
            "humidity_pct": number(row["humid"]),
            "wind": {"direction_deg": number(row["wind_dir"]), "speed_m_s": convert(row["wind_speed"], 0.44704),
                     "gust_m_s": convert(row["wind_gust"], 0.44704)},
            "precipitation_mm": convert(row["precip"], 25.4),
            "pressure_hpa": number(row["pressure"]),
            "visibility_km": convert(row["visib"], 1.609344),
        }))


try:
    main()
except (KeyError, ValueError) as e:
    print(f"weather: not the data this app knows: {e!r}", file=sys.stderr)
    sys.exit(65)
