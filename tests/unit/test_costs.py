"""What the README says of costs is the price list times what the template makes."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path

import pytest

from chroma_stack.size.costs import SERIES
from tests.unit import costs
from tests.unit.synthesis import template

ROOT = Path(__file__).parents[2]
BATCH = 20
"""Secrets that one call reads:
https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_BatchGetSecretValue.html"""
README = (ROOT / "README.md").read_text()
EVERYTHING = {
    "users": "search:read,ingest:write",
    "alarmEmail": "someone@example.com",
    "dashboard": "true",
    "maintenanceWindow": "sun:04:00",
    "unattendedSecurityUpdates": "true",
    "stopSchedule": "0 20 * * 1-5",
    "startSchedule": "0 8 * * 1-5",
    "backupSchedule": "hourly",
    "backupCopyRegion": "eu-central-1",
    "maxVolumeSize": "200",
    "volumeIops": "6000",
    "volumeThroughput": "250",
}


def amounts(head: str) -> dict[str, float]:
    """The last column of a table of the README, by the first; what is paid by use is left out."""
    rows = README.partition(head + "\n")[2].partition("\n\n")[0].splitlines()[1:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {it[0]: float(re.sub(r"[$,]", "", it[-1])) for it in cells if it[-1] != "by use"}


def test_the_sum_of_the_readme_is_that_of_its_rows_to_the_cent() -> None:
    rows = amounts("| what | price | a month |")
    together = rows.pop("together")
    assert len(rows) > 4
    assert together == pytest.approx(sum(rows.values()), abs=0.01 * len(rows))


def test_the_first_number_of_the_readme_is_that_sum() -> None:
    [said] = re.findall(r"about \$(\d+) a month in us-east-1", README)
    assert int(said) == round(amounts("| what | price | a month |")["together"])


@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=["default", "everything"])
def test_whatever_the_template_makes_is_priced_or_free(settings: dict[str, str]) -> None:
    made = {it["Type"] for it in template(**settings).to_json()["Resources"].values()}
    assert made <= costs.LIST["priced"].keys() | costs.LIST["not charged"].keys()
    assert costs.LIST["priced"].keys().isdisjoint(costs.LIST["not charged"])


def test_every_price_that_a_resource_of_the_default_template_has_is_in_the_readme() -> None:
    table = README.partition("| what | price | a month |\n")[2].partition("\n\n")[0]
    made = {it["Type"] for it in template().to_json()["Resources"].values()}
    for kind in made & costs.LIST["priced"].keys():
        for name in costs.LIST["priced"][kind]:
            assert f"${costs.price(name)}".rstrip("0") in table, name


def test_the_price_list_is_dated_and_every_price_has_a_source() -> None:
    assert datetime.date.fromisoformat(costs.LIST["date"])
    assert datetime.date.fromisoformat(costs.LIST["instances"]["date"])
    assert costs.LIST["instances"]["read from"].startswith("https://github.com/aws/karpenter")
    for name, it in costs.LIST["prices"].items():
        assert it["price"] > 0, name
        assert it["unit"], name
        assert it["source"].startswith("https://aws.amazon.com/"), name
    for source in costs.LIST["not charged"].values():
        assert source.startswith("https://aws.amazon.com/")


def test_the_metrics_that_are_paid_for_are_those_that_the_server_has() -> None:
    assert costs.metric_count(template()) == SERIES
    assert costs.metric_count(template(monitoring="false")) == 0


def test_the_agent_sends_the_metrics_that_are_counted() -> None:
    agent = json.loads((costs.HOST / "cloudwatch-agent.json").read_text())
    sent = [it["measurement"] for it in agent["metrics"]["metrics_collected"].values()]
    assert costs.agent_metrics() == sum(map(len, sent))


def test_ten_users_cost_their_secrets_alone() -> None:
    [row] = [it for it in costs.options() if "`users`" in it.what]
    users = ",".join(f"user-{number}:read" for number in range(10))
    made = template(users=users).find_resources("AWS::SecretsManager::Secret")
    more = len(made) - len(template().find_resources("AWS::SecretsManager::Secret"))
    assert row.month == pytest.approx(more * costs.price("secret"))
    assert len(made) <= BATCH, "another call for each 20"


def test_an_alarm_on_an_expression_costs_as_its_metrics() -> None:
    made = template(**EVERYTHING)
    alarms = made.find_resources("AWS::CloudWatch::Alarm")
    assert costs.alarm_metrics(made) == len(alarms) + 1
    assert "Metrics" in json.dumps(alarms)


def test_what_is_free_for_an_account_is_left_out_and_never_paid_back() -> None:
    assert costs.beyond_free("metric", 10) == 0
    assert costs.beyond_free("metric", 3) == 0
    assert costs.beyond_free("metric", 12) == pytest.approx(0.6)
    assert costs.beyond_free("secret", 1) == pytest.approx(0.4)


def test_a_stop_schedule_saves_the_instance_for_the_hours_that_it_is_stopped() -> None:
    [saved] = [it.month for it in costs.options() if "stopSchedule" in it.what]
    assert saved == pytest.approx(-0.0208 * 730 * (168 - 50) / 168)
