"""One exhibit a file, in the order of `lab.catalogue`. Each holds an `EXHIBIT`: claim, settings and measurement."""
