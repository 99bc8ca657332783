"""The same schedules inside other people's training loops."""
