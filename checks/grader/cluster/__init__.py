"""A class graded by many machines: dask.distributed, an array of Slurm jobs, or shards put together by hand."""
