"""The soak: `python -m integration.soak`, a fleet under `calls` and `mishaps`, watched for `growth`."""
