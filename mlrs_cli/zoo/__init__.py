"""Learned schedules as versioned entries: on disk, in the package, on the Hub."""
