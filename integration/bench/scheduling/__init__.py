"""The scheduler of shared devices against simple batchers that know all costs, in virtual time."""
