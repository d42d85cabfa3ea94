"""What it costs to be observed: logs, metrics, traces and plugins."""
