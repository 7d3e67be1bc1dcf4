"""Training, scoring and cross-validation."""
