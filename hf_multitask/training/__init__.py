"""The Trainer for several tasks, its arguments, batches and metrics."""
