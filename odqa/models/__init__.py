"""The bundled models and how they are run."""
