#!/bin/sh
# Takes its time, so that a second file finds the first one unfinished.
cat >/dev/null
sleep 2
