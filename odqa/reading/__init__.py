"""From candidate passages to answer spans."""
