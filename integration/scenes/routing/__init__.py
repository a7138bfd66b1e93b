"""The scene of routing and cache (`scene`) and its tables (`tables`)."""
