"""The tables: data, and the few words that make a row short. What a row is: `tests.integration.parity.row`."""
