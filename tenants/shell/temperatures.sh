#!/bin/sh
# A tenant's app of a few lines: "station,fahrenheit" in, JSON lines with celsius out.
awk -F, 'NR > 1 && NF == 2 { printf "{\"station\":\"%s\",\"celsius\":%.2f}\n", $1, ($2 - 32) * 5 / 9 }'
