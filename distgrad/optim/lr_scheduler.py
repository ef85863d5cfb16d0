"""Learning-rate schedules under torch's names."""
