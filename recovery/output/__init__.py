"""What a restore writes: a writer per format (mydumper's is recovery/dump.py), and around them what they share: options,
files with digests, the table digest, the record of a restore that goes on, the manifest.
"""
