"""``/metrics``: figures from facts, as Prometheus reads them."""
