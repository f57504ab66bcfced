"""The stores of jobs, each one file that keeps the contract of ``foretell.jobs.store`` and knows nothing of the others."""
