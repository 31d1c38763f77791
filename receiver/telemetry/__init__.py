"""Reports how the receiver does: logs and metrics."""
