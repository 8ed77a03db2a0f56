"""How good a pipeline is on a data set, and where it loses."""
