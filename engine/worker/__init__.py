"""The engine as a process: newline-delimited JSON on stdin and stdout."""
