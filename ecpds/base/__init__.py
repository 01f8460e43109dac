"""What every layer above needs: settings, clock, logs, threads, bus, failpoints."""
