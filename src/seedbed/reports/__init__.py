"""Reports: pages that open offline."""
