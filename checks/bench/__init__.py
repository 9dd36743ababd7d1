"""The benchmark: workloads, timers, baselines, recorded results, tables and figures."""
