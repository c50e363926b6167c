"""The search for a plan: evolution proposes, an objective judges, a journal remembers."""
