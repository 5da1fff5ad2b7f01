"""Cohorts in time: courses (hours to months), moments (milliseconds to minutes) and sessions (trials)."""
