"""Prometheus metrics. Names follow its conventions; the prefix is `inferplane_`."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from .client import EngineClient

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """Counters of the server, and the engine's numbers as of its last message."""

    def __init__(self, client: EngineClient, model: str) -> None:
        self.registry = CollectorRegistry()
        self.first_token = Histogram(
            "inferplane_time_to_first_token_seconds",
            "From a request's arrival to its first token",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.inter_token = Histogram(
            "inferplane_inter_token_seconds",
            "Between two tokens of one request",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.finished = Counter(
            "inferplane_requests_finished",
            "Completions, by the reason of their end",
            ["reason"],
            registry=self.registry,
        )
        self.refused = Counter(
            "inferplane_requests_refused", "Answered 429", registry=self.registry
        )
        self.registry.register(_EngineCollector(client, model))

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _EngineCollector:
    """Reads the engine's numbers when they are asked for."""

    def __init__(self, client: EngineClient, model: str) -> None:
        self.client, self.model = client, model

    def collect(self) -> Iterator[Metric]:
        stats = self.client.totals
        yield GaugeMetricFamily("inferplane_running", "Running requests", stats.running)
        yield GaugeMetricFamily("inferplane_waiting", "Waiting requests", stats.waiting)
        for name, text in (
            ("prompt_tokens", "Prompt tokens of requests"),
            ("cached_tokens", "Prompt tokens found in the prefix cache"),
            ("output_tokens", "Generated tokens"),
            ("preemptions", "Requests that lost their pages and were computed again"),
            ("steps", "Steps"),
            ("failed_steps", "Steps that an error ended"),
        ):
            yield CounterMetricFamily(f"inferplane_{name}", text, getattr(stats, name))
        rate = stats.cached_tokens / stats.prompt_tokens if stats.prompt_tokens else 0.0
        yield GaugeMetricFamily("inferplane_cache_hit_ratio", "Cached / prompt tokens", rate)
        restarts = self.client.restarts.count
        yield CounterMetricFamily("inferplane_engine_restarts", "Restarts of the engine", restarts)
        faults = CounterMetricFamily(
            "inferplane_faults",
            "Steps (memory, kernel), rows (numerics) and engines (lost, hung, crash) that failed",
            labels=["kind"],
        )
        for kind, count in self.client.faults.items():
            faults.add_metric([kind], count)
        yield faults
        pages = GaugeMetricFamily("inferplane_pages", "KV pages", labels=["group", "state"])
        for group in stats.pages:
            for state in ("free", "cached", "in_use"):
                pages.add_metric([group.group, state], getattr(group, state))
        yield pages
        ready = self.client.ready
        kernels = GaugeMetricFamily(
            "inferplane_kernel", "Sites that a kernel serves", labels=["op", "kernel", "model"]
        )
        for op, kernel, sites in ready.kernels if ready else ():
            kernels.add_metric([op, kernel, self.model], sites)
        yield kernels
