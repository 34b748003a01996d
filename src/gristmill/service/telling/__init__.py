"""Others are told: webhook, mail, OpenLineage."""
