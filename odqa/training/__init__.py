"""Training of readers and encoders."""
