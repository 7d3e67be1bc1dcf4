"""What models hear: the spec, the reference that defines it, and the front-end layer."""
