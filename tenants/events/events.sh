#!/bin/sh
# A tenant's stream app of five lines: JSON events in, the same with the time they were seen out, each stored once.
# shellcheck disable=SC2016
while IFS= read -r event; do
    printf '{"event":%s,"seen":{"$date":"%s"}}\n' "$event" "$(date -u +%Y-%m-%dT%H:%M:%S.000Z)"
done
