"""What a plan costs: counted as MACs, measured as latency, and predicted from a table."""
