"""The scene of the time broker (`scene`), the calls that it makes (`calls`) and its picture (`plot`)."""
