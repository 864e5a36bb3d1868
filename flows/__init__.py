"""The Prefect adapter: thin flows over `recovery.operations`."""
