"""Fuzzing of the pure cores and codecs: `make fuzz MINUTES=10`.

    targets/     one target a file: bytes in, and only the errors that its room documents may come out
    corpus/      inputs that once found something, by target: `make test` replays them
    reader       bytes as choices
    alarm        what a room catches and logs as a mistake of its own counts as found, too
    growth       inputs that are repeated: whether the time grows faster than the size
    session      one target in one process, under atheris; __main__ runs them all

Nothing here but `session` needs atheris (`integration/setup.sh fuzz`).
"""
