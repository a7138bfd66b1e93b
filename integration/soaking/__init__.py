"""`make soak`: calls for minutes, while one part of the fleet after the other dies, hangs or leaves."""
