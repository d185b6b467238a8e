"""Training runs that are killed at random moments, resumed, and compared with uninterrupted ones."""
