"""The lab: every claim of the textbooks measured on one's own run, one question a file (see `catalogue`)."""
