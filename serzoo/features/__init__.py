"""Features: their specs, the reference implementation, and the same as Keras layers."""
