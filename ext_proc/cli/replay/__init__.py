"""`tbms replay`: recorded races one by one, or recorded calls before a whole fleet."""
