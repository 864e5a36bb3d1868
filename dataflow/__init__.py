"""The Bytewax adapter: binlog events in, change segments and log commits out."""
