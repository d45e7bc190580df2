"""scripts/demo --cluster, as README.md shows it: a node and a Kafka broker are killed meanwhile, and each row is there once."""
import re
import subprocess

import kafka
import pytest
import slurm
from harness import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timing, pytest.mark.anyone]


def test_the_same_figures_on_a_cluster_that_loses_a_node_and_a_broker():
    if why := slurm.missing():
        pytest.skip(f"no Slurm here: {why}")
    if why := kafka.missing():
        pytest.skip(f"no Kafka here: {why}")
    r = subprocess.run([ROOT / "scripts/demo-cluster"], capture_output=True, text=True, timeout=540)
    assert r.returncode == 0 and "each row once, as on one machine" in r.stdout, r.stdout[-6000:] + r.stderr
    figures = {name: (int(sent), int(stored)) for name, sent, stored in re.findall(r"^  (\w+): (\d+) rows sent, (\d+) stored", r.stdout, re.M)}
    assert set(figures) == {"flights", "weather", "observations"} and all(stored > 20000 for _, stored in figures.values()), figures
    assert re.search(r"^  \S+ on n\d+-\d: (lost|ok|killed)", r.stdout, re.M), "the run that was on the node which was killed"
