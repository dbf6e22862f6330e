"""Preference data: what was shown, and what people chose."""
