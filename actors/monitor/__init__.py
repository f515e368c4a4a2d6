"""The monitor: counts events of all processes and serves /metrics, /healthz and /status."""
