"""From questions to candidate passages."""
