"""How fast Headrace is on this machine, on its real services, and where the time goes: `python -m benchmarks`."""
