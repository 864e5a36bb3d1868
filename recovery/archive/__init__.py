"""The durable format: everything that lies in the bucket, specified in docs/FORMAT.md.

The writer and the reader of a thing stand in the same file. Nothing here connects to a database server.
"""
