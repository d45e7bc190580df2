"""docs/runbook.md: each alert has an entry, and each entry an alert; links from the rules lead there."""
import re

import pytest
import yaml
from harness import ROOT

pytestmark = pytest.mark.anyone
RUNBOOK = (ROOT / "docs/runbook.md").read_text()
ENTRIES = re.findall(r"^## (\S+)$", RUNBOOK, re.M)
RULES = yaml.safe_load((ROOT / "conf/prometheus/rules.yml").read_text())
ALERTS = {r["alert"]: r for g in RULES["groups"] for r in g["rules"] if "alert" in r}
BUILT_IN = dict(re.findall(r'^#define CONF_ALERT_(\w+)\s+"(\w+)"$', (ROOT / "lib/conf/conf.h").read_text(), re.M))


def test_every_alert_has_an_entry_and_the_other_way_round():
    assert len(ALERTS) >= 10 and len(BUILT_IN) == 1
    assert sorted(ENTRIES) == sorted([*ALERTS, *BUILT_IN.values()])


def test_rules_lead_to_their_entry():
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook_url"] == f"file:///usr/share/doc/mysimbdp/runbook.md#{name.lower()}", name


def test_an_entry_says_what_it_means_how_to_look_and_what_to_do():
    parts = re.split(r"^## ", RUNBOOK, flags=re.M)[1:]
    for part in parts:
        assert re.findall(r"^\*\*(\w+)\*\*: ", part, re.M) == ["Means", "Look", "Do"], part.split("\n", 1)[0]


def test_verbs_that_it_names_are_there():
    verbs = set(re.findall(r'^    \{"(\w+)", verb_', (ROOT / "programs/cli/main.c").read_text(), re.M))
    named = set(re.findall(r"mysimbdp\s+([a-z]+)[ `]", RUNBOOK))
    assert len(named) >= 8 and named <= verbs, named - verbs
