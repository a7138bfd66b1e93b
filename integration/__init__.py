"""The whole system on one machine: demo, benchmarks, soak, and the stacks that the tests start. See README.md."""
