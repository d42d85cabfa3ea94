"""The dashboard and the alerts in deploy/ ask for metrics that there are, by labels that they have."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from server.metrics import Metrics

DEPLOY = Path(__file__).parent.parent / "deploy"

BY_PROMETHEUS = {"job", "instance"}
"""The labels that Prometheus itself adds to every series."""

SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


def told() -> dict[str, set[str]]:
    """The labels of each series that the gateway tells, by its name."""
    series = {"up": set[str]()}
    for metric in Metrics().registry._collector_to_names:
        labels = set(metric._labelnames)  # pyright: ignore[reportAttributeAccessIssue]
        kind = metric._type  # pyright: ignore[reportAttributeAccessIssue]
        for suffix in SUFFIXES[kind]:
            extra = {"le"} if suffix == "_bucket" else set[str]()
            series[f"{metric._name}{suffix}"] = labels | extra  # pyright: ignore[reportAttributeAccessIssue]
    return series


def dashboard() -> dict[str, Any]:
    return json.loads((DEPLOY / "grafana" / "ollagraph.json").read_text())


def rules() -> list[dict[str, Any]]:
    loaded = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    """All expressions, with the variables of Grafana filled in."""
    shown = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    filled = [text.replace("$__rate_interval", "5m").replace("$job", ".*") for text in shown]
    return filled + [rule["expr"] for rule in rules()]


def selectors(node: Any) -> Iterator[tuple[str, set[str]]]:
    """The series that an expression asks for, and the labels by which it chooses or adds up."""
    match node:
        case promql_parser.VectorSelector():
            yield node.name or "", {matcher.name for matcher in node.matchers.matchers}
        case promql_parser.MatrixSelector():
            yield from selectors(node.vector_selector)
        case promql_parser.Call():
            for argument in node.args:
                yield from selectors(argument)
        case promql_parser.AggregateExpr():
            by = set(node.modifier.labels) if node.modifier else set[str]()
            yield from ((name, labels | by) for name, labels in selectors(node.expr))
        case promql_parser.BinaryExpr():
            yield from selectors(node.lhs)
            yield from selectors(node.rhs)
        case promql_parser.ParenExpr():
            yield from selectors(node.expr)
        case _:
            pass


def faults(expression: str) -> list[str]:
    """What an expression asks for that there is not."""
    series, found = told(), list(selectors(promql_parser.parse(expression)))
    missing = [name for name, _ in found if name not in series]
    wrong = [
        f"{name} has no {', '.join(sorted(labels - series[name] - BY_PROMETHEUS))}"
        for name, labels in found
        if name in series and labels - series[name] - BY_PROMETHEUS
    ]
    return ["asks for nothing"] * (not found) + missing + wrong


@pytest.mark.parametrize("expression", expressions())
def test_every_expression_asks_for_what_there_is(expression: str):
    assert faults(expression) == []


def test_every_metric_is_on_the_dashboard():
    shown = " ".join(expressions())
    missing = [metric._name for metric in Metrics().registry._collector_to_names if metric._name not in shown]  # pyright: ignore[reportAttributeAccessIssue]
    assert missing == []


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("sum(ollagraph_nothing)", "ollagraph_nothing"),
        ("ollagraph_slots{model='x'}", "ollagraph_slots has no model"),
        ("sum by (model) (rate(ollagraph_generations_total[5m]))", "ollagraph_generations_total has no model"),
        ("1", "asks for nothing"),
    ],
)
def test_the_check_finds_a_fault(expression: str, fault: str):
    assert faults(expression) == [fault]


def test_the_panels_of_the_dashboard_overlap_nowhere_and_are_told_apart():
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for grid in (panel["gridPos"] for panel in panels)
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_every_alert_says_what_is_wrong_and_how_bad_it_is(rule: dict[str, Any]):
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"].endswith(".")
    labels = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    by = {label for _, found in selectors(promql_parser.parse(rule["expr"])) for label in found}
    assert labels <= by | ({"instance"} if "by" not in rule["expr"] else set())


if shutil.which("promtool"):  # it is in no package that `make` could install

    @pytest.mark.parametrize(
        "command",
        [
            ("check", "config", DEPLOY / "prometheus" / "prometheus.yml"),
            ("test", "rules", DEPLOY / "prometheus" / "alerts.test.yml"),
        ],
        ids=lambda command: command[1],
    )
    def test_prometheus_takes_what_is_for_it(command: tuple[str | Path, ...]):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_prometheus_takes_the_metrics():
        metrics = Metrics()
        metrics.tokens.labels("m", "input").observe(1)
        metrics.requests.labels("Ask", "query", "").inc()
        metrics.gauges["ollagraph_slots"].labels("ollama").set(1)
        done = subprocess.run(["promtool", "check", "metrics"], input=metrics.text(), capture_output=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_the_tests_of_the_alerts_have_each_of_them():
    (_, wrong) = yaml.safe_load((DEPLOY / "prometheus" / "alerts.test.yml").read_text())["tests"]
    (told,) = wrong["promql_expr_test"]
    assert [it["labels"] for it in told["exp_samples"]] == [f'{{alertname="{rule["alert"]}"}}' for rule in rules()]


def test_the_docs_say_what_to_do_about_each_alert():
    table = (DEPLOY.parent / "docs" / "operations.md").read_text().partition("## When an alert fires")[2]
    assert [rule["alert"] for rule in rules() if f"`{rule['alert']}`" not in table.partition("\n## ")[0]] == []


def test_every_metric_has_a_help_and_a_name_of_the_rules():
    for family in Metrics().registry.collect():
        assert re.fullmatch(r"(ollagraph|gen_ai)(_[a-z]+)+", family.name)
        assert family.documentation.endswith(".")
        assert family.type != "histogram" or family.name.endswith(("_seconds", "_usage", "_per_second"))
