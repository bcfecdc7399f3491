"""One request and its answer, in the form of HTTP/1.1, into which other versions are translated."""
