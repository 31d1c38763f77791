"""Generated from `proto/*.proto` by `python -m receiver.protocol.generate`."""
