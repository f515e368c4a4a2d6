"""Alert rules may only speak of metrics that exist; a rule on a misspelt name would stay silent for ever."""

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from engine.platform.metrics import Metrics
from webhook_server.metrics import Metrics as WebhookMetrics

RULES = Path(__file__).parents[2] / "ops" / "prometheus" / "alerts.yml"


def exposed() -> set[str]:
    """Every series name that the monitor and the webhook server can show."""
    registry = CollectorRegistry()
    Metrics(registry)
    names: set[str] = set()
    for source in (registry, WebhookMetrics().registry):
        for metric in source.collect():
            suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(metric.type, ("",))
            names.update(metric.name + suffix for suffix in suffixes)
    return names


def test_every_rule_speaks_of_metrics_that_exist() -> None:
    expressions = re.findall(r"^\s+expr: (.+)$", RULES.read_text(), re.MULTILINE)
    named = {name for expression in expressions for name in re.findall(r"\bsparky_[a-z_]+", expression)}
    assert len(expressions) > 5
    assert named <= exposed()
